// One encoder per block format, encode_block(x, block), and what they share.
#pragma once

#include <nemo/tensor/formats.hpp>

#include <cmath>
#include <cstdint>

namespace nemo::detail {

/// The integer part of v within [low, high]; NaN gives low.
inline int truncate_to(float v, int low, int high) noexcept {
  if (!(v > static_cast<float>(low))) return low;
  return v >= static_cast<float>(high) ? high : static_cast<int>(v);
}
/// The nearest integer (ties to even) within [low, high]; NaN gives low.
inline int round_to(float v, int low, int high) noexcept {
  return truncate_to(std::nearbyint(v), low, high);
}

/// 1/x, or 0 where that is not finite: a scale that small encodes zeros.
inline float inverse(float x) noexcept {
  const float y = 1.0f / x;
  return x != 0.0f && std::isfinite(y) ? y : 0.0f;
}

/// The element of largest magnitude, with its sign; the first of several.
inline float signed_absmax(const float* x, int n) noexcept {
  float max = 0.0f;
  for (int i = 0; i < n; ++i) max = std::fabs(x[i]) > std::fabs(max) ? x[i] : max;
  return max;
}

void encode_block(const float* x, BlockQ4_0& b) noexcept;
void encode_block(const float* x, BlockQ4_1& b) noexcept;
void encode_block(const float* x, BlockQ5_0& b) noexcept;
void encode_block(const float* x, BlockQ5_1& b) noexcept;
void encode_block(const float* x, BlockQ8_0& b) noexcept;
void encode_block(const float* x, BlockIQ4_NL& b) noexcept;
void encode_block(const float* x, BlockMXFP4& b) noexcept;
void encode_block(const float* x, BlockQ2_K& b) noexcept;
void encode_block(const float* x, BlockQ3_K& b) noexcept;
void encode_block(const float* x, BlockQ4_K& b) noexcept;
void encode_block(const float* x, BlockQ5_K& b) noexcept;
void encode_block(const float* x, BlockQ6_K& b) noexcept;

inline void encode_block(const float* x, PlainF32& b) noexcept { b.value = *x; }
inline void encode_block(const float* x, PlainF16& b) noexcept { b.value = to_half(*x); }
inline void encode_block(const float* x, PlainBF16& b) noexcept { b.value = to_bfloat16(*x); }

using EncodableBlocks =
    BlockList<PlainF32, PlainF16, PlainBF16, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0,
              BlockIQ4_NL, BlockMXFP4, BlockQ2_K, BlockQ3_K, BlockQ4_K, BlockQ5_K, BlockQ6_K>;

}  // namespace nemo::detail
