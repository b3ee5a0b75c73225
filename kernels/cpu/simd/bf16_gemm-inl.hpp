// Kernels::gemm_* with both operands rounded to bf16, in pairs (bf16_pairs-inl.hpp); included after
// the instruction set's vector.hpp.
#pragma once

#include "bf16_pairs-inl.hpp"

namespace nemo {
namespace {

/// C[m,n] (+)= A[m,k] * B[k,n]. pack_a(i, p, rows, depth, to) and pack_b(p, j, depth, columns, to)
/// write words of pieces; A's word w of row r goes to [r * rs + w * cs], B's into strips.
template <class Pairs, class PackA, class PackB>
NEMO_SIMD void pair_gemm(std::int64_t m, std::int64_t n, std::int64_t k, PackA pack_a,
                         std::int64_t rs, std::int64_t cs, PackB pack_b, float* c, std::int64_t ldc,
                         bool accumulate) {
  alignas(64) float a_words[kPairRows * kPairWords];
  alignas(64) float b_words[kPairColumns / kStrip * kPairStripFloats];
  Ahead none;
  for (std::int64_t i = 0; i < m; i += kPairRows) {
    const std::int64_t height = m - i < kPairRows ? m - i : kPairRows;
    for (std::int64_t p = 0; p < k || p == 0; p += kPairDepth) {
      const std::int64_t depth = k - p < kPairDepth ? k - p : kPairDepth;
      pack_a(i, p, height, depth, a_words);
      for (std::int64_t j = 0; j < n; j += kPairColumns) {
        const std::int64_t width = n - j < kPairColumns ? n - j : kPairColumns;
        pack_b(p, j, depth, width, b_words);
        for_columns(width, [&](auto vectors, auto at) NEMO_SIMD_LAMBDA {
          outer_columns<AddPairs<Pairs>, vectors.k>(
              FullLanes{at.i % kStrip}, at, height, (depth + 1) / 2, a_words, rs, cs,
              b_words + at.i / kStrip * kPairStripFloats, kStrip, c + i * ldc + j, ldc,
              accumulate || p > 0, none);
        });
      }
    }
  }
}

/// out[w * kPairRows + r] = numbers 2w and 2w + 1 of column r, for `count` <= kPairRows columns of
/// n.
template <class Pairs>
NEMO_SIMD void pack_columns(const float* columns, std::int64_t ld, std::int64_t count,
                            std::int64_t n, float* out) {
  for (std::int64_t w = 0; 2 * w < n; ++w) {
    const float* first = columns + 2 * w * ld;
    for_lanes(count, [&](auto at) NEMO_SIMD_LAMBDA {
      const F second = 2 * w + 1 < n ? at.load(first + ld) : F(0.0f);
      store(as_floats(Pairs::round(at.load(first), second)), out + w * kPairRows + at.i);
    });
  }
}

/// How rows of A as they lie are packed.
template <class Pairs>
NEMO_SIMD auto packed_rows(const float* a, std::int64_t lda) {
  return [=](std::int64_t i, std::int64_t p, std::int64_t height, std::int64_t depth, float* to)
             NEMO_SIMD_LAMBDA {
               pack_pairs<Pairs>(a + i * lda + p, lda, height, depth, to, kPairWords);
             };
}

/// How rows of B as they lie are packed.
template <class Pairs>
NEMO_SIMD auto packed_strips(const float* b, std::int64_t ldb) {
  return [=](std::int64_t p, std::int64_t j, std::int64_t depth, std::int64_t width, float* to)
             NEMO_SIMD_LAMBDA { pack_strips<Pairs>(b + p * ldb + j, ldb, depth, width, to); };
}

template <class Pairs>
void pair_gemm_nt(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
                  const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                  bool accumulate) noexcept {
  alignas(64) float rows[kStrip * kPairWords];
  pair_gemm<Pairs>(
      m, n, k, packed_rows<Pairs>(a, lda), kPairWords, 1,
      [&](std::int64_t p, std::int64_t j, std::int64_t depth, std::int64_t width, float* to)
          NEMO_SIMD_LAMBDA {
            for (std::int64_t s = 0; s < width; s += kStrip, to += kPairStripFloats) {
              const std::int64_t count = width - s < kStrip ? width - s : kStrip;
              pack_pairs<Pairs>(b + (j + s) * ldb + p, ldb, count, depth, rows, kPairWords);
              transpose_strip(count, (depth + 1) / 2, rows, kPairWords, to);
            }
          },
      c, ldc, accumulate);
}

template <class Pairs>
void pair_gemm_nn(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
                  const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                  bool accumulate) noexcept {
  pair_gemm<Pairs>(m, n, k, packed_rows<Pairs>(a, lda), kPairWords, 1, packed_strips<Pairs>(b, ldb),
                   c, ldc, accumulate);
}

template <class Pairs>
void pair_gemm_tn(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
                  const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                  bool accumulate) noexcept {
  pair_gemm<Pairs>(
      m, n, k,
      [&](std::int64_t i, std::int64_t p, std::int64_t height, std::int64_t depth, float* to)
          NEMO_SIMD_LAMBDA { pack_columns<Pairs>(a + p * lda + i, lda, height, depth, to); },
      1, kPairRows, packed_strips<Pairs>(b, ldb), c, ldc, accumulate);
}

template <class Pairs>
constexpr FloatProducts pair_float_products() {
  return {.scores_half = pair_scores<Pairs>,
          .mix_half = pair_mix<Pairs>,
          .gemm_nt = pair_gemm_nt<Pairs>,
          .gemm_nn = pair_gemm_nn<Pairs>,
          .gemm_tn = pair_gemm_tn<Pairs>,
          .peak = peak_pairs<Pairs>,
          .bf16_matmul = pair_matmul<Pairs, BFloat16Strips<Pairs>>,
          .e4m3_matmul = pair_matmul<Pairs, PlanarStrips<Pairs, E4m3Codes>>};
}

}  // namespace
}  // namespace nemo
