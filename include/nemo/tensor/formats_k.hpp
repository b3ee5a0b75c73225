// The 256-element formats with two levels of scales (K-quants, IQ4_XS) and the ternary ones.
// Conventions are those of formats_basic.hpp.
#pragma once

#include <nemo/tensor/formats_basic.hpp>

namespace nemo {

/// Sixteen groups of 16: x = d (scales & 15) q - dmin (scales >> 4).
/// Group 8n + 2s + h has bits 2s..2s+1 of bytes qs[32n + 16h ..].
struct [[gnu::packed]] BlockQ2_K {
  std::uint8_t scales[16];
  std::uint8_t qs[64];
  Half d;
  Half dmin;
  static constexpr DType kType = DType::q2_k;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockQ2_K) == 84);

[[gnu::always_inline]] inline void decode(const BlockQ2_K& b, float* out) noexcept {
  const float d = to_float(b.d);
  const float dmin = to_float(b.dmin);
  for (int group = 0; group < 16; ++group) {
    const std::uint8_t* qs = b.qs + 32 * (group / 8) + 16 * (group % 2);
    const int shift = group % 8 / 2 * 2;
    const float scale = d * static_cast<float>(b.scales[group] & 15);
    const float offset = dmin * static_cast<float>(b.scales[group] >> 4);
    for (int j = 0; j < 16; ++j) {
      out[16 * group + j] = scale * static_cast<float>((qs[j] >> shift) & 3) - offset;
    }
  }
}

/// Sixteen groups of 16: x = d (scale - 32) (q - 4), q's two low bits laid out as in Q2_K, its
/// third in bit group/2 of hmask. Scales are 6-bit: see q3_k_scale.
struct [[gnu::packed]] BlockQ3_K {
  std::uint8_t hmask[32];
  std::uint8_t qs[64];
  std::uint8_t scales[12];
  Half d;
  static constexpr DType kType = DType::q3_k;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockQ3_K) == 110);

/// The signed scale (-32..31) of one of the sixteen groups.
[[gnu::always_inline]] inline int q3_k_scale(const std::uint8_t* scales, int group) noexcept {
  const int low = (scales[group % 8] >> (4 * (group / 8))) & 15;
  const int high = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
  return (low | high << 4) - 32;
}

[[gnu::always_inline]] inline void decode(const BlockQ3_K& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int group = 0; group < 16; ++group) {
    const std::uint8_t* qs = b.qs + 32 * (group / 8) + 16 * (group % 2);
    const std::uint8_t* mask = b.hmask + 16 * (group % 2);
    const int shift = group % 8 / 2 * 2;
    const float scale = d * static_cast<float>(q3_k_scale(b.scales, group));
    for (int j = 0; j < 16; ++j) {
      const int q = ((qs[j] >> shift) & 3) | ((mask[j] >> (group / 2)) & 1) << 2;
      out[16 * group + j] = scale * static_cast<float>(q - 4);
    }
  }
}

/// Scale and offset multiplier (6 bits each) of group 0..7 of a Q4_K or Q5_K block.
struct ScaleMin {
  std::uint8_t scale;
  std::uint8_t min;
};
[[gnu::always_inline]] inline ScaleMin k_scale_min(const std::uint8_t* scales, int group) noexcept {
  if (group < 4) {
    return {static_cast<std::uint8_t>(scales[group] & 63),
            static_cast<std::uint8_t>(scales[group + 4] & 63)};
  }
  return {static_cast<std::uint8_t>((scales[group + 4] & 15) | (scales[group - 4] >> 6) << 4),
          static_cast<std::uint8_t>((scales[group + 4] >> 4) | (scales[group] >> 6) << 4)};
}

/// Eight groups of 32: x = d scale q - dmin min. Bytes qs[32c..] hold group 2c in their low nibbles
/// and group 2c+1 in their high ones.
struct [[gnu::packed]] BlockQ4_K {
  Half d;
  Half dmin;
  std::uint8_t scales[12];
  std::uint8_t qs[128];
  static constexpr DType kType = DType::q4_k;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockQ4_K) == 144);

[[gnu::always_inline]] inline void decode(const BlockQ4_K& b, float* out) noexcept {
  const float d = to_float(b.d);
  const float dmin = to_float(b.dmin);
  for (int group = 0; group < 8; ++group) {
    const ScaleMin sm = k_scale_min(b.scales, group);
    const float scale = d * static_cast<float>(sm.scale);
    const float offset = dmin * static_cast<float>(sm.min);
    const std::uint8_t* qs = b.qs + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int j = 0; j < 32; ++j) {
      out[32 * group + j] = scale * static_cast<float>((qs[j] >> shift) & 15) - offset;
    }
  }
}

/// As Q4_K with a fifth bit: bit `group` of qh[j].
struct [[gnu::packed]] BlockQ5_K {
  Half d;
  Half dmin;
  std::uint8_t scales[12];
  std::uint8_t qh[32];
  std::uint8_t qs[128];
  static constexpr DType kType = DType::q5_k;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockQ5_K) == 176);

