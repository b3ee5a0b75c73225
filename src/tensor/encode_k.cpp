// Encoders of the K formats: fit a scale (and offset) per group by least squares, quantize those to
// the block's few bits, then round the elements with the scales as they will be read back.
#include "encode_block.hpp"

#include <algorithm>
#include <cstring>

namespace nemo::detail {
namespace {

/// Candidates for the code that the largest element gets, in tenths around the end of the range:
/// a little clipping or slack often fits the rest better.
constexpr int kSteps = 9;

/// The scale s of x ~ s q, q in [-zero, zero - 1], with the least squared error among candidates.
float fit_symmetric(const float* x, int n, int zero) noexcept {
  const float inverse_max = inverse(signed_absmax(x, n));
  float best_scale = 0.0f;
  float best_gain = 0.0f;
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float to_code =
        -(static_cast<float>(zero) + 0.1f * static_cast<float>(step)) * inverse_max;
    float qx = 0.0f;
    float qq = 0.0f;
    for (int i = 0; i < n; ++i) {
      const auto q = static_cast<float>(round_to(x[i] * to_code, -zero, zero - 1));
      qx += q * x[i];
      qq += q * q;
    }
    // The error left is sum x^2 - qx^2/qq.
    if (qq > 0.0f && qx * qx / qq > best_gain) {
      best_gain = qx * qx / qq;
      best_scale = qx / qq;
    }
  }
  return best_scale;
}

struct Affine {
  float scale;
  float offset;  // subtracted; never negative
};

/// x ~ scale q - offset, q in [0, last], with the least squared error among candidates.
Affine fit_affine(const float* x, int n, int last) noexcept {
  const float low = std::min(0.0f, *std::min_element(x, x + n));
  const float high = *std::max_element(x, x + n);
  const float inverse_range = inverse(high - low);
  if (!(inverse_range > 0.0f)) return {0.0f, -low};
  Affine best{(high - low) / static_cast<float>(last), -low};
  float best_error = -1.0f;
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float to_code =
        (static_cast<float>(last) + 0.1f * static_cast<float>(step)) * inverse_range;
    float sum_q = 0.0f, sum_x = 0.0f, sum_qq = 0.0f, sum_qx = 0.0f, sum_xx = 0.0f;
    for (int i = 0; i < n; ++i) {
      const auto q = static_cast<float>(round_to((x[i] - low) * to_code, 0, last));
      sum_q += q;
      sum_x += x[i];
      sum_qq += q * q;
      sum_qx += q * x[i];
      sum_xx += x[i] * x[i];
    }
    const auto count = static_cast<float>(n);
    const float determinant = count * sum_qq - sum_q * sum_q;
    if (!(determinant > 0.0f)) continue;
    Affine fit{(count * sum_qx - sum_q * sum_x) / determinant,
               (sum_q * sum_qx - sum_qq * sum_x) / determinant};
    if (fit.offset < 0.0f) fit = {sum_qx / sum_qq, 0.0f};
    const float error = sum_xx + fit.scale * (fit.scale * sum_qq - 2.0f * sum_qx) +
                        fit.offset * (count * fit.offset + 2.0f * (sum_x - fit.scale * sum_q));
    if (best_error < 0.0f || error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  return best;
}

/// Scales and offsets of all groups rounded to multiples 0..last of d and dmin.
template <int kGroups>
struct QuantizedAffine {
  Half d;
  Half dmin;
  int scale[kGroups];
  int min[kGroups];
};

template <int kGroups>
QuantizedAffine<kGroups> quantize_affine(const float* x, int code_last, int scale_last) noexcept {
  constexpr int kSize = 256 / kGroups;
  Affine fits[kGroups];
  float max_scale = 0.0f;
  float max_offset = 0.0f;
  for (int g = 0; g < kGroups; ++g) {
    fits[g] = fit_affine(x + kSize * g, kSize, code_last);
    max_scale = std::max(max_scale, fits[g].scale);
    max_offset = std::max(max_offset, fits[g].offset);
  }
  QuantizedAffine<kGroups> q{};
  q.d = to_half(max_scale / static_cast<float>(scale_last));
  q.dmin = to_half(max_offset / static_cast<float>(scale_last));
  for (int g = 0; g < kGroups; ++g) {
    q.scale[g] = round_to(fits[g].scale * inverse(to_float(q.d)), 0, scale_last);
    q.min[g] = round_to(fits[g].offset * inverse(to_float(q.dmin)), 0, scale_last);
  }
  return q;
}

/// The code of x ~ (d scale) code - dmin min.
template <int kGroups>
int affine_code(float x, const QuantizedAffine<kGroups>& q, int group, int last) noexcept {
  const float scale = to_float(q.d) * static_cast<float>(q.scale[group]);
  const float offset = to_float(q.dmin) * static_cast<float>(q.min[group]);
  return round_to((x + offset) * inverse(scale), 0, last);
}

/// Scales of sixteen groups rounded to multiples -last-1..last of d.
struct QuantizedSymmetric {
  Half d;
  int scale[16];
};

QuantizedSymmetric quantize_symmetric(const float* x, int zero, int scale_last) noexcept {
  float scales[16];
  for (int g = 0; g < 16; ++g) scales[g] = fit_symmetric(x + 16 * g, 16, zero);
  QuantizedSymmetric q{};
  q.d = to_half(signed_absmax(scales, 16) / static_cast<float>(-scale_last - 1));
  for (int g = 0; g < 16; ++g) {
    q.scale[g] = round_to(scales[g] * inverse(to_float(q.d)), -scale_last - 1, scale_last);
  }
  return q;
}

int symmetric_code(float x, const QuantizedSymmetric& q, int group, int zero) noexcept {
  const float scale = to_float(q.d) * static_cast<float>(q.scale[group]);
  return round_to(x * inverse(scale), -zero, zero - 1) + zero;
}

void add_bits(std::uint8_t& byte, int value, int shift) noexcept {
  byte = static_cast<std::uint8_t>(byte | value << shift);
}

/// The six-bit pairs of k_scale_min.
void pack_scale_min(const QuantizedAffine<8>& q, std::uint8_t* scales) noexcept {
  for (int g = 0; g < 4; ++g) {
    scales[g] = static_cast<std::uint8_t>(q.scale[g] | (q.scale[g + 4] >> 4) << 6);
    scales[g + 4] = static_cast<std::uint8_t>(q.min[g] | (q.min[g + 4] >> 4) << 6);
    scales[g + 8] = static_cast<std::uint8_t>((q.scale[g + 4] & 15) | (q.min[g + 4] & 15) << 4);
  }
}

}  // namespace

void encode_block(const float* x, BlockQ2_K& b) noexcept {
  const auto q = quantize_affine<16>(x, 3, 15);
  std::memset(&b, 0, sizeof(b));
  b.d = q.d;
  b.dmin = q.dmin;
  for (int g = 0; g < 16; ++g) {
    b.scales[g] = static_cast<std::uint8_t>(q.scale[g] | q.min[g] << 4);
    std::uint8_t* qs = b.qs + 32 * (g / 8) + 16 * (g % 2);
    for (int j = 0; j < 16; ++j)
      add_bits(qs[j], affine_code(x[16 * g + j], q, g, 3), g % 8 / 2 * 2);
  }
}

void encode_block(const float* x, BlockQ3_K& b) noexcept {
  const QuantizedSymmetric q = quantize_symmetric(x, 4, 31);
  std::memset(&b, 0, sizeof(b));
  b.d = q.d;
  for (int g = 0; g < 16; ++g) {
    const int scale = q.scale[g] + 32;
    add_bits(b.scales[g % 8], scale & 15, 4 * (g / 8));
    add_bits(b.scales[8 + g % 4], scale >> 4, 2 * (g / 4));
    for (int j = 0; j < 16; ++j) {
      const int code = symmetric_code(x[16 * g + j], q, g, 4);
      add_bits(b.qs[32 * (g / 8) + 16 * (g % 2) + j], code & 3, g % 8 / 2 * 2);
      add_bits(b.hmask[16 * (g % 2) + j], code >> 2, g / 2);
    }
  }
}

void encode_block(const float* x, BlockQ4_K& b) noexcept {
  const auto q = quantize_affine<8>(x, 15, 63);
  std::memset(&b, 0, sizeof(b));
  b.d = q.d;
  b.dmin = q.dmin;
  pack_scale_min(q, b.scales);
  for (int i = 0; i < 256; ++i) {
    const int g = i / 32;
    add_bits(b.qs[32 * (g / 2) + i % 32], affine_code(x[i], q, g, 15), 4 * (g % 2));
  }
}

void encode_block(const float* x, BlockQ5_K& b) noexcept {
  const auto q = quantize_affine<8>(x, 31, 63);
  std::memset(&b, 0, sizeof(b));
  b.d = q.d;
  b.dmin = q.dmin;
  pack_scale_min(q, b.scales);
  for (int i = 0; i < 256; ++i) {
    const int g = i / 32;
    const int code = affine_code(x[i], q, g, 31);
    add_bits(b.qs[32 * (g / 2) + i % 32], code & 15, 4 * (g % 2));
    add_bits(b.qh[i % 32], code >> 4, g);
  }
}

void encode_block(const float* x, BlockQ6_K& b) noexcept {
  const QuantizedSymmetric q = quantize_symmetric(x, 32, 127);
  std::memset(&b, 0, sizeof(b));
  b.d = q.d;
  for (int g = 0; g < 16; ++g) {
    b.scales[g] = static_cast<std::int8_t>(q.scale[g]);
    const int half = g / 8;
    const int quarter = g % 8 / 2;
    for (int j = 0; j < 16; ++j) {
      const int code = symmetric_code(x[16 * g + j], q, g, 32);
      const int within = 16 * (g % 2) + j;
      add_bits(b.ql[64 * half + 32 * (quarter % 2) + within], code & 15, 4 * (quarter / 2));
      add_bits(b.qh[32 * half + within], code >> 4, 2 * quarter);
    }
  }
}

}  // namespace nemo::detail
