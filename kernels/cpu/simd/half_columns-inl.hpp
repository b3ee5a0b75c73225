// Columns of rows of halves from pairs of them as words; included by the vector.hpp of instruction
// sets that have nothing better.
#pragma once

namespace nemo {
namespace {

/// columns[i] lane r = element i of the row at p + r * stride.
constexpr int kHalfColumns = 8;
NEMO_SIMD void load_columns(const Half* p, std::int64_t stride, F (&columns)[kHalfColumns]) {
  I rows[4], pairs[4];  // word r of pairs[j] = elements 2j, 2j+1 of row r
  load_rows(reinterpret_cast<const std::byte*>(p), 2 * stride, rows);
  transpose(rows, pairs);
  for (int j = 0; j < 4; ++j) {
    columns[2 * j] = low_halves(pairs[j]);
    columns[2 * j + 1] = high_halves(pairs[j]);
  }
}

}  // namespace
}  // namespace nemo
