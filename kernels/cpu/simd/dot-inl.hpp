// Tiles of dot products between contiguous rows: lanes run along the rows and are summed at the
// end, in an order that depends on the length alone. Included after the instruction set's
// vector.hpp.
#pragma once

#include "lanes-inl.hpp"

namespace nemo {
namespace {

/// out[i] = a_i . {b_0, b_1, b_2, b_3} over k elements; B is float, Half or BFloat16.
template <int kRows, class B>
NEMO_SIMD void dot_tile(const float* a, std::int64_t lda, const B* const (&b)[4], std::int64_t k,
                        Four (&out)[kRows]) {
  F acc[kRows][4];
  for (auto& row : acc) {
    for (F& v : row) v = F(0.0f);
  }
  for_lanes(k, [&](auto at) NEMO_SIMD_LAMBDA {
    F va[kRows];
    for (int i = 0; i < kRows; ++i) va[i] = at.load(a + i * lda);
    for (int j = 0; j < 4; ++j) {
      const F vb = at.load(b[j]);
      for (int i = 0; i < kRows; ++i) acc[i][j] = fma(va[i], vb, acc[i][j]);
    }
  });
  for (int i = 0; i < kRows; ++i) out[i] = sums(acc[i][0], acc[i][1], acc[i][2], acc[i][3]);
}

/// Writes the first n <= 4 values.
NEMO_SIMD void put4(Four v, float* c, std::int64_t n, bool accumulate) {
  if (n == 4) {
    store_four(accumulate ? load_four(c) + v : v, c);
    return;
  }
  float values[4];
  store_four(v, values);
  for (std::int64_t j = 0; j < n; ++j) c[j] = accumulate ? c[j] + values[j] : values[j];
}

template <int kRows, class B>
NEMO_SIMD void dot_rows(const float* a, std::int64_t lda, const B* const (&b)[4], std::int64_t k,
                        float* c, std::int64_t ldc, std::int64_t n, bool accumulate) {
  Four out[kRows];
  dot_tile<kRows>(a, lda, b, k, out);
  for (int i = 0; i < kRows; ++i) put4(out[i], c + i * ldc, n, accumulate);
}

/// c[i, 0..n) (+)= a_i . b_j for i < m, j < n <= 4.
template <class B>
void dot_columns(std::int64_t m, const float* a, std::int64_t lda, const B* const (&b)[4],
                 std::int64_t k, float* c, std::int64_t ldc, std::int64_t n,
                 bool accumulate) noexcept {
  std::int64_t i = 0;
  for (; i + kDotRows <= m; i += kDotRows) {
    dot_rows<kDotRows>(a + i * lda, lda, b, k, c + i * ldc, ldc, n, accumulate);
  }
  a += i * lda;
  c += i * ldc;
  switch (m - i) {
    case 3:
      dot_rows<3>(a, lda, b, k, c, ldc, n, accumulate);
      break;
    case 2:
      dot_rows<2>(a, lda, b, k, c, ldc, n, accumulate);
      break;
    case 1:
      dot_rows<1>(a, lda, b, k, c, ldc, n, accumulate);
      break;
    default:
      break;
  }
}

}  // namespace
}  // namespace nemo