[[gnu::always_inline]] inline void decode(const BlockQ5_K& b, float* out) noexcept {
  const float d = to_float(b.d);
  const float dmin = to_float(b.dmin);
  for (int group = 0; group < 8; ++group) {
    const ScaleMin sm = k_scale_min(b.scales, group);
    const float scale = d * static_cast<float>(sm.scale);
    const float offset = dmin * static_cast<float>(sm.min);
    const std::uint8_t* qs = b.qs + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int j = 0; j < 32; ++j) {
      const int q = ((qs[j] >> shift) & 15) | ((b.qh[j] >> group) & 1) << 4;
      out[32 * group + j] = scale * static_cast<float>(q) - offset;
    }
  }
}

/// Sixteen groups of 16: x = d scales[group] (q - 32). In half n, quarter k (32 elements, j
/// within): low bits from nibble k/2 of ql[64n + 32(k%2) + j], two high bits from bits 2k of qh[32n
/// + j].
struct [[gnu::packed]] BlockQ6_K {
  std::uint8_t ql[128];
  std::uint8_t qh[64];
  std::int8_t scales[16];
  Half d;
  static constexpr DType kType = DType::q6_k;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockQ6_K) == 210);

[[gnu::always_inline]] inline void decode(const BlockQ6_K& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int group = 0; group < 16; ++group) {
    const int half = group / 8;
    const int quarter = group % 8 / 2;
    const std::uint8_t* ql = b.ql + 64 * half + 32 * (quarter % 2) + 16 * (group % 2);
    const std::uint8_t* qh = b.qh + 32 * half + 16 * (group % 2);
    const float scale = d * static_cast<float>(b.scales[group]);
    for (int j = 0; j < 16; ++j) {
      const int q = ((ql[j] >> (4 * (quarter / 2))) & 15) | ((qh[j] >> (2 * quarter)) & 3) << 4;
      out[16 * group + j] = scale * static_cast<float>(q - 32);
    }
  }
}

/// Eight groups of 32: x = d (scale - 32) level[q]; nibbles of qs[16 group ..] as in Q4_0.
struct [[gnu::packed]] BlockIQ4_XS {
  Half d;
  std::uint8_t scales_h[2];
  std::uint8_t scales_l[4];
  std::uint8_t qs[128];
  static constexpr DType kType = DType::iq4_xs;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockIQ4_XS) == 136);

/// The signed scale (-32..31) of one of the eight groups.
[[gnu::always_inline]] inline int iq4_xs_scale(const BlockIQ4_XS& b, int group) noexcept {
  const int low = (b.scales_l[group / 2] >> (4 * (group % 2))) & 15;
  const int high = static_cast<int>((load_u16(b.scales_h) >> (2 * group)) & 3u);
  return (low | high << 4) - 32;
}

[[gnu::always_inline]] inline void decode(const BlockIQ4_XS& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int group = 0; group < 8; ++group) {
    const float scale = d * static_cast<float>(iq4_xs_scale(b, group));
    const std::uint8_t* qs = b.qs + 16 * group;
    float* to = out + 32 * group;
    for (int j = 0; j < 16; ++j) {
      to[j] = scale * static_cast<float>(kIq4Levels[qs[j] & 15]);
      to[j + 16] = scale * static_cast<float>(kIq4Levels[qs[j] >> 4]);
    }
  }
}

/// x = d (trit - 1), five trits a byte (four in qh), stored as a fixed-point fraction of 3^5: digit
/// n is the integer part of 3 * frac(byte * 3^n / 256).
struct [[gnu::packed]] BlockTQ1_0 {
  std::uint8_t qs[48];
  std::uint8_t qh[4];
  Half d;
  static constexpr DType kType = DType::tq1_0;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockTQ1_0) == 54);

[[gnu::always_inline]] inline int tq1_trit(std::uint8_t byte, int n) noexcept {
  constexpr std::uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  const auto fraction = static_cast<std::uint8_t>(byte * kPowers[n]);
  return (fraction * 3) >> 8;
}

[[gnu::always_inline]] inline void decode(const BlockTQ1_0& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int n = 0; n < 5; ++n) {
    for (int j = 0; j < 32; ++j) {
      out[32 * n + j] = static_cast<float>(tq1_trit(b.qs[j], n) - 1) * d;
    }
    for (int j = 0; j < 16; ++j) {
      out[160 + 16 * n + j] = static_cast<float>(tq1_trit(b.qs[32 + j], n) - 1) * d;
    }
  }
  for (int n = 0; n < 4; ++n) {
    for (int j = 0; j < 4; ++j) {
      out[240 + 4 * n + j] = static_cast<float>(tq1_trit(b.qh[j], n) - 1) * d;
    }
  }
}

/// x = d (q - 1): group 4h + s (32 elements) has bits 2s of bytes qs[32h ..].
struct [[gnu::packed]] BlockTQ2_0 {
  std::uint8_t qs[64];
  Half d;
  static constexpr DType kType = DType::tq2_0;
  static constexpr int kElements = 256;
};
static_assert(sizeof(BlockTQ2_0) == 66);

[[gnu::always_inline]] inline void decode(const BlockTQ2_0& b, float* out) noexcept {
  const float d = to_float(b.d);
  for (int group = 0; group < 8; ++group) {
    const std::uint8_t* qs = b.qs + 32 * (group / 4);
    for (int j = 0; j < 32; ++j) {
      out[32 * group + j] = static_cast<float>(((qs[j] >> (2 * (group % 4))) & 3) - 1) * d;
    }
  }
}

}  // namespace nemo
