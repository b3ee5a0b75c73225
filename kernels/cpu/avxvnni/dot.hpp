// Products of weight codes with int8 activations where vpdpbusd has 32-byte registers (AVX-VNNI);
// the end of ../avx2/vector.hpp.
//
// It multiplies unsigned by signed bytes and adds four products to an int32, exactly. So signed
// weights are stored plus 128 (their sign bit flipped) and 128 * sum(activations) is taken off
// afterwards.
#pragma once

namespace nemo {
namespace {

constexpr int kSignedBias = 128;
NEMO_SIMD I signed_codes(I v) { return xor_bits(v, all_bytes(0x80)); }

/// All codes are multiplied alike.
constexpr int dot_class(int) { return 0; }

template <int kClass>
struct Dot {
  /// Panels keep codes as they are.
  NEMO_SIMD static void arrange(I (&)[8]) {}
  NEMO_SIMD static I add(I acc, I codes, I acts) {
    return _mm256_dpbusd_avx_epi32(acc, codes, acts);
  }
  /// Adds to acc[t] word r: sum over quads of (word r of codes) . (activation quad of token t).
  template <int kTokens, int kQuads>
  NEMO_SIMD static void quads(const I* codes, const std::byte* acts, std::int64_t stride,
                              I (&acc)[kTokens]) {
    for (int q = 0; q < kQuads; ++q) {
      for (int t = 0; t < kTokens; ++t) {
        acc[t] = in_register(add(acc[t], codes[q], broadcast_word(acts + t * stride + 4 * q)));
      }
    }
  }
  /// The same for kRows row vectors whose codes lie in memory, `step` bytes apart: acc[i][t].
  template <int kRows, int kTokens, int kQuads>
  NEMO_SIMD static void panel(const std::byte* codes, std::int64_t step, const std::byte* acts,
                              std::int64_t stride, I (&acc)[kRows][kTokens]) {
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) {
      I w[kRows];
      for (int i = 0; i < kRows; ++i) w[i] = in_register(load_bytes(codes + i * step + 32 * q));
      for (int t = 0; t < kTokens; ++t) {
        const I act = in_register(broadcast_word(acts + t * stride + 4 * q));
        for (int i = 0; i < kRows; ++i) acc[i][t] = in_register(add(acc[i][t], w[i], act));
      }
    }
  }
  /// Word r of dots[t] = row r . activations of token t over 16 elements, from the lanes of
  /// load_rows.
  template <int kTokens>
  NEMO_SIMD static void rows16(const I (&v)[4], const std::byte* acts, std::int64_t stride,
                               I (&dots)[kTokens]) {
    const I zero = all_words(0);
    for (int t = 0; t < kTokens; ++t) {
      const I a = broadcast_16_bytes(acts + t * stride);
      dots[t] =
          row_sums(add(zero, v[0], a), add(zero, v[1], a), add(zero, v[2], a), add(zero, v[3], a));
    }
  }
  /// The same over 32 elements.
  template <int kTokens>
  NEMO_SIMD static void rows32(const I (&low)[4], const I (&high)[4], const std::byte* acts,
                               std::int64_t stride, I (&dots)[kTokens]) {
    const I zero = all_words(0);
    for (int t = 0; t < kTokens; ++t) {
      const I a = broadcast_16_bytes(acts + t * stride);
      const I b = broadcast_16_bytes(acts + t * stride + 16);
      I s[4];
      for (int g = 0; g < 4; ++g) s[g] = add(add(zero, low[g], a), high[g], b);
      dots[t] = row_sums(s[0], s[1], s[2], s[3]);
    }
  }
};

}  // namespace
}  // namespace nemo
