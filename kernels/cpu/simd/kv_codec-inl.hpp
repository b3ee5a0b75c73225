// Rotation and codecs of KV tiles, 16 tokens side by side.
//
// Every loop over tokens is elementwise and every sum over channels runs in channel order, so the
// result has the same bits however wide the compiler makes the lanes, provided that it forms no
// fused multiply-add: files that include this are compiled with -ffp-contract=off.
#pragma once

#include <nemo/kv_kernels.hpp>
#include <nemo/tensor/lloyd_max.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace nemo {
namespace {

constexpr int kLaneTokens = 16;
using Row = float[kLaneTokens];  // one channel of 16 tokens

// --- rotation -------------------------------------------------------------------------------

// Stages work on channels of kCount vectors side by side: 16, or one alone. Either way a channel of
// a vector sees the same operations in the same order.

/// 4 x 4 floats, transposed: 16 vectors change between rows and lanes in blocks of that.
inline void transpose4(const float* from, std::int64_t from_ld, float* to, std::int64_t to_ld) {
  using Four = float __attribute__((vector_size(16)));
  Four r[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&r[i], from + i * from_ld, sizeof r[i]);
  const Four a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
  const Four b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const Four c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const Four d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  const Four columns[4] = {
      __builtin_shufflevector(a, c, 0, 1, 4, 5), __builtin_shufflevector(a, c, 2, 3, 6, 7),
      __builtin_shufflevector(b, d, 0, 1, 4, 5), __builtin_shufflevector(b, d, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(to + i * to_ld, &columns[i], sizeof columns[i]);
}

/// x[c][t] = channel c of row t for t < count, 0 behind; dim is a multiple of 4.
inline void to_lanes(const float* rows, std::int64_t ld, std::int64_t count, std::int64_t dim,
                     Row* x) {
  for (std::int64_t t = 0; t < kLaneTokens; t += 4) {
    for (std::int64_t c = 0; c < dim; c += 4) {
      if (t + 4 <= count) {
        transpose4(rows + t * ld + c, ld, &x[c][t], kLaneTokens);
        continue;
      }
      for (std::int64_t i = t; i < t + 4; ++i) {
        for (std::int64_t k = c; k < c + 4; ++k) x[k][i] = i < count ? rows[i * ld + k] : 0.0f;
      }
    }
  }
}

inline void from_lanes(const Row* x, std::int64_t count, std::int64_t dim, float* rows,
                       std::int64_t ld) {
  for (std::int64_t t = 0; t < count; t += 4) {
    for (std::int64_t c = 0; c < dim; c += 4) {
      if (t + 4 <= count) {
        transpose4(&x[c][t], kLaneTokens, rows + t * ld + c, ld);
        continue;
      }
      for (std::int64_t i = t; i < count; ++i) {
        for (std::int64_t k = c; k < c + 4; ++k) rows[i * ld + k] = x[k][i];
      }
    }
  }
}

/// Two stages of butterflies at a time, h and 2h apart: half the traffic.
template <int kCount>
void hadamard(float (*x)[kCount], std::int64_t dim, std::int64_t order) {
  std::int64_t h = 1;
  for (; 4 * h <= order; h *= 4) {
    for (std::int64_t base = 0; base < dim; base += 4 * h) {
      for (std::int64_t i = base; i < base + h; ++i) {
        float a[kCount], b[kCount], c[kCount], d[kCount];
        for (int t = 0; t < kCount; ++t) {
          a[t] = x[i][t] + x[i + h][t];
          b[t] = x[i][t] - x[i + h][t];
          c[t] = x[i + 2 * h][t] + x[i + 3 * h][t];
          d[t] = x[i + 2 * h][t] - x[i + 3 * h][t];
        }
        for (int t = 0; t < kCount; ++t) x[i][t] = a[t] + c[t];
        for (int t = 0; t < kCount; ++t) x[i + h][t] = b[t] + d[t];
        for (int t = 0; t < kCount; ++t) x[i + 2 * h][t] = a[t] - c[t];
        for (int t = 0; t < kCount; ++t) x[i + 3 * h][t] = b[t] - d[t];
      }
    }
  }
  for (; h < order; h *= 2) {
    for (std::int64_t base = 0; base < dim; base += 2 * h) {
      for (std::int64_t i = base; i < base + h; ++i) {
        for (int t = 0; t < kCount; ++t) {
          const float a = x[i][t], b = x[i + h][t];
          x[i][t] = a + b;
          x[i + h][t] = a - b;
        }
      }
    }
  }
}

/// (w, x, y, z) <- q (w, x, y, z) for q = a + bi + cj + dk.
template <int kCount>
void rotor(float (*v)[kCount], const std::int16_t* at, float a, float b, float c, float d) {
  float w[kCount], x[kCount], y[kCount], z[kCount];
  std::memcpy(w, v[at[0]], sizeof w);
  std::memcpy(x, v[at[1]], sizeof x);
  std::memcpy(y, v[at[2]], sizeof y);
  std::memcpy(z, v[at[3]], sizeof z);
  for (int t = 0; t < kCount; ++t) v[at[0]][t] = ((a * w[t] - b * x[t]) - c * y[t]) - d * z[t];
  for (int t = 0; t < kCount; ++t) v[at[1]][t] = ((b * w[t] + a * x[t]) - d * y[t]) + c * z[t];
  for (int t = 0; t < kCount; ++t) v[at[2]][t] = ((c * w[t] + d * x[t]) + a * y[t]) - b * z[t];
  for (int t = 0; t < kCount; ++t) v[at[3]][t] = ((d * w[t] - c * x[t]) + b * y[t]) + a * z[t];
}

template <int kCount>
void matrix(float (*v)[kCount], const std::int16_t* at, const float* m, int order,
            bool transposed) {
  float y[4][kCount];
  for (int r = 0; r < order; ++r) {
    for (int t = 0; t < kCount; ++t) y[r][t] = 0.0f;
    for (int k = 0; k < order; ++k) {
      const float f = transposed ? m[k * order + r] : m[r * order + k];
      for (int t = 0; t < kCount; ++t) y[r][t] += f * v[at[k]][t];
    }
  }
  for (int r = 0; r < order; ++r) std::memcpy(v[at[r]], y[r], sizeof y[r]);
}

template <int kCount>
void apply(const KvStage& stage, bool inverse, std::int64_t dim, float (*x)[kCount]) {
  const float sign = inverse ? -1.0f : 1.0f;  // the inverse of a unit quaternion is its conjugate
  switch (stage.kind) {
    case KvStage::Kind::signs:
      for (std::int64_t c = 0; c < dim; ++c) {
        for (int t = 0; t < kCount; ++t) x[c][t] *= stage.values[c];
      }
      break;
    case KvStage::Kind::hadamard:
      hadamard(x, dim, stage.order);
      break;
    case KvStage::Kind::rotor:
      for (int b = 0; b < stage.blocks; ++b) {
        const float* q = stage.values + 4 * b;
        rotor(x, stage.index + 4 * b, q[0], sign * q[1], sign * q[2], sign * q[3]);
      }
      break;
    case KvStage::Kind::matrix:
      for (int b = 0; b < stage.blocks; ++b) {
        matrix(x, stage.index + stage.order * b, stage.values + stage.order * stage.order * b,
               stage.order, inverse);
      }
      break;
  }
}

template <int kCount>
void apply_all(const KvTransform& transform, bool inverse, float (*x)[kCount]) {
  for (int s = 0; s < transform.count; ++s) {
    apply(transform.stages[inverse ? transform.count - 1 - s : s], inverse, transform.dim, x);
  }
  for (std::int64_t c = 0; c < transform.dim; ++c) {
    for (int t = 0; t < kCount; ++t) x[c][t] *= transform.factor;
  }
}

void kv_rotate(const KvTransform& transform, bool inverse, float* rows, std::int64_t ld,
               std::int64_t count) noexcept {
  if (transform.count == 0) return;
  const std::int64_t dim = transform.dim;
  std::int64_t first = 0;
  for (; first + 1 < count; first += kLaneTokens) {
    alignas(64) Row x[kKvMaxDim];
    const std::int64_t n = count - first < kLaneTokens ? count - first : kLaneTokens;
    to_lanes(rows + first * ld, ld, n, dim, x);
    apply_all(transform, inverse, x);
    from_lanes(x, n, dim, rows + first * ld, ld);
  }
  if (first < count) {
    apply_all(transform, inverse, reinterpret_cast<float(*)[1]>(rows + first * ld));
  }
}

// --- bit planes -----------------------------------------------------------------------------

/// codes [rows, 64] -> planes.
template <int kBits>
void pack_planes(const std::uint8_t* codes, std::int64_t rows, std::byte* tile) {
  auto* to = reinterpret_cast<std::uint8_t*>(tile);
  if constexpr (kBits == 8) {
    std::memcpy(to, codes, static_cast<std::size_t>(rows) * 64);
    return;
  }
  if constexpr ((kBits & 4) != 0) {
    for (std::int64_t r = 0; r < rows; r += 2, to += 64) {
      const std::uint8_t* c = codes + r * 64;
      for (int i = 0; i < 64; ++i) {
        to[i] = static_cast<std::uint8_t>((c[i] & 15) | (c[64 + i] & 15) << 4);
      }
    }
  }
  if constexpr ((kBits & 2) != 0) {
    constexpr int kShift = (kBits & 4) != 0 ? 4 : 0;
    for (std::int64_t r = 0; r < rows; r += 4, to += 64) {
      const std::uint8_t* c = codes + r * 64;
      for (int i = 0; i < 64; ++i) {
        to[i] = static_cast<std::uint8_t>(
            ((c[i] >> kShift) & 3) | ((c[64 + i] >> kShift) & 3) << 2 |
            ((c[128 + i] >> kShift) & 3) << 4 | ((c[192 + i] >> kShift) & 3) << 6);
      }
    }
  }
  if constexpr ((kBits & 1) != 0) {
    for (std::int64_t i = 0; i < rows * 8; ++i) {
      const std::uint8_t* c = codes + i * 8;
      unsigned byte = 0;
      for (int k = 0; k < 8; ++k) byte |= ((c[k] >> (kBits - 1)) & 1u) << k;
      to[i] = static_cast<std::uint8_t>(byte);
    }
  }
}

/// planes -> codes [rows, 64].
template <int kBits>
void unpack_planes(const std::byte* tile, std::int64_t rows, std::uint8_t* codes) {
  const auto* from = reinterpret_cast<const std::uint8_t*>(tile);
  if constexpr (kBits == 8) {
    std::memcpy(codes, from, static_cast<std::size_t>(rows) * 64);
    return;
  }
  std::memset(codes, 0, static_cast<std::size_t>(rows) * 64);
  if constexpr ((kBits & 4) != 0) {
    for (std::int64_t r = 0; r < rows; r += 2, from += 64) {
      std::uint8_t* c = codes + r * 64;
      for (int i = 0; i < 64; ++i) {
        c[i] = from[i] & 15;
        c[64 + i] = static_cast<std::uint8_t>(from[i] >> 4);
      }
    }
  }
  if constexpr ((kBits & 2) != 0) {
    constexpr int kShift = (kBits & 4) != 0 ? 4 : 0;
    for (std::int64_t r = 0; r < rows; r += 4, from += 64) {
      std::uint8_t* c = codes + r * 64;
      for (int k = 0; k < 4; ++k) {
        for (int i = 0; i < 64; ++i) {
          c[64 * k + i] =
              static_cast<std::uint8_t>(c[64 * k + i] | ((from[i] >> 2 * k) & 3) << kShift);
        }
      }
    }
  }
  if constexpr ((kBits & 1) != 0) {
    for (std::int64_t i = 0; i < rows * 8; ++i) {
      std::uint8_t* c = codes + i * 8;
      for (int k = 0; k < 8; ++k) {
        c[k] = static_cast<std::uint8_t>(c[k] | ((from[i] >> k) & 1) << (kBits - 1));
      }
    }
  }
}

/// Where token t, channel c stands among the bytes of a tile.
inline std::int64_t code_at(bool values, std::int64_t t, std::int64_t c) {
  return values ? (c / 16 * 4 + t / 4) * 64 + c % 16 * 4 + t % 4 : c / 4 * 64 + 4 * t + c % 4;
}

// --- codecs ---------------------------------------------------------------------------------

constexpr float kHalfMax = 65504.0f;

/// Not finite or negative: the largest half.
inline float finite_scale(float s) { return s >= 0.0f && s < kHalfMax ? s : kHalfMax; }
inline float finite(float x) { return x > -kHalfMax ? (x < kHalfMax ? x : kHalfMax) : -kHalfMax; }

/// Nearest integer, ties to even; adding 1.5 * 2^23 leaves no fraction bits.
inline float nearest(float x) {
  const float magic = 12582912.0f;
  const float r = (x + magic) - magic;
  return x > -4194304.0f && x < 4194304.0f ? r : x;
}
/// NaN becomes `low`.
inline float clamped(float x, float low, float high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}

struct LevelTable {
  float levels[128];
  float borders[127];
};
template <int kBits>
constexpr LevelTable make_level_table() {
  LevelTable table{};
  const auto levels = lloyd_max_levels<kBits>();
  for (std::size_t k = 0; k < levels.size(); ++k) table.levels[k] = levels[k];
  for (std::size_t k = 0; k + 1 < levels.size(); ++k) {
    table.borders[k] = 0.5f * (levels[k] + levels[k + 1]);
  }
  return table;
}
template <int kBits>
constexpr LevelTable kLevelTable = make_level_table<kBits>();

/// x, codes: the channels of one group.
template <int kBits>
void encode_lloyd_max(const Row* x, std::int64_t n, KvScale kind, std::uint8_t (*codes)[16],
                      float* scale) {
  const LevelTable& table = kLevelTable<kBits>;
  constexpr int kBorders = (1 << kBits) - 1;
  alignas(64) Row norm2 = {}, dot = {}, cc = {}, inverse, sigma;
  for (std::int64_t c = 0; c < n; ++c) {
    for (int t = 0; t < kLaneTokens; ++t) norm2[t] += x[c][t] * x[c][t];
  }
  for (int t = 0; t < kLaneTokens; ++t) {
    sigma[t] = __builtin_sqrtf(norm2[t] / static_cast<float>(n));
    inverse[t] = sigma[t] > 0.0f ? 1.0f / sigma[t] : 0.0f;
  }
  for (std::int64_t c = 0; c < n; ++c) {
    alignas(64) std::int32_t index[kLaneTokens] = {};
    alignas(64) Row z;
    for (int t = 0; t < kLaneTokens; ++t) z[t] = x[c][t] * inverse[t];
    for (int k = 0; k < kBorders; ++k) {
      for (int t = 0; t < kLaneTokens; ++t) index[t] += z[t] >= table.borders[k] ? 1 : 0;
    }
    for (int t = 0; t < kLaneTokens; ++t) {
      const float level = table.levels[index[t]];
      codes[c][t] = static_cast<std::uint8_t>(index[t]);
      dot[t] += x[c][t] * level;
      cc[t] += level * level;
    }
  }
  for (int t = 0; t < kLaneTokens; ++t) {
    const float s = kind == KvScale::unbiased        ? norm2[t] / dot[t]
                    : kind == KvScale::least_squares ? dot[t] / cc[t]
                                                     : sigma[t];
    scale[t] = norm2[t] == 0.0f ? 0.0f : finite_scale(s);
  }
}

inline void encode_int8(const Row* x, std::int64_t n, std::uint8_t (*codes)[16], float* scale) {
  alignas(64) Row largest = {}, inverse;
  for (std::int64_t c = 0; c < n; ++c) {
    for (int t = 0; t < kLaneTokens; ++t) {
      const float a = __builtin_fabsf(x[c][t]);
      largest[t] = a > largest[t] ? a : largest[t];
    }
  }
  for (int t = 0; t < kLaneTokens; ++t) {
    inverse[t] = largest[t] > 0.0f ? 127.0f / largest[t] : 0.0f;
    scale[t] = finite_scale(largest[t] / 127.0f);
  }
  for (std::int64_t c = 0; c < n; ++c) {
    for (int t = 0; t < kLaneTokens; ++t) {
      const float v = clamped(nearest(x[c][t] * inverse[t]), -127.0f, 127.0f);
      codes[c][t] = static_cast<std::uint8_t>(static_cast<std::int32_t>(v));
    }
  }
}

/// The edge of larger magnitude is exact: scale = edge / round(edge / scale), bias = edge.
inline void encode_affine(const Row* x, std::int64_t n, int bits, std::uint8_t (*codes)[16],
                          float* scale, float* bias) {
  const auto top = static_cast<float>((1 << bits) - 1);
  alignas(64) Row low, high;
  for (int t = 0; t < kLaneTokens; ++t) low[t] = high[t] = finite(x[0][t]);
  for (std::int64_t c = 1; c < n; ++c) {
    for (int t = 0; t < kLaneTokens; ++t) {
      const float v = finite(x[c][t]);
      low[t] = v < low[t] ? v : low[t];
      high[t] = v > high[t] ? v : high[t];
    }
  }
  for (int t = 0; t < kLaneTokens; ++t) {
    const bool from_low = __builtin_fabsf(low[t]) > __builtin_fabsf(high[t]);
    float s = (high[t] - low[t]) / top;
    s = s > 1e-7f ? s : 1e-7f;
    s = from_low ? s : -s;
    const float edge = from_low ? low[t] : high[t];
    const float steps = nearest(edge / s);
    scale[t] = steps != 0.0f ? edge / steps : s;
    bias[t] = steps != 0.0f ? edge : 0.0f;
  }
  for (std::int64_t c = 0; c < n; ++c) {
    for (int t = 0; t < kLaneTokens; ++t) {
      const float v = nearest((finite(x[c][t]) - bias[t]) / scale[t]);
      codes[c][t] = static_cast<std::uint8_t>(static_cast<std::int32_t>(clamped(v, 0.0f, top)));
    }
  }
}

template <int kBits>
void encode_tile(const KvSide& side, const float* rows, std::int64_t ld, std::int64_t first,
                 std::int64_t count, std::byte* tile, Half* scales) {
  alignas(64) Row x[kKvMaxDim];
  alignas(64) std::uint8_t codes[kKvMaxDim][16];
  to_lanes(rows, ld, count, side.dim, x);
  const std::int64_t groups = side.groups();
  for (std::int64_t g = 0; g < groups; ++g) {
    const Row* from = x + g * side.group;
    std::uint8_t(*to)[16] = codes + g * side.group;
    alignas(64) Row scale, bias;
    if (side.code == KvCode::affine) {
      encode_affine(from, side.group, kBits, to, scale, bias);
    } else if constexpr (kBits == 8) {
      encode_int8(from, side.group, to, scale);
    } else {
      encode_lloyd_max<kBits>(from, side.group, side.scale, to, scale);
    }
    for (std::int64_t t = 0; t < count; ++t) {
      scales[g * kLaneTokens + first + t] = to_half(scale[t]);
      if (side.code == KvCode::affine) {
        scales[(groups + g) * kLaneTokens + first + t] = to_half(bias[t]);
      }
    }
  }
  alignas(64) std::uint8_t bytes[kKvMaxDim * 16];
  if (count < kLaneTokens) unpack_planes<kBits>(tile, side.dim / 4, bytes);
  for (std::int64_t c = 0; c < side.dim; ++c) {
    for (std::int64_t t = 0; t < count; ++t) {
      bytes[code_at(side.values, first + t, c)] = codes[c][t];
    }
  }
  pack_planes<kBits>(bytes, side.dim / 4, tile);
}

template <int kBits>
float level_of(KvCode code, std::uint8_t c) {
  if (code == KvCode::affine) return static_cast<float>(c);
  if constexpr (kBits == 8) return static_cast<float>(static_cast<std::int8_t>(c));
  return kLevelTable < kBits < 8 ? kBits : 7 >.levels[c & 127];
}

template <int kBits>
void decode_tile(const KvSide& side, const std::byte* tile, const Half* scales, float* rows,
                 std::int64_t ld) {
  alignas(64) std::uint8_t bytes[kKvMaxDim * 16];
  unpack_planes<kBits>(tile, side.dim / 4, bytes);
  const std::int64_t groups = side.groups();
  for (std::int64_t t = 0; t < kLaneTokens; ++t) {
    for (std::int64_t c = 0; c < side.dim; ++c) {
      const std::int64_t g = c / side.group;
      float v = to_float(scales[g * kLaneTokens + t]) *
                level_of<kBits>(side.code, bytes[code_at(side.values, t, c)]);
      if (side.code == KvCode::affine) v += to_float(scales[(groups + g) * kLaneTokens + t]);
      rows[t * ld + c] = v;
    }
  }
}

/// Calls fn with the width as a compile-time constant.
template <class Fn>
void with_bits(std::int32_t bits, Fn fn) {
  switch (bits) {
    case 2:
      return fn(std::integral_constant<int, 2>{});
    case 3:
      return fn(std::integral_constant<int, 3>{});
    case 4:
      return fn(std::integral_constant<int, 4>{});
    case 5:
      return fn(std::integral_constant<int, 5>{});
    case 6:
      return fn(std::integral_constant<int, 6>{});
    case 7:
      return fn(std::integral_constant<int, 7>{});
    default:
      return fn(std::integral_constant<int, 8>{});
  }
}

void kv_encode(const KvSide& side, const float* rows, std::int64_t ld, std::int64_t first,
               std::int64_t count, std::byte* codes, Half* scales) noexcept {
  with_bits(side.bits, [&](auto bits) {
    encode_tile<decltype(bits)::value>(side, rows, ld, first, count, codes, scales);
  });
}

void kv_decode(const KvSide& side, const std::byte* codes, const Half* scales, float* rows,
               std::int64_t ld) noexcept {
  with_bits(side.bits,
            [&](auto bits) { decode_tile<decltype(bits)::value>(side, codes, scales, rows, ld); });
}

}  // namespace
}  // namespace nemo
