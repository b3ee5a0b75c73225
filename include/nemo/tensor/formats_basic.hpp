// Plain element types and the formats with one scale (and maybe one offset) a block.
//
// Every format of the formats_*.hpp headers is a packed struct that lies in the file as it is, with
//   kType      its DType
//   kElements  elements a block
//   decode(block, out)  writes kElements floats, the definition of the format.
// Half scales have 11 significant bits and codes at most 8 more per factor, so every product in a
// decoder is exact in float and at most one final addition rounds: the result has the same bits
// whatever the order of the factors and whether or not the compiler contracts to FMA.
// Kernel files of every instruction set include this: everything inlines, nothing is shared.
#pragma once

#include <nemo/base/half.hpp>
#include <nemo/tensor/codebooks.hpp>
#include <nemo/tensor/dtype.hpp>

#include <cstdint>

namespace nemo {

/// Bytes lie in files at any address and in little-endian order.
[[gnu::always_inline]] inline std::uint32_t load_u16(const std::uint8_t* p) noexcept {
  return static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8;
}
[[gnu::always_inline]] inline std::uint32_t load_u32(const std::uint8_t* p) noexcept {
  return load_u16(p) | load_u16(p + 2) << 16;
}

/// One element stored as T, for types that are not blocks.
template <class T, DType kDType>
struct [[gnu::packed]] Plain {
  T value;
  static constexpr DType kType = kDType;
  static constexpr int kElements = 1;
};
using PlainF32 = Plain<float, DType::f32>;
using PlainF16 = Plain<Half, DType::f16>;
using PlainBF16 = Plain<BFloat16, DType::bf16>;
using PlainI8 = Plain<std::int8_t, DType::i8>;
using PlainI16 = Plain<std::int16_t, DType::i16>;
using PlainI32 = Plain<std::int32_t, DType::i32>;
using PlainI64 = Plain<std::int64_t, DType::i64>;
using PlainF64 = Plain<double, DType::f64>;

[[gnu::always_inline]] inline void decode(const PlainF16& b, float* out) noexcept {
  *out = to_float(b.value);
}
[[gnu::always_inline]] inline void decode(const PlainBF16& b, float* out) noexcept {
  *out = to_float(b.value);
}
template <class T, DType kDType>
[[gnu::always_inline]] inline void decode(const Plain<T, kDType>& b, float* out) noexcept {
  *out = static_cast<float>(b.value);
}

/// x[j] = d (q[j] - 8); low nibbles are elements 0..15, high nibbles 16..31.
struct [[gnu::packed]] BlockQ4_0 {
  Half d;
  std::uint8_t qs[16];
  static constexpr DType kType = DType::q4_0;
  static constexpr int kElements = 32;
};
static_assert(sizeof(BlockQ4_0) == 18);

[[gnu::always_inline]] inline void decode(const BlockQ4_0& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>((b.qs[j] & 15) - 8) * d;
    out[j + 16] = static_cast<float>((b.qs[j] >> 4) - 8) * d;
  }
}

/// x[j] = d q[j] + m; nibbles as in Q4_0.
struct [[gnu::packed]] BlockQ4_1 {
  Half d;
  Half m;
  std::uint8_t qs[16];
  static constexpr DType kType = DType::q4_1;
  static constexpr int kElements = 32;
};
static_assert(sizeof(BlockQ4_1) == 20);

[[gnu::always_inline]] inline void decode(const BlockQ4_1& b, float* out) noexcept {
  const float d = to_float(b.d);
  const float m = to_float(b.m);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(b.qs[j] & 15) * d + m;
    out[j + 16] = static_cast<float>(b.qs[j] >> 4) * d + m;
  }
}

/// x[j] = d (q[j] - 16); q's fifth bit is bit j of qh, the other four as in Q4_0.
struct [[gnu::packed]] BlockQ5_0 {
  Half d;
  std::uint8_t qh[4];
  std::uint8_t qs[16];
  static constexpr DType kType = DType::q5_0;
  static constexpr int kElements = 32;
};
static_assert(sizeof(BlockQ5_0) == 22);

[[gnu::always_inline]] inline void decode(const BlockQ5_0& b, float* out) noexcept {
  const float d = to_float(b.d);
  const std::uint32_t high = load_u32(b.qh);
  for (int j = 0; j < 16; ++j) {
    const int low_half = (b.qs[j] & 15) | static_cast<int>((high >> j) & 1u) << 4;
    const int high_half = (b.qs[j] >> 4) | static_cast<int>((high >> (j + 16)) & 1u) << 4;
    out[j] = static_cast<float>(low_half - 16) * d;
    out[j + 16] = static_cast<float>(high_half - 16) * d;
  }
}

/// x[j] = d q[j] + m; q as in Q5_0.
struct [[gnu::packed]] BlockQ5_1 {
  Half d;
  Half m;
  std::uint8_t qh[4];
  std::uint8_t qs[16];
  static constexpr DType kType = DType::q5_1;
  static constexpr int kElements = 32;
};
static_assert(sizeof(BlockQ5_1) == 24);

