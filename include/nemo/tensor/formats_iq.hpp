// The codebook formats: a block stores indices into tables of small vectors, signs and scales.
// Conventions are those of formats_basic.hpp. All have 256 elements in eight groups of 32, each of
// four vectors of eight; `g` counts groups and `v` vectors within a group.
#pragma once

#include <nemo/tensor/formats_basic.hpp>

namespace nemo {

/// Seven stored sign bits give eight: the last makes the number of negatives even.
[[gnu::always_inline]] inline std::uint32_t even_signs(std::uint32_t bits7) noexcept {
  return bits7 | static_cast<std::uint32_t>(__builtin_parity(bits7)) << 7;
}

/// out[j] = +-scale * byte j of `word`, negative where bit j of `signs` is set.
template <class Word>
[[gnu::always_inline]] inline void decode_signed(Word word, std::uint32_t signs, float scale,
                                                 float* out) noexcept {
  for (int j = 0; j < static_cast<int>(sizeof(Word)); ++j) {
    const float magnitude = scale * static_cast<float>((word >> (8 * j)) & 255u);
    out[j] = ((signs >> j) & 1u) != 0 ? -magnitude : magnitude;
  }
}

/// Group g: u32 at qs[8g] = four indices, u32 at qs[8g+4] = 4 x 7 sign bits and a 4-bit scale.
struct [[gnu::packed]] BlockIQ2_XXS {
  Half d;
  std::uint8_t qs[64];
  static constexpr DType kType = DType::iq2_xxs;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

[[gnu::always_inline]] inline void decode(const BlockIQ2_XXS& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int g = 0; g < 8; ++g) {
    const std::uint32_t signs = load_u32(b.qs + 8 * g + 4);
    const float scale = d * (0.5f + static_cast<float>(signs >> 28)) * 0.25f;
    for (int v = 0; v < 4; ++v) {
      decode_signed(kIq2xxsBook.words[b.qs[8 * g + v]], even_signs((signs >> (7 * v)) & 127u),
                    scale, out + 32 * g + 8 * v);
    }
  }
}

/// 16 bits a vector: 9-bit index, 7 sign bits; a 4-bit scale every two vectors.
struct [[gnu::packed]] BlockIQ2_XS {
  Half d;
  std::uint8_t qs[64];
  std::uint8_t scales[8];
  static constexpr DType kType = DType::iq2_xs;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockIQ2_XS) == 74);

[[gnu::always_inline]] inline void decode(const BlockIQ2_XS& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int g = 0; g < 8; ++g) {
    for (int v = 0; v < 4; ++v) {
      const std::uint32_t word = load_u16(b.qs + 8 * g + 2 * v);
      const int s = (b.scales[g] >> (4 * (v / 2))) & 15;
      const float scale = d * (0.5f + static_cast<float>(s)) * 0.25f;
      decode_signed(kIq2xsBook.words[word & 511u], even_signs(word >> 9), scale,
                    out + 32 * g + 8 * v);
    }
  }
}

/// 10-bit index (8 bits in `indices`, 2 in qh) and all 8 sign bits a vector; scales as IQ2_XS.
struct [[gnu::packed]] BlockIQ2_S {
  Half d;
  std::uint8_t indices[32];
  std::uint8_t signs[32];
  std::uint8_t qh[8];
  std::uint8_t scales[8];
  static constexpr DType kType = DType::iq2_s;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockIQ2_S) == 82);

[[gnu::always_inline]] inline void decode(const BlockIQ2_S& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int g = 0; g < 8; ++g) {
    for (int v = 0; v < 4; ++v) {
      const int index = b.indices[4 * g + v] | ((b.qh[g] >> (2 * v)) & 3) << 8;
      const int s = (b.scales[g] >> (4 * (v / 2))) & 15;
      const float scale = d * (0.5f + static_cast<float>(s)) * 0.25f;
      decode_signed(kIq2sBook.words[index], b.signs[4 * g + v], scale, out + 32 * g + 8 * v);
    }
  }
}

/// Two 4-element entries a vector; u32 at signs[4g] = 4 x 7 sign bits and a 4-bit scale.
struct [[gnu::packed]] BlockIQ3_XXS {
  Half d;
  std::uint8_t indices[64];
  std::uint8_t signs[32];
  static constexpr DType kType = DType::iq3_xxs;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

[[gnu::always_inline]] inline void decode(const BlockIQ3_XXS& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int g = 0; g < 8; ++g) {
    const std::uint32_t word = load_u32(b.signs + 4 * g);
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
    for (int v = 0; v < 4; ++v) {
      const std::uint32_t signs = even_signs((word >> (7 * v)) & 127u);
      const std::uint8_t* index = b.indices + 8 * g + 2 * v;
      float* to = out + 32 * g + 8 * v;
      decode_signed(kIq3xxsBook.words[index[0]], signs, scale, to);
      decode_signed(kIq3xxsBook.words[index[1]], signs >> 4, scale, to + 4);
    }
  }
}

