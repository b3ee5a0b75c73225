// Arithmetic of quantized KV caches: rotation of head vectors, codecs of 16-token tiles, and the
// two products of attention on packed tiles.
//
//   key tile:    y[t] = T k[t] ~ s[g][t] * level(code)      score[r, t] = q~[r] . y[t],  q~ = T q
//   value tile:  z[t] = T v[t] ~ u[g][t] * level(code)      out~[r] += sum_t p[r, t] z[t]
//
// Byte layout of a tile of 16 tokens and D channels. Codes stand in D/4 rows of 64 bytes:
//   keys:    row j:        byte 4t + c = token t, channel 4j + c
//   values:  row 4b + t4:  byte 4c + i = token 4*t4 + i, channel 16b + c
// and are cut into bit planes, one behind the other (a width is the sum of its planes):
//   8 bits  the rows themselves (two's complement for int8, unsigned for affine)
//   4-bit plane  row r holds rows 2r (low nibbles) and 2r+1 (high nibbles)
//   2-bit plane  row r holds rows 4r..4r+3 in bits 0-1, 2-3, 4-5, 6-7
//   1-bit plane  8 bytes a row: bit i of the little-endian word = byte i of the row
// The widest plane holds the lowest bits. Scales: 16 halfs a group, [g][t]; affine tiles have as
// many biases behind them.
#pragma once

#include <nemo/base/half.hpp>

#include <cstddef>
#include <cstdint>

namespace nemo {

inline constexpr std::int64_t kKvTileTokens = 16;
inline constexpr std::int64_t kKvMaxDim = 256;

/// How a code becomes a number, before the scale.
enum class KvCode : std::uint8_t {
  lloyd_max,  // 2..7 bits: level of the codebook for N(0,1), ascending
  int8,       // 8 bits: the code itself, scale = absmax/127
  affine,     // 2..8 bits: value = scale * code + bias, mlx-lm's rule
};

/// What the scale of a lloyd_max group preserves; y: the rotated group, c: its levels.
enum class KvScale : std::uint8_t {
  unbiased,       // |y|^2 / (y.c): inner products keep their expectation (keys)
  least_squares,  // (y.c) / (c.c): least squared error (values)
  rms,            // sqrt(mean y^2): the convention of turboquant-mlx
};

/// How the keys or the values of one head are coded.
struct KvSide {
  std::int32_t dim;    // channels of a head: a multiple of 16, at most kKvMaxDim
  std::int32_t bits;   // of a code
  std::int32_t group;  // channels that share a scale; a multiple of 16 that divides dim
  KvCode code;
  KvScale scale;
  bool values;  // order of the rows: false for keys

  [[nodiscard]] constexpr std::int64_t groups() const noexcept { return dim / group; }
  [[nodiscard]] constexpr std::int64_t tile_bytes() const noexcept {
    return kKvTileTokens * dim * bits / 8;
  }
  /// Halfs beside one tile.
  [[nodiscard]] constexpr std::int64_t tile_scales() const noexcept {
    return kKvTileTokens * groups() * (code == KvCode::affine ? 2 : 1);
  }
};

/// Consecutive tiles of one head: codes tile_bytes() apart, scales tile_scales() apart.
struct KvTiles {
  const std::byte* codes;  // 64-byte aligned
  const Half* scales;
  std::int64_t count;
};

/// One stage of an orthogonal transform, up to the factor of the whole.
struct KvStage {
  enum class Kind : std::uint8_t {
    signs,     // x_i <- values[i] x_i
    hadamard,  // unnormalised Walsh-Hadamard transform of each span of `order` channels
    rotor,     // quartets v <- q v, q = values[4 blocks] = (+-1, +-1, +-1, +-1) as a quaternion
    matrix,    // x <- M x on blocks of `order` channels, values [blocks, order, order]
  };
  Kind kind;
  std::int32_t order;
  std::int32_t blocks;        // of rotor and matrix
  const std::int16_t* index;  // [blocks, order] channels of each block (rotor: order 4)
  const float* values;
};

/// T = factor * (last stage ... first stage), orthogonal; its inverse is its transpose.
struct KvTransform {
  const KvStage* stages;
  std::int32_t count;  // 0: the identity
  std::int32_t dim;
  float factor;
};

/// Query rows in the rotated domain, and the same rows as the score kernel wants them.
struct KvQueries {
  const float* rows;        // [n, dim]
  const std::byte* packed;  // as pack_queries() left it; null for policies that need none
};

/// Layout of packed queries: 16-bit codes with one scale per row and group of the keys.
struct KvPackedQueries {
  std::int16_t* codes;  // [rows, dim], every quad of channels in the order 0, 2, 1, 3
  float* scales;        // [rows, groups]
  std::int32_t* sums;   // [rows, groups] sum of the group's codes
  /// [rows, groups] what dots start from where products are Winograd's
  /// (kernels/cpu/simd/kv_winograd-inl.hpp), else nothing.
  std::int32_t* starts;

  static constexpr std::int64_t bytes(const KvSide& keys, std::int64_t rows) noexcept {
    return (rows * (2 * keys.dim + 12 * keys.groups()) + 63) / 64 * 64;
  }
  static KvPackedQueries at(void* packed, const KvSide& keys, std::int64_t rows) noexcept {
    auto* base = static_cast<std::byte*>(packed);
    std::byte* scales = base + 2 * rows * keys.dim;
    const std::int64_t array_bytes = 4 * rows * keys.groups();
    return {reinterpret_cast<std::int16_t*>(base), reinterpret_cast<float*>(scales),
            reinterpret_cast<std::int32_t*>(scales + array_bytes),
            reinterpret_cast<std::int32_t*>(scales + 2 * array_bytes)};
  }
};

/// rotate, encode and decode give the same bits on every instruction set; scores and mix may round
/// queries and weights to 16 bits, and levels of codebooks to 1/127 of the largest.
struct KvKernels {
  /// rows [count, dim] <- T rows, or the inverse.
  void (*rotate)(const KvTransform& transform, bool inverse, float* rows, std::int64_t ld,
                 std::int64_t count) noexcept;
  /// Writes tokens [first, first + count) of one tile; its other tokens keep their bits.
  /// rows [count, dim]. Scales are finite whatever the rows hold.
  void (*encode)(const KvSide& side, const float* rows, std::int64_t ld, std::int64_t first,
                 std::int64_t count, std::byte* codes, Half* scales) noexcept;
  /// rows [16, dim] of one tile.
  void (*decode)(const KvSide& side, const std::byte* codes, const Half* scales, float* rows,
                 std::int64_t ld) noexcept;
  void (*pack_queries)(const KvSide& keys, const float* q, std::int64_t rows,
                       std::byte* packed) noexcept;
  /// out[r*ldo + t] = q[r] . key t for all tokens of the tiles
  void (*scores)(const KvSide& keys, const KvTiles& tiles, const KvQueries& q, std::int64_t rows,
                 float* out, std::int64_t ldo) noexcept;
  /// out[r*ldo + c] += sum_t p[r*ldp + t] * value[t, c]
  void (*mix)(const KvSide& values, const KvTiles& tiles, const float* p, std::int64_t ldp,
              std::int64_t rows, float* out, std::int64_t ldo) noexcept;
};

}  // namespace nemo