[[gnu::always_inline]] inline void decode(const BlockQ5_1& b, float* out) noexcept {
  const float d = to_float(b.d);
  const float m = to_float(b.m);
  const std::uint32_t high = load_u32(b.qh);
  for (int j = 0; j < 16; ++j) {
    const int low_half = (b.qs[j] & 15) | static_cast<int>((high >> j) & 1u) << 4;
    const int high_half = (b.qs[j] >> 4) | static_cast<int>((high >> (j + 16)) & 1u) << 4;
    out[j] = static_cast<float>(low_half) * d + m;
    out[j + 16] = static_cast<float>(high_half) * d + m;
  }
}

/// x[j] = d q[j].
struct [[gnu::packed]] BlockQ8_0 {
  Half d;
  std::int8_t qs[32];
  static constexpr DType kType = DType::q8_0;
  static constexpr int kElements = 32;
};
static_assert(sizeof(BlockQ8_0) == 34);

[[gnu::always_inline]] inline void decode(const BlockQ8_0& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(b.qs[j]) * d;
}

/// x[j] = d level[q[j]]; nibbles as in Q4_0.
struct [[gnu::packed]] BlockIQ4_NL {
  Half d;
  std::uint8_t qs[16];
  static constexpr DType kType = DType::iq4_nl;
  static constexpr int kElements = 32;
};
static_assert(sizeof(BlockIQ4_NL) == 18);

[[gnu::always_inline]] inline void decode(const BlockIQ4_NL& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(kIq4Levels[b.qs[j] & 15]) * d;
    out[j + 16] = static_cast<float>(kIq4Levels[b.qs[j] >> 4]) * d;
  }
}

/// x[j] = 2^(e-127) E2M1(q[j]); nibbles as in Q4_0.
struct [[gnu::packed]] BlockMXFP4 {
  std::uint8_t e;
  std::uint8_t qs[16];
  static constexpr DType kType = DType::mxfp4;
  static constexpr int kElements = 32;
};
static_assert(sizeof(BlockMXFP4) == 17);

[[gnu::always_inline]] inline void decode(const BlockMXFP4& b, float* out) noexcept {
  const float half_scale = e8m0_half(b.e);  // the table holds doubled values
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(kE2m1Doubled[b.qs[j] & 15]) * half_scale;
    out[j + 16] = static_cast<float>(kE2m1Doubled[b.qs[j] >> 4]) * half_scale;
  }
}

/// Four groups of 16 with an unsigned E4M3 scale each; byte 8t+j holds elements 16t+j (low nibble)
/// and 16t+8+j. The tensor-wide float scale lives in a tensor of its own.
struct [[gnu::packed]] BlockNVFP4 {
  std::uint8_t d[4];
  std::uint8_t qs[32];
  static constexpr DType kType = DType::nvfp4;
  static constexpr int kElements = 64;
};
static_assert(sizeof(BlockNVFP4) == 36);

[[gnu::always_inline]] inline void decode(const BlockNVFP4& b, float* out) noexcept {
  for (int t = 0; t < 4; ++t) {
    const float half_scale = 0.5f * ue4m3(b.d[t]);  // the table holds doubled values
    for (int j = 0; j < 8; ++j) {
      const std::uint8_t q = b.qs[8 * t + j];
      out[16 * t + j] = static_cast<float>(kE2m1Doubled[q & 15]) * half_scale;
      out[16 * t + 8 + j] = static_cast<float>(kE2m1Doubled[q >> 4]) * half_scale;
    }
  }
}

/// x[j] = +-d: bit j%8 of byte j/8 set means +d.
struct [[gnu::packed]] BlockQ1_0 {
  Half d;
  std::uint8_t qs[16];
  static constexpr DType kType = DType::q1_0;
  static constexpr int kElements = 128;
};
static_assert(sizeof(BlockQ1_0) == 18);

[[gnu::always_inline]] inline void decode(const BlockQ1_0& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int j = 0; j < 128; ++j) out[j] = ((b.qs[j / 8] >> (j % 8)) & 1) != 0 ? d : -d;
}

/// x[j] = d (q[j] - 1), q of 0..3 in bits 2(j%4) of byte j/4.
struct [[gnu::packed]] BlockQ2_0 {
  Half d;
  std::uint8_t qs[16];
  static constexpr DType kType = DType::q2_0;
  static constexpr int kElements = 64;
};
static_assert(sizeof(BlockQ2_0) == 18);

[[gnu::always_inline]] inline void decode(const BlockQ2_0& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int j = 0; j < 64; ++j) {
    out[j] = static_cast<float>(((b.qs[j / 4] >> (2 * (j % 4))) & 3) - 1) * d;
  }
}

}  // namespace nemo
