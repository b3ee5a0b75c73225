// Reading memory into cache before its use; included after the instruction set's vector.hpp.
#pragma once

#include "lanes-inl.hpp"

namespace nemo {
namespace {

/// Asks for the lines of `bytes` bytes to be read into L2.
NEMO_SIMD void fetch_lines(const std::byte* from, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

/// Memory that will be needed next, read into L2 a few lines in every step of a product. Asked for
/// all at once it would hold up the product's own reads; and into L1 it does not come in time on
/// Zen 4, which drops such requests while many are under way.
struct Ahead {
  const std::byte* at = nullptr;
  std::int64_t bytes = 0;
  std::int64_t lines_per_step = 0;

  Ahead() = default;
  /// To be read in `steps` steps.
  NEMO_SIMD Ahead(const std::byte* from, std::int64_t count, std::int64_t steps)
      : at(from), bytes(count), lines_per_step((count / 64 + steps - 1) / steps) {}
  /// Past what `steps` steps have fetched.
  NEMO_SIMD void advance(std::int64_t steps) {
    at += lines_per_step * steps * 64;
    bytes -= lines_per_step * steps * 64;
    if (bytes <= 0) *this = {};
  }
  /// One step, of a copy of `at`.
  NEMO_SIMD void fetch(const std::byte*& line) const {
    fetch_lines(line, 64 * lines_per_step);
    line += 64 * lines_per_step;
  }
};

// Hardware does not foresee well what is read sixteen rows at a time: fetched this many rows ahead.
// Behind the last row nothing happens.
constexpr std::int64_t kRowsAhead = 64;

/// `count` rows behind those, to be read during a product of `steps` steps, if any.
NEMO_SIMD Ahead rows_ahead(const Half* row, std::int64_t ld, std::int64_t count,
                           std::int64_t steps) {
  if (steps == 0) return {};
  return {reinterpret_cast<const std::byte*>(row + kRowsAhead * ld), 2 * count * ld, steps};
}

}  // namespace
}  // namespace nemo
