// Float matrix products with register tiles; included after the instruction set's vector.hpp.
// nt transposes B for them, some columns at a time.
#pragma once

#include "gemm_tiles-inl.hpp"

namespace nemo {
namespace {

// Operands are often columns of wide rows (B and C of all groups side by side). Rows that lie a
// multiple of 4 KiB apart share the same few lines of L1, so what is read again and again is first
// copied together, into at most this much stack.
constexpr std::int64_t kPackFloats = 8192;
constexpr std::int64_t kWideStride = 512;  // floats; rows closer than that spread well enough

/// outer_columns of the same columns of b and c, copied together first where that pays.
template <int kVectors, class Lanes>
NEMO_SIMD void outer_columns_of(Lanes at, std::int64_t m, std::int64_t k, const float* a,
                                std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                                float* c, std::int64_t ldc, bool accumulate) {
  constexpr std::int64_t kWidth = kVectors * kLanes;
  Ahead none;
  if (ldb < kWideStride || m < 16 || k * kWidth > kPackFloats) {
    outer_columns<MultiplyAdd, kVectors>(at, at, m, k, a, rs, cs, b, ldb, c, ldc, accumulate, none);
    return;
  }
  alignas(64) float packed[kPackFloats];
  for (std::int64_t p = 0; p < k; ++p) {
    for (int j = 0; j < kVectors; ++j) {
      store(at.load(b + p * ldb + j * kLanes), packed + p * kWidth + j * kLanes);
    }
  }
  outer_columns<MultiplyAdd, kVectors>(FullLanes{0}, at, m, k, a, rs, cs, packed, kWidth, c, ldc,
                                       accumulate, none);
}

/// C[m,n] (+)= A * B[k,n] where A[i,p] = a[i*rs + p*cs].
void outer_product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t rs,
                   std::int64_t cs, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                   bool accumulate) noexcept {
  for_columns(n, [&](auto vectors, auto at) NEMO_SIMD_LAMBDA {
    outer_columns_of<vectors.k>(at, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
  });
}

void gemm_nt(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  constexpr std::int64_t kDepth = kPackFloats / kStrip;
  alignas(64) float strip[kPackFloats];
  Ahead none;
  for (std::int64_t j = 0; j < n; j += kStrip) {
    const std::int64_t width = n - j < kStrip ? n - j : kStrip;
    for (std::int64_t p = 0; p < k || p == 0; p += kDepth) {
      const std::int64_t depth = k - p < kDepth ? k - p : kDepth;
      const bool add = accumulate || p > 0;
      transpose_strip(width, depth, b + j * ldb + p, ldb, strip);
      strip_product(m, width, depth, a + p, lda, strip, kPackFloats, c + j, ldc, add, none);
    }
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
