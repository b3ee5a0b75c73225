// Encoders of the 32-element formats, and the choice of encoder.
//
// Symmetric formats put the element of largest magnitude on the end of the code range that reaches
// further (code -8 of -8..7), so d may be negative; the others span [min, max].
#include "encode_block.hpp"

#include <nemo/base/error.hpp>
#include <nemo/tensor/encode.hpp>

#include <string>

namespace nemo {
namespace detail {
namespace {

struct Range {
  float min;
  float max;
};
Range range(const float* x, int n) noexcept {
  Range r{x[0], x[0]};
  for (int i = 1; i < n; ++i) {
    r.min = x[i] < r.min ? x[i] : r.min;
    r.max = x[i] > r.max ? x[i] : r.max;
  }
  return r;
}

/// Codes of 32 elements: low nibbles of qs for 0..15, high nibbles for 16..31.
void pack_nibbles(const int* codes, std::uint8_t* qs) noexcept {
  for (int j = 0; j < 16; ++j) {
    qs[j] = static_cast<std::uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
  }
}

void pack_fifth_bits(const int* codes, std::uint8_t* qh) noexcept {
  for (int i = 0; i < 4; ++i) qh[i] = 0;
  for (int j = 0; j < 32; ++j) {
    qh[j / 8] = static_cast<std::uint8_t>(qh[j / 8] | (codes[j] >> 4) << (j % 8));
  }
}

/// Codes 0..2z-1 of x = d (code - z); returns d.
float symmetric_codes(const float* x, int zero, int* codes) noexcept {
  const float d = signed_absmax(x, 32) / static_cast<float>(-zero);
  const float inverse_d = inverse(d);
  for (int j = 0; j < 32; ++j) {
    const float code = x[j] * inverse_d + (static_cast<float>(zero) + 0.5f);
    codes[j] = truncate_to(code, 0, 2 * zero - 1);
  }
  return d;
}

/// Codes 0..last of x = d code + min; returns d.
float affine_codes(const float* x, float min, float max, int last, int* codes) noexcept {
  const float d = (max - min) / static_cast<float>(last);
  const float inverse_d = inverse(d);
  for (int j = 0; j < 32; ++j) {
    codes[j] = truncate_to((x[j] - min) * inverse_d + 0.5f, 0, last);
  }
  return d;
}

/// The code of the level nearest to v, by bisection of the ascending levels.
int nearest_iq4(float v) noexcept {
  int below = 0;  // the last level <= v, or the first level
  for (int step = 8; step > 0; step /= 2) {
    if (v >= static_cast<float>(kIq4Levels[below + step])) below += step;
  }
  if (below == 15) return 15;
  const auto low = static_cast<float>(kIq4Levels[below]);
  const auto high = static_cast<float>(kIq4Levels[below + 1]);
  return v - low < high - v ? below : below + 1;
}

}  // namespace

void encode_block(const float* x, BlockQ4_0& b) noexcept {
  int codes[32];
  b.d = to_half(symmetric_codes(x, 8, codes));
  pack_nibbles(codes, b.qs);
}

void encode_block(const float* x, BlockQ4_1& b) noexcept {
  const Range r = range(x, 32);
  int codes[32];
  b.d = to_half(affine_codes(x, r.min, r.max, 15, codes));
  b.m = to_half(r.min);
  pack_nibbles(codes, b.qs);
}

void encode_block(const float* x, BlockQ5_0& b) noexcept {
  int codes[32];
  b.d = to_half(symmetric_codes(x, 16, codes));
  pack_nibbles(codes, b.qs);
  pack_fifth_bits(codes, b.qh);
}

void encode_block(const float* x, BlockQ5_1& b) noexcept {
  const Range r = range(x, 32);
  int codes[32];
  b.d = to_half(affine_codes(x, r.min, r.max, 31, codes));
  b.m = to_half(r.min);
  pack_nibbles(codes, b.qs);
  pack_fifth_bits(codes, b.qh);
}

void encode_block(const float* x, BlockQ8_0& b) noexcept {
  const float d = std::fabs(signed_absmax(x, 32)) / 127.0f;
  const float inverse_d = inverse(d);
  b.d = to_half(d);
  for (int j = 0; j < 32; ++j) {
    const float code = std::round(x[j] * inverse_d);
    b.qs[j] = static_cast<std::int8_t>(truncate_to(code, -127, 127));
  }
}

void encode_block(const float* x, BlockIQ4_NL& b) noexcept {
  // The levels are uneven, so which of them the largest element should meet is not obvious: try
  // some, and keep the one whose least squares scale removes most of the energy.
  const float max = signed_absmax(x, 32);
  float best_d = 0.0f;
  float best_gain = 0.0f;
  for (int step = -7; step <= 7; ++step) {
    const float scale = (-127.0f + 2.0f * static_cast<float>(step)) * inverse(max);
    float level_x = 0.0f;
    float level_level = 0.0f;
    for (int j = 0; j < 32; ++j) {
      const auto level = static_cast<float>(kIq4Levels[nearest_iq4(x[j] * scale)]);
      level_x += level * x[j];
      level_level += level * level;
    }
    const float gain = level_x * level_x / level_level;
    if (gain > best_gain) {
      best_gain = gain;
      best_d = level_x / level_level;
    }
  }
  b.d = to_half(best_d);
  const float inverse_d = inverse(to_float(b.d));
  int codes[32];
  for (int j = 0; j < 32; ++j) codes[j] = nearest_iq4(x[j] * inverse_d);
  pack_nibbles(codes, b.qs);
}

void encode_block(const float* x, BlockMXFP4& b) noexcept {
  const float max = std::fabs(signed_absmax(x, 32));
  // The largest element's power of two becomes E2M1's largest, 4.
  const int exponent = max > 0.0f && std::isfinite(max) ? std::ilogb(max) - 2 + 127 : 0;
  b.e = static_cast<std::uint8_t>(exponent < 0 ? 0 : exponent);
  const float half_scale = e8m0_half(b.e);
  int codes[32];
  for (int j = 0; j < 32; ++j) {
    codes[j] = 0;
    for (int code = 1; code < 16; ++code) {
      const auto error = [&](int c) {
        return std::fabs(static_cast<float>(kE2m1Doubled[c]) * half_scale - x[j]);
      };
      if (error(code) < error(codes[j])) codes[j] = code;
    }
  }
  pack_nibbles(codes, b.qs);
}

namespace {

template <class Block>
void encode_blocks(const float* x, std::int64_t cols, std::byte* out) {
  auto* blocks = reinterpret_cast<Block*>(out);
  for (std::int64_t i = 0; i < cols / Block::kElements; ++i) {
    encode_block(x + i * Block::kElements, blocks[i]);
  }
}

using Encoder = void (*)(const float* x, std::int64_t cols, std::byte* out);

template <class... Blocks>
Encoder find_encoder(BlockList<Blocks...>, DType type) noexcept {
  Encoder found = nullptr;
  ((Blocks::kType == type ? void(found = encode_blocks<Blocks>) : void()), ...);
  return found;
}

}  // namespace
}  // namespace detail

bool can_encode(DType type) noexcept {
  return detail::find_encoder(detail::EncodableBlocks{}, type) != nullptr;
}

void encode_row(DType type, const float* x, std::int64_t cols, std::byte* out) {
  const detail::Encoder encode = detail::find_encoder(detail::EncodableBlocks{}, type);
  if (encode == nullptr) {
    throw Error(ErrorCode::unsupported, "no encoder for " + std::string(info(type).name) +
                                            "; use F16, Q8_0, Q4_0, Q4_K or another plain type");
  }
  encode(x, cols, out);
}

}  // namespace nemo
