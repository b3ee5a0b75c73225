// Products of weight codes with int8 activations on AVX2; the end of vector.hpp.
//
// vpmaddubsw adds two products of an unsigned and a signed byte with saturation to int16. Codes up
// to kClass (below 128) times |activation| <= 127 leave room for 32767 / (2 * 127 * kClass) such
// pairs in an int16 before they must be widened. Signed codes (kClass = 128) go in as |code|
// against the activation with the code's sign: 2 * 128 * 127 = 32512 does not saturate either.
#pragma once

namespace nemo {
namespace {

constexpr int kSignedBias = 0;
NEMO_SIMD I signed_codes(I v) { return v; }

NEMO_SIMD I widen_pairs(I shorts) { return _mm256_madd_epi16(shorts, _mm256_set1_epi16(1)); }

/// The largest code of the class that kMaxCode falls in.
constexpr int dot_class(int max_code) {
  return max_code <= 15    ? 15
         : max_code <= 31  ? 31
         : max_code <= 63  ? 63
         : max_code <= 127 ? 127
                           : 128;
}

template <int kClass>
struct Dot {
  /// Panels keep codes as they are.
  NEMO_SIMD static void arrange(I (&)[8]) {}
  static constexpr bool kSigned = kClass == 128;
  static constexpr int kRoom = 32767 / (2 * 127 * kClass);
  static constexpr int kGroup = kRoom >= 8 ? 8 : kRoom >= 4 ? 4 : kRoom >= 2 ? 2 : 1;

  NEMO_SIMD static I pairs(I code, I act) {
    if constexpr (kSigned) {
      return _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(act, code));
    } else {
      return _mm256_maddubs_epi16(code, act);
    }
  }
  /// Adds to acc[t] word r: sum over quads of (word r of codes) . (activation quad of token t). gcc
  /// would rather make all products first and then add them up in a tree, which takes more
  /// registers than there are: in_register() makes it follow the source.
  template <int kTokens, int kQuads>
  NEMO_SIMD static void quads(const I* codes, const std::byte* acts, std::int64_t stride,
                              I (&acc)[kTokens]) {
    for (int q0 = 0; q0 < kQuads; q0 += kGroup) {
      I shorts[kTokens];
      for (int t = 0; t < kTokens; ++t) {
        shorts[t] = in_register(pairs(codes[q0], broadcast_word(acts + t * stride + 4 * q0)));
      }
      for (int q = q0 + 1; q < q0 + kGroup && q < kQuads; ++q) {
        for (int t = 0; t < kTokens; ++t) {
          shorts[t] = in_register(_mm256_add_epi16(
              shorts[t], pairs(codes[q], broadcast_word(acts + t * stride + 4 * q))));
        }
      }
      for (int t = 0; t < kTokens; ++t) {
        acc[t] = in_register(_mm256_add_epi32(acc[t], widen_pairs(shorts[t])));
      }
    }
  }
  /// The same for kRows row vectors whose codes lie in memory, `step` bytes apart: acc[i][t].
  template <int kRows, int kTokens, int kQuads>
  NEMO_SIMD static void panel(const std::byte* codes, std::int64_t step, const std::byte* acts,
                              std::int64_t stride, I (&acc)[kRows][kTokens]) {
    constexpr int kSteps = kGroup < kQuads ? kGroup : kQuads;  // between widenings
    I shorts[kRows][kTokens];
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) {
      I w[kRows];
      for (int i = 0; i < kRows; ++i) w[i] = in_register(load_bytes(codes + i * step + 32 * q));
      for (int t = 0; t < kTokens; ++t) {
        const I act = in_register(broadcast_word(acts + t * stride + 4 * q));
        for (int i = 0; i < kRows; ++i) {
          const I two = pairs(w[i], act);
          shorts[i][t] = in_register(q % kSteps == 0 ? two : _mm256_add_epi16(shorts[i][t], two));
          if (q % kSteps == kSteps - 1) {
            acc[i][t] = in_register(_mm256_add_epi32(acc[i][t], widen_pairs(shorts[i][t])));
          }
        }
      }
    }
  }
  /// Word r of dots[t] = row r . activations of token t over 16 elements, from the lanes of
  /// load_rows.
  template <int kTokens>
  NEMO_SIMD static void rows16(const I (&v)[4], const std::byte* acts, std::int64_t stride,
                               I (&dots)[kTokens]) {
    I s[kTokens][4];
    for (int g = 0; g < 4; ++g) {
      for (int t = 0; t < kTokens; ++t) {
        s[t][g] = in_register(widen_pairs(pairs(v[g], broadcast_16_bytes(acts + t * stride))));
      }
    }
    for (int t = 0; t < kTokens; ++t) dots[t] = row_sums(s[t][0], s[t][1], s[t][2], s[t][3]);
  }
  /// The same over 32 elements.
  template <int kTokens>
  NEMO_SIMD static void rows32(const I (&low)[4], const I (&high)[4], const std::byte* acts,
                               std::int64_t stride, I (&dots)[kTokens]) {
    I s[kTokens][4];
    for (int g = 0; g < 4; ++g) {
      for (int t = 0; t < kTokens; ++t) {
        const I a = pairs(low[g], broadcast_16_bytes(acts + t * stride));
        const I b = pairs(high[g], broadcast_16_bytes(acts + t * stride + 16));
        if constexpr (kRoom >= 2) {
          s[t][g] = in_register(widen_pairs(_mm256_add_epi16(a, b)));
        } else {
          s[t][g] = in_register(_mm256_add_epi32(widen_pairs(a), widen_pairs(b)));
        }
      }
    }
    for (int t = 0; t < kTokens; ++t) dots[t] = row_sums(s[t][0], s[t][1], s[t][2], s[t][3]);
  }
};

}  // namespace
}  // namespace nemo
