// Float matrix products with register tiles; included after the instruction set's vector.hpp.
//   nt: rows of both operands are contiguous along k: lanes run over k and are summed at the end.
//   nn, tn: lanes run over the columns of B and C, A's elements are broadcast.
// Every element of C is accumulated in an order that depends on k alone, not on tile or matrix
// size.
#pragma once

#include "dot-inl.hpp"

namespace nemo {
namespace {

// Operands are often columns of wide rows (B and C of all groups side by side). Rows that lie a
// multiple of 4 KiB apart share the same few lines of L1, so what is read again and again is first
// copied together, into at most this much stack.
constexpr std::int64_t kPackFloats = 8192;
constexpr std::int64_t kWideStride = 512;  // floats; rows closer than that spread well enough

void gemm_nt(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  alignas(64) float packed[kPackFloats];
  const std::int64_t fitting = k > 0 ? kPackFloats / k : 0;
  const bool pack = lda >= kWideStride && lda > k && n >= 16 && fitting >= kDotRows;
  const std::int64_t step = pack ? fitting / kDotRows * kDotRows : m;
  for (std::int64_t i = 0; i < m; i += step) {
    const std::int64_t height = m - i < step ? m - i : step;
    const float* rows_a = a + i * lda;
    if (pack) {
      for (std::int64_t r = 0; r < height; ++r) {
        for_lanes(k, [&](auto at)
                         NEMO_SIMD_LAMBDA { at.store(at.load(rows_a + r * lda), packed + r * k); });
      }
      rows_a = packed;
    }
    for (std::int64_t j = 0; j < n; j += 4) {
      const std::int64_t width = n - j < 4 ? n - j : 4;
      const auto row = [&](std::int64_t r) { return b + (j + (r < width ? r : width - 1)) * ldb; };
      const float* rows_b[4] = {row(0), row(1), row(2), row(3)};
      dot_columns<float>(height, rows_a, pack ? k : lda, rows_b, k, c + i * ldc + j, ldc, width,
                         accumulate);
    }
  }
}

/// c[i, to] (+)= sum_p a[i*rs + p*cs] * b[p, from] for i < kRows over kVectors vectors.
template <int kRows, int kVectors, class From, class To>
NEMO_SIMD void outer_tile(From from, To to, std::int64_t k, const float* a, std::int64_t rs,
                          std::int64_t cs, const float* b, std::int64_t ldb, float* c,
                          std::int64_t ldc, bool accumulate) {
  F acc[kRows][kVectors];
  for (auto& row : acc) {
    for (F& v : row) v = F(0.0f);
  }
  for (std::int64_t p = 0; p < k; ++p) {
    F vb[kVectors];
    for (int j = 0; j < kVectors; ++j) vb[j] = from.load(b + p * ldb + j * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const F va(a[i * rs + p * cs]);
      for (int j = 0; j < kVectors; ++j) acc[i][j] = fma(va, vb[j], acc[i][j]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      float* row = c + i * ldc + j * kLanes;
      to.store(accumulate ? to.load(row) + acc[i][j] : acc[i][j], row);
    }
  }
}

/// The last 0 <= rows < kRows rows.
template <int kVectors, int kRows, class From, class To>
NEMO_SIMD void outer_rest(std::int64_t rows, From from, To to, std::int64_t k, const float* a,
                          std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                          float* c, std::int64_t ldc, bool accumulate) {
  if constexpr (kRows > 1) {
    if (rows == kRows - 1) {
      outer_tile<kRows - 1, kVectors>(from, to, k, a, rs, cs, b, ldb, c, ldc, accumulate);
    } else {
      outer_rest<kVectors, kRows - 1>(rows, from, to, k, a, rs, cs, b, ldb, c, ldc, accumulate);
    }
  }
}

/// kVectors vectors of columns: `from` in b, `to` in c.
template <int kVectors, class From, class To>
NEMO_SIMD void outer_columns(From from, To to, std::int64_t m, std::int64_t k, const float* a,
                             std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                             float* c, std::int64_t ldc, bool accumulate) {
  std::int64_t i = 0;
  for (; i + kTileRows <= m; i += kTileRows) {
    outer_tile<kTileRows, kVectors>(from, to, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc,
                                    accumulate);
  }
  outer_rest<kVectors, kTileRows>(m - i, from, to, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc,
                                  accumulate);
}

/// outer_columns of the same columns of b and c, copied together first where that pays.
template <int kVectors, class Lanes>
NEMO_SIMD void outer_columns_of(Lanes at, std::int64_t m, std::int64_t k, const float* a,
                                std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                                float* c, std::int64_t ldc, bool accumulate) {
  constexpr std::int64_t kWidth = kVectors * kLanes;
  if (ldb < kWideStride || m < 16 || k * kWidth > kPackFloats) {
    outer_columns<kVectors>(at, at, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
    return;
  }
  alignas(64) float packed[kPackFloats];
  for (std::int64_t p = 0; p < k; ++p) {
    for (int j = 0; j < kVectors; ++j) {
      store(at.load(b + p * ldb + j * kLanes), packed + p * kWidth + j * kLanes);
    }
  }
  outer_columns<kVectors>(FullLanes{0}, at, m, k, a, rs, cs, packed, kWidth, c, ldc, accumulate);
}

/// C[m,n] (+)= A * B[k,n] where A[i,p] = a[i*rs + p*cs].
void outer_product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t rs,
                   std::int64_t cs, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                   bool accumulate) noexcept {
  std::int64_t j = 0;
  for (; j + kTileVectors * kLanes <= n; j += kTileVectors * kLanes) {
    outer_columns_of<kTileVectors>(FullLanes{j}, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
  }
  for (; j + kLanes <= n; j += kLanes) {
    outer_columns_of<1>(FullLanes{j}, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
  }
  if (j < n) {
    outer_columns_of<1>(FirstLanes{j, n - j}, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
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