/// Two 4-element entries a vector with 9-bit indices (ninth bit in qh), all 8 sign bits, and a
/// 4-bit scale a group: x = d (1 + 2s) entry.
struct [[gnu::packed]] BlockIQ3_S {
  Half d;
  std::uint8_t indices[64];
  std::uint8_t qh[8];
  std::uint8_t signs[32];
  std::uint8_t scales[4];
  static constexpr DType kType = DType::iq3_s;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockIQ3_S) == 110);

[[gnu::always_inline]] inline void decode(const BlockIQ3_S& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int g = 0; g < 8; ++g) {
    const int s = (b.scales[g / 2] >> (4 * (g % 2))) & 15;
    const float scale = d * static_cast<float>(1 + 2 * s);
    for (int e = 0; e < 8; ++e) {
      const int index = b.indices[8 * g + e] | ((b.qh[g] >> e) & 1) << 8;
      const int signs = b.signs[4 * g + e / 2] >> (4 * (e % 2));
      decode_signed(kIq3sBook.words[index], static_cast<std::uint32_t>(signs), scale,
                    out + 32 * g + 4 * e);
    }
  }
}

/// out[j] = scale * (signed byte j of `word` + delta).
[[gnu::always_inline]] inline void decode_shifted(std::uint64_t word, float delta, float scale,
                                                  float* out) noexcept {
  for (int j = 0; j < 8; ++j) {
    const auto value = static_cast<std::int8_t>((word >> (8 * j)) & 255u);
    out[j] = scale * (static_cast<float>(value) + delta);
  }
}

/// 11-bit index a vector (8 bits in qs, 3 in qh); qh word g also has a 3-bit scale in bits 12-14
/// and the sign of the shift of 1/8 in bit 15.
struct [[gnu::packed]] BlockIQ1_S {
  Half d;
  std::uint8_t qs[32];
  std::uint8_t qh[16];
  static constexpr DType kType = DType::iq1_s;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockIQ1_S) == 50);

[[gnu::always_inline]] inline void decode(const BlockIQ1_S& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int g = 0; g < 8; ++g) {
    const std::uint32_t qh = load_u16(b.qh + 2 * g);
    const float scale = d * static_cast<float>(2u * ((qh >> 12) & 7u) + 1u);
    const float delta = (qh & 0x8000u) != 0 ? -0.125f : 0.125f;
    for (int v = 0; v < 4; ++v) {
      const std::uint32_t index = b.qs[4 * g + v] | ((qh >> (3 * v)) & 7u) << 8;
      decode_shifted(kIq1sBook.words[index], delta, scale, out + 32 * g + 8 * v);
    }
  }
}

/// As IQ1_S, but nibble v%2 of qh[2g + v/2] has three index bits and the shift's sign, scales are
/// 3 bits every two vectors, and the half d is spread over the top nibbles of four scale words.
struct [[gnu::packed]] BlockIQ1_M {
  std::uint8_t qs[32];
  std::uint8_t qh[16];
  std::uint8_t scales[8];
  static constexpr DType kType = DType::iq1_m;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockIQ1_M) == 56);

[[gnu::always_inline]] inline Half iq1_m_scale(const BlockIQ1_M& b) noexcept {
  std::uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= (load_u16(b.scales + 2 * i) >> 12) << (4 * i);
  return {static_cast<std::uint16_t>(bits)};
}

[[gnu::always_inline]] inline void decode(const BlockIQ1_M& b, float* out) noexcept {
  const float d = to_float(iq1_m_scale(b));
  for (int g = 0; g < 8; ++g) {
    const std::uint32_t scales = load_u16(b.scales + g / 2 * 2) >> (6 * (g % 2));
    for (int v = 0; v < 4; ++v) {
      const float scale = d * static_cast<float>(2u * ((scales >> (3 * (v / 2))) & 7u) + 1u);
      const std::uint32_t nibble = (b.qh[2 * g + v / 2] >> (4 * (v % 2))) & 15u;
      const float delta = (nibble & 8u) != 0 ? -0.125f : 0.125f;
      const std::uint32_t index = b.qs[4 * g + v] | (nibble & 7u) << 8;
      decode_shifted(kIq1sBook.words[index], delta, scale, out + 32 * g + 8 * v);
    }
  }
}

}  // namespace nemo
