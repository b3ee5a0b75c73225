// Small float formats as plain bit patterns, and their conversion to and from float.
// Included by kernel files of every instruction set, so everything here is trivially inlined.
#pragma once

#include <bit>
#include <cstdint>

namespace nemo {

/// IEEE binary16 stored as its bits.
struct Half {
  std::uint16_t bits;
};
/// bfloat16 (upper half of a float) stored as its bits.
struct BFloat16 {
  std::uint16_t bits;
};

/// Exact for every input, subnormals, infinities and NaN included.
[[gnu::always_inline]] inline float to_float(Half h) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(h.bits & 0x7fffu) << 13;
  // Scaling by 2^112 moves the exponent bias from 15 to 127 and normalises subnormals.
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  std::uint32_t bits = std::bit_cast<std::uint32_t>(scaled);
  if ((h.bits & 0x7c00u) == 0x7c00u) bits = magnitude | 0x7f800000u;
  return std::bit_cast<float>(bits | sign);
}

[[gnu::always_inline]] inline float to_float(BFloat16 b) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(b.bits) << 16);
}

[[gnu::always_inline]] inline float to_float(float x) noexcept { return x; }

/// Round to nearest even; overflow gives infinity, NaN stays NaN (quiet).
[[gnu::always_inline]] inline Half to_half(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Adding 0.5 aligns the subnormal's last bit with the float's last bit; the FPU rounds.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {
        static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

/// Round to nearest even; NaN stays NaN.
[[gnu::always_inline]] inline BFloat16 to_bfloat16(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

/// 2^(e - 128): half the E8M0 scale, the factor of MXFP4's doubled codes. Subnormal for e < 2.
[[gnu::always_inline]] inline float e8m0_half(std::uint8_t e) noexcept {
  const std::uint32_t bits = e < 2 ? 0x00200000u << e : static_cast<std::uint32_t>(e - 1u) << 23;
  return std::bit_cast<float>(bits);
}

/// Unsigned E4M3 of GGUF's NVFP4 scales; 0x7f reads as zero.
[[gnu::always_inline]] inline float ue4m3(std::uint8_t x) noexcept {
  if ((x & 0x7fu) == 0x7fu) return 0.0f;
  const std::uint32_t exponent = (x >> 3) & 15u;
  const std::uint32_t mantissa = x & 7u;
  if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-9f;
  return std::bit_cast<float>(((exponent + 120u) << 23) | (mantissa << 20));
}

/// E4M3 without special values, as MLX reads it: 0x7f and 0xff are +-480 (NaN elsewhere).
[[gnu::always_inline]] constexpr float e4m3(std::uint8_t x) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(x & 0x80u) << 24;
  // E4M3 bits moved to a float's place have 2^-120 of their value, subnormals included.
  const float magnitude = std::bit_cast<float>((x & 0x7fu) << 20) * 0x1p120f;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
}

}  // namespace nemo
