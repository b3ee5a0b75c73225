// Float matrix products with register tiles; included after the instruction set's vector.hpp.
//   nt: rows of both operands are contiguous along k: lanes run over k and are summed at the end.
//   nn, tn: lanes run over the columns of B and C, A's elements are broadcast.
// Every element of C is accumulated in an order that depends on k alone, not on tile or matrix
// size.
#pragma once

#include "dot-inl.hpp"

namespace nemo {
namespace {

void gemm_nt(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  for (std::int64_t j = 0; j < n; j += 4) {
    const std::int64_t width = n - j < 4 ? n - j : 4;
    const auto row = [&](std::int64_t r) { return b + (j + (r < width ? r : width - 1)) * ldb; };
    const float* rows[4] = {row(0), row(1), row(2), row(3)};
    dot_columns<float>(m, a, lda, rows, k, c + j, ldc, width, accumulate);
  }
}

/// c[i, lanes] (+)= sum_p a[i*rs + p*cs] * b[p, lanes] for i < kRows over kVectors vectors.
template <int kRows, int kVectors, class Lanes>
NEMO_SIMD void outer_tile(Lanes at, std::int64_t k, const float* a, std::int64_t rs,
                          std::int64_t cs, const float* b, std::int64_t ldb, float* c,
                          std::int64_t ldc, bool accumulate) {
  F acc[kRows][kVectors];
  for (auto& row : acc) {
    for (F& v : row) v = F(0.0f);
  }
  for (std::int64_t p = 0; p < k; ++p) {
    F vb[kVectors];
    for (int j = 0; j < kVectors; ++j) vb[j] = at.load(b + p * ldb + j * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const F va(a[i * rs + p * cs]);
      for (int j = 0; j < kVectors; ++j) acc[i][j] = fma(va, vb[j], acc[i][j]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      float* to = c + i * ldc + j * kLanes;
      at.store(accumulate ? at.load(to) + acc[i][j] : acc[i][j], to);
    }
  }
}

template <int kVectors, class Lanes>
NEMO_SIMD void outer_columns(Lanes at, std::int64_t m, std::int64_t k, const float* a,
                             std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                             float* c, std::int64_t ldc, bool accumulate) {
  std::int64_t i = 0;
  for (; i + kTileRows <= m; i += kTileRows) {
    outer_tile<kTileRows, kVectors>(at, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc,
                                    accumulate);
  }
  static_assert(kTileRows == 4);
  a += i * rs;
  c += i * ldc;
  switch (m - i) {
    case 3:
      outer_tile<3, kVectors>(at, k, a, rs, cs, b, ldb, c, ldc, accumulate);
      break;
    case 2:
      outer_tile<2, kVectors>(at, k, a, rs, cs, b, ldb, c, ldc, accumulate);
      break;
    case 1:
      outer_tile<1, kVectors>(at, k, a, rs, cs, b, ldb, c, ldc, accumulate);
      break;
    default:
      break;
  }
}

/// C[m,n] (+)= A * B[k,n] where A[i,p] = a[i*rs + p*cs].
void outer_product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t rs,
                   std::int64_t cs, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                   bool accumulate) noexcept {
  std::int64_t j = 0;
  for (; j + kTileVectors * kLanes <= n; j += kTileVectors * kLanes) {
    outer_columns<kTileVectors>(FullLanes{j}, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
  }
  for (; j + kLanes <= n; j += kLanes) {
    outer_columns<1>(FullLanes{j}, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
  }
  if (j < n) {
    outer_columns<1>(FirstLanes{j, n - j}, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
  }
}

void gemm_nn(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  outer_product(m, n, k, a, lda, 1, b, ldb, c, ldc, accumulate);
}

void gemm_tn(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  outer_product(m, n, k, a, 1, lda, b, ldb, c, ldc, accumulate);
}

}  // namespace
}  // namespace nemo
