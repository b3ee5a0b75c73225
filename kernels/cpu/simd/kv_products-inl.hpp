// Integer products on packed KV tiles; included after the instruction set's vector.hpp.
//
// A tile is expanded once to 16-bit levels and then serves all query rows. Products of pairs of
// 16-bit numbers add up in int32 and are exact; only queries and weights are rounded, to 16 bits:
//   score[r, t] = sum_g qs[r, g] * ks[g, t] * sum_c q16[r, c] * level[t, c]
//   out[r, c]  += unit[r] * sum_t w16[r, t] * level[t, c],    w = p * scale of the token
// Lanes are 16 tokens of a key tile or 16 channels of a value tile, the codes of a lane are quads
// of channels or tokens: nothing is ever summed across lanes. Levels of a codebook are rounded: up
// to 5 bits to 1/127 of the largest, which adds 0.4 to 2.2 % to the error of the codes; 6 and 7
// bits to 1/1023, against queries and weights of 14 bits, so that sums stay in int32.
#pragma once

#include "ahead-inl.hpp"

#include <nemo/kv_kernels.hpp>
#include <nemo/tensor/lloyd_max.hpp>

namespace nemo {
namespace {

constexpr std::int64_t kBatchTiles = 8;
constexpr std::int64_t kBatchTokens = kBatchTiles * kKvTileTokens;
// Codes are read ahead: those of the batch behind, or for scores this many tiles.
constexpr std::int64_t kTilesAhead = 4;
/// Codebooks that bytes would blur.
constexpr bool wide_levels(int bits, bool affine) { return !affine && (bits == 6 || bits == 7); }
/// The largest magnitudes of levels, and of the queries and weights they meet.
constexpr std::int64_t level_top(int bits, bool affine) {
  return affine ? 255 : wide_levels(bits, affine) ? 1023 : bits == 8 ? 128 : 127;
}
/// The sum of a level and of an operand is a short (kv_winograd-inl.hpp).
constexpr std::int64_t operand_top(int bits, bool affine) {
  return wide_levels(bits, affine) ? 8191 : 32767 - level_top(8, true);
}
// Sums run over a group of keys or a batch of values.
static_assert(kKvMaxDim * operand_top(8, true) * level_top(8, true) < std::int64_t{1} << 31 &&
              kKvMaxDim * operand_top(7, false) * level_top(7, false) < std::int64_t{1} << 31 &&
              kBatchTokens <= kKvMaxDim);

// A row of 64 codes is kRowVectors vectors of bytes, or of int32 lanes.
constexpr int kRowVectors = 16 / kLanes;
// Expanded rows: 32 shorts with codes 0 and 2 of every lane, then 32 with codes 1 and 3.
constexpr std::int64_t kRowShorts = 64;

/// level = scale * (256 * high + low); up to 5 bits low alone, as a signed byte.
template <int kBits>
struct Levels {
  alignas(64) std::int8_t low[1 << kBits], high[1 << kBits];
  float scale;
};
template <int kBits>
constexpr Levels<kBits> make_levels() {
  Levels<kBits> table{};
  const auto levels = lloyd_max_levels<kBits>();
  const float largest = levels[levels.size() - 1];
  constexpr auto kTop = static_cast<float>(level_top(kBits, false));
  for (std::size_t k = 0; k < levels.size(); ++k) {
    const float x = levels[k] / largest * kTop;
    const auto level = static_cast<int>(x < 0 ? x - 0.5f : x + 0.5f);
    table.low[k] = static_cast<std::int8_t>(level & 255);
    table.high[k] = static_cast<std::int8_t>(level >> 8);
  }
  table.scale = largest / kTop;
  return table;
}
template <int kBits>
constexpr Levels<kBits> kLevels = make_levels<kBits>();

/// Expands rows of 64 codes to levels.
template <int kBits, bool kAffine>
class CodeRows {
  static constexpr bool kTable = kBits < 8 && !kAffine;
  static constexpr bool kWide = wide_levels(kBits, kAffine);
  static constexpr int kTables = kTable && kBits > 4 ? 1 << (kBits - 4) : 1;

 public:
  static constexpr float kScale = [] {
    if constexpr (kTable) return kLevels<kBits>.scale;
    return 1.0f;
  }();

  NEMO_SIMD CodeRows() {
    if constexpr (kTable) {
      fill(kLevels<kBits>.low, low_);
      if constexpr (kWide) fill(kLevels<kBits>.high, high_);
    }
  }

  /// Rows j..j+3 of a tile of `rows` rows; j is a multiple of 4.
  NEMO_SIMD void expand(const std::byte* tile, std::int64_t rows, std::int64_t j,
                        std::int16_t* out) const {
    const I low_bytes = all_words(0x00ff00ff);
    for (int v = 0; v < kRowVectors; ++v) {
      I codes[4];
      load(tile, rows, j, v, codes);
      for (int k = 0; k < 4; ++k) {
        const I level = kTable ? look_up_all(low_, codes[k]) : codes[k];
        std::int16_t* to = out + k * kRowShorts + v * 2 * kLanes;
        if constexpr (kAffine) {
          store_bytes(and_bits(level, low_bytes), to);
          store_bytes(and_bits(shift_right<8>(level), low_bytes), to + 32);
        } else if constexpr (kWide) {
          const I high = look_up_all(high_, codes[k]);
          store_bytes(or_bits(shift_left<8>(high), and_bits(level, low_bytes)), to);
          store_bytes(or_bits(and_bits(high, all_words(-0x00ff0100)), shift_right<8>(level)),
                      to + 32);
        } else {
          store_bytes(shift_signed_right<8>(shift_left<8>(level)), to);
          store_bytes(shift_signed_right<8>(level), to + 32);
        }
      }
    }
  }

 private:
  /// Vector v of four rows of codes.
  NEMO_SIMD static void load(const std::byte* tile, std::int64_t rows, std::int64_t j, int v,
                             I (&out)[4]) {
    const std::int64_t at = v * 4 * kLanes;
    if constexpr (kBits == 8) {
      for (int k = 0; k < 4; ++k) out[k] = load_bytes(tile + (j + k) * 64 + at);
      return;
    }
    for (I& code : out) code = all_bytes(0);
    if constexpr ((kBits & 4) != 0) {
      const I low = all_bytes(15);
      const I a = load_bytes(tile + j * 32 + at), b = load_bytes(tile + j * 32 + 64 + at);
      out[0] = and_bits(a, low);
      out[1] = and_bits(shift_right<4>(a), low);
      out[2] = and_bits(b, low);
      out[3] = and_bits(shift_right<4>(b), low);
      tile += rows * 32;
    }
    if constexpr ((kBits & 2) != 0) {
      const I mask = all_bytes((kBits & 4) != 0 ? 0x30 : 3);
      const I a = load_bytes(tile + j * 16 + at);
      if constexpr ((kBits & 4) != 0) {
        out[0] = or_bits(out[0], and_bits(shift_left<4>(a), mask));
        out[1] = or_bits(out[1], and_bits(shift_left<2>(a), mask));
        out[2] = or_bits(out[2], and_bits(a, mask));
        out[3] = or_bits(out[3], and_bits(shift_right<2>(a), mask));
      } else {
        out[0] = and_bits(a, mask);
        out[1] = and_bits(shift_right<2>(a), mask);
        out[2] = and_bits(shift_right<4>(a), mask);
        out[3] = and_bits(shift_right<6>(a), mask);
      }
      tile += rows * 16;
    }
    if constexpr ((kBits & 1) != 0) {
      const I top = all_bytes(1 << (kBits - 1));
      for (int k = 0; k < 4; ++k) {
        out[k] = or_bits(out[k], and_bits(spread_bits(tile + (j + k) * 8 + at / 8), top));
      }
    }
  }

  NEMO_SIMD static void fill(const std::int8_t* bytes, I (&tables)[kTables]) {
    for (int n = 0; n < kTables; ++n) {
      alignas(16) std::int8_t chunk[16] = {};
      __builtin_memcpy(chunk, bytes + 16 * n, kBits > 4 ? 16 : 1 << kBits);
      tables[n] = broadcast_16_bytes(chunk);
    }
  }
  NEMO_SIMD static I look_up_all(const I (&tables)[kTables], I code) {
    if constexpr (kTables == 1) {
      return look_up(tables[0], code);
    } else {
      // In the table of a code's own high bits its index is in [0, 16), in others above: 0.
      I byte = all_bytes(0);
      for (int n = 0; n < kTables; ++n) {
        const I index = xor_bits(code, all_bytes(n << 4));
        byte = or_bits(byte, look_up_or_zero(tables[n], index));
      }
      return byte;
    }
  }

  I low_[kTables] = {}, high_[kWide ? kTables : 1] = {};
};

/// Rounds n numbers, a multiple of 16, to integers of magnitude up to `limit`; every quad in the
/// order 0, 2, 1, 3, as expanded rows are. Returns the unit.
template <class At>
NEMO_SIMD float round_to_shorts(std::int64_t n, float limit, At at, std::int16_t* out,
                                std::int32_t* sum) {
  F most(0.0f);
  for (std::int64_t i = 0; i < n; i += kLanes) most = greater(absolute(at(i)), most);
  const float top = largest(most);
  const F inverse(top > 0.0f ? limit / top : 0.0f);
  std::int32_t total = 0;
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const F code = at(i) * inverse;
    store_quads(code, out + i);
    if (sum != nullptr) total += sum_rounded(code);
  }
  if (sum != nullptr) *sum = total;
  return top / limit;
}

/// How products of a level and an operand add up: one after the other.
struct PlainKv {
  static constexpr bool kWinograd = false;
};

template <class Products>
void pack_queries(const KvSide& keys, const float* q, std::int64_t rows,
                  std::byte* packed) noexcept {
  const KvPackedQueries to = KvPackedQueries::at(packed, keys, rows);
  const auto limit = static_cast<float>(operand_top(keys.bits, keys.code == KvCode::affine));
  for (std::int64_t i = 0; i < rows * keys.groups(); ++i) {  // groups of a row lie side by side
    const float* x = q + i * keys.group;
    to.scales[i] = round_to_shorts(
        keys.group, limit, [&](std::int64_t c) NEMO_SIMD_LAMBDA { return nemo::load(x + c); },
        to.codes + i * keys.group, to.sums + i);
    if constexpr (Products::kWinograd) {
      to.starts[i] = Products::start_of(to.codes + i * keys.group, keys.group);
    }
  }
}

/// Quads of codes to a step of products and of reading ahead.
constexpr std::int64_t kStepQuads = 4;

/// acc[r] lane l = sum over quads of (lane l of the expanded rows) . (quad of operand row r);
/// starts [kRows, start_stride] are Products::start_of those rows. Takes quads / kStepQuads steps
/// ahead.
template <class Products, int kRows>
NEMO_SIMD void dot_levels(const std::int16_t* levels, std::int64_t quads,
                          const std::int16_t* operand, std::int64_t ld, const std::int32_t* starts,
                          std::int64_t start_stride, I (&acc)[kRows][kRowVectors], Ahead& ahead) {
  Ahead next = ahead;
  for (int r = 0; r < kRows; ++r) {
    for (I& v : acc[r]) {
      v = Products::kWinograd ? broadcast_word(starts + r * start_stride) : all_words(0);
    }
  }
  I own[kRowVectors];  // the levels' part of the sums
  for (I& v : own) v = all_words(0);
  // One half of a quad at a time, in this order: left to itself gcc multiplies everything first,
  // then runs out of registers and reads levels and sums from memory again.
  const auto load_half = [&](std::int64_t half, I(&level)[kRowVectors]) NEMO_SIMD_LAMBDA {
    for (int v = 0; v < kRowVectors; ++v) {
      level[v] = in_register(load_bytes(levels + half * 32 + v * 2 * kLanes));
    }
  };
  const auto add_half = [&](std::int64_t half) NEMO_SIMD_LAMBDA {
    I level[kRowVectors];
    load_half(half, level);
    for (int r = 0; r < kRows; ++r) {
      const I x = broadcast_word(operand + r * ld + 2 * half);
      for (int v = 0; v < kRowVectors; ++v) {
        acc[r][v] = in_register(add_dot_shorts(acc[r][v], level[v], x));
      }
    }
  };
  const auto add_quad = [&](std::int64_t half) NEMO_SIMD_LAMBDA {  // and that of half + 1
    if constexpr (Products::kWinograd) {
      I level[2][kRowVectors];
      load_half(half, level[0]);
      load_half(half + 1, level[1]);
      for (int v = 0; v < kRowVectors; ++v) {
        own[v] = add_dot_shorts(own[v], level[0][v], level[1][v]);
      }
      for (int r = 0; r < kRows; ++r) {
        const I x0 = broadcast_word(operand + r * ld + 2 * half);
        const I x1 = broadcast_word(operand + r * ld + 2 * half + 2);
        for (int v = 0; v < kRowVectors; ++v) {
          acc[r][v] = in_register(Products::add(acc[r][v], level[0][v], level[1][v], x0, x1));
        }
      }
    } else {
      add_half(half);
      add_half(half + 1);
    }
  };
  for (std::int64_t quad = 0; quad < quads; quad += kStepQuads) {
    next.step();
    const std::int64_t half = 2 * quad;
    add_half(half);
    add_half(half + 1);
    add_quad(half + 2);
    add_quad(half + 4);
    add_quad(half + 6);
  }
  for (int r = 0; r < kRows && Products::kWinograd; ++r) {
    for (int v = 0; v < kRowVectors; ++v) acc[r][v] = subtract_words(acc[r][v], own[v]);
  }
  ahead = next;
}

/// Blocks that for_row_blocks makes.
constexpr std::int64_t row_blocks(std::int64_t rows) {
  const std::int64_t rest = rows % kKvRows;
  return rows / kKvRows + rest / 4 + (rest % 4 != 0 ? 1 : 0);
}
/// Calls fn<kRows>(first row) for blocks of at most kKvRows rows.
template <class Fn>
NEMO_SIMD void for_row_blocks(std::int64_t rows, Fn fn) {
  std::int64_t r = 0;
  for (; r + kKvRows <= rows; r += kKvRows) fn.template operator()<kKvRows>(r);
  if constexpr (kKvRows > 4) {
    for (; r + 4 <= rows; r += 4) fn.template operator()<4>(r);
  }
  switch (rows - r) {
    case 3:
      return fn.template operator()<3>(r);
    case 2:
      return fn.template operator()<2>(r);
    case 1:
      return fn.template operator()<1>(r);
    default:
      return;
  }
}

template <class Products, int kBits, bool kAffine>
void score_tiles(const KvSide& keys, const KvTiles& tiles, const KvQueries& queries,
                 std::int64_t rows, float* out, std::int64_t ldo) noexcept {
  const KvPackedQueries q = KvPackedQueries::at(const_cast<std::byte*>(queries.packed), keys, rows);
  const CodeRows<kBits, kAffine> codes;
  const std::int64_t groups = keys.groups();
  alignas(64) std::int16_t levels[kKvMaxDim / 4 * kRowShorts];
  for (std::int64_t i = 0; i < tiles.count; ++i) {
    const std::byte* tile = tiles.codes + i * keys.tile_bytes();
    const Half* scales = tiles.scales + i * keys.tile_scales();
    for (std::int64_t j = 0; j < keys.dim / 4; j += 4) {
      codes.expand(tile, keys.dim / 4, j, levels + j * kRowShorts);
    }
    Ahead ahead(tile + kTilesAhead * keys.tile_bytes(), keys.tile_bytes(),
                row_blocks(rows) * (keys.dim / 4 / kStepQuads));
    for_row_blocks(rows, [&]<int kRows>(std::int64_t row) NEMO_SIMD_LAMBDA {
      for (std::int64_t g = 0; g < groups; ++g) {
        I acc[kRows][kRowVectors];
        dot_levels<Products>(levels + g * keys.group / 4 * kRowShorts, keys.group / 4,
                             q.codes + row * keys.dim + g * keys.group, keys.dim,
                             q.starts + row * groups + g, groups, acc, ahead);
        for (int v = 0; v < kRowVectors; ++v) {
          const Half* lanes = scales + g * 16 + v * kLanes;
          const F scale = load(lanes) * F(CodeRows<kBits, kAffine>::kScale);
          for (int r = 0; r < kRows; ++r) {
            const std::int64_t at = (row + r) * groups + g;
            F s = to_floats(acc[r][v]) * scale;
            if constexpr (kAffine) {
              s = fma(load(lanes + groups * 16), F(static_cast<float>(q.sums[at])), s);
            }
            float* to = out + (row + r) * ldo + i * 16 + v * kLanes;
            store(fma(s, F(q.scales[at]), g == 0 ? F(0.0f) : load(to)), to);
          }
        }
      }
    });
  }
}

template <class Products, int kBits, bool kAffine>
void mix_tiles(const KvSide& values, const KvTiles& tiles, const float* p, std::int64_t ldp,
               std::int64_t all_rows, float* out, std::int64_t ldo) noexcept {
  constexpr std::int64_t kMixRows = 64;
  const CodeRows<kBits, kAffine> codes;
  const std::int64_t groups = values.groups();
  alignas(64) std::int16_t levels[kBatchTiles * 4 * kRowShorts];
  alignas(64) std::int16_t weights[kMixRows * kBatchTokens];
  float units[kMixRows], offsets[kMixRows];
  std::int32_t starts[kMixRows];
  for (std::int64_t first = 0; first < tiles.count; first += kBatchTiles) {
    const std::int64_t rest = tiles.count - first;
    const std::int64_t n = rest < kBatchTiles ? rest : kBatchTiles;
    for (std::int64_t row0 = 0; row0 < all_rows; row0 += kMixRows) {
      const std::int64_t rows = all_rows - row0 < kMixRows ? all_rows - row0 : kMixRows;
      Ahead ahead;
      if (row0 == 0) {
        ahead = {tiles.codes + (first + n) * values.tile_bytes(), n * values.tile_bytes(),
                 values.dim / 16 * row_blocks(rows) * (n * 4 / kStepQuads)};
      }
      for (std::int64_t g = 0; g < groups; ++g) {
        const Half* scales = tiles.scales + first * values.tile_scales() + g * 16;
        // Scales of the batch side by side, and affine biases.
        alignas(64) float scale[kBatchTokens], bias[kBatchTokens];
        for (std::int64_t t = 0; t < n * 16; t += kLanes) {
          const Half* from = scales + t / 16 * values.tile_scales() + t % 16;
          store(load(from), scale + t);
          if constexpr (kAffine) store(load(from + groups * 16), bias + t);
        }
        for (std::int64_t r = 0; r < rows; ++r) {
          const float* row = p + (row0 + r) * ldp + first * 16;
          units[r] = round_to_shorts(
                         n * 16, static_cast<float>(operand_top(kBits, kAffine)),
                         [&](std::int64_t t) NEMO_SIMD_LAMBDA {
                           return nemo::load(row + t) * nemo::load(scale + t);
                         },
                         weights + r * kBatchTokens, nullptr) *
                     CodeRows<kBits, kAffine>::kScale;
          if constexpr (Products::kWinograd) {
            starts[r] = Products::start_of(weights + r * kBatchTokens, n * 16);
          }
          if constexpr (kAffine) {
            F total(0.0f);
            for (std::int64_t t = 0; t < n * 16; t += kLanes) {
              total = fma(load(row + t), load(bias + t), total);
            }
            offsets[r] = sum(total);
          }
        }
        for (std::int64_t c = g * values.group; c < (g + 1) * values.group; c += 16) {
          for (std::int64_t i = 0; i < n; ++i) {
            codes.expand(tiles.codes + (first + i) * values.tile_bytes(), values.dim / 4, c / 4,
                         levels + i * 4 * kRowShorts);
          }
          for_row_blocks(rows, [&]<int kRows>(std::int64_t row) NEMO_SIMD_LAMBDA {
            I acc[kRows][kRowVectors];
            dot_levels<Products>(levels, n * 4, weights + row * kBatchTokens, kBatchTokens,
                                 starts + row, 1, acc, ahead);
            for (int r = 0; r < kRows; ++r) {
              for (int v = 0; v < kRowVectors; ++v) {
                float* to = out + (row0 + row + r) * ldo + c + v * kLanes;
                F before = load(to);
                if constexpr (kAffine) before = before + F(offsets[row + r]);
                store(fma(to_floats(acc[r][v]), F(units[row + r]), before), to);
              }
            }
          });
        }
      }
    }
  }
}

/// Calls fn<kBits, kAffine>() for how a side is coded.
template <class Fn>
NEMO_SIMD void with_code(const KvSide& side, Fn fn) {
  const auto with_bits = [&]<bool kAffine>() NEMO_SIMD_LAMBDA {
    switch (side.bits) {
      case 2:
        return fn.template operator()<2, kAffine>();
      case 3:
        return fn.template operator()<3, kAffine>();
      case 4:
        return fn.template operator()<4, kAffine>();
      case 5:
        return fn.template operator()<5, kAffine>();
      case 6:
        return fn.template operator()<6, kAffine>();
      case 7:
        return fn.template operator()<7, kAffine>();
      default:
        return fn.template operator()<8, kAffine>();
    }
  };
  if (side.code == KvCode::affine) return with_bits.template operator()<true>();
  with_bits.template operator()<false>();
}

template <class Products>
void kv_scores(const KvSide& keys, const KvTiles& tiles, const KvQueries& q, std::int64_t rows,
               float* out, std::int64_t ldo) noexcept {
  with_code(keys, [&]<int kBits, bool kAffine>() {
    score_tiles<Products, kBits, kAffine>(keys, tiles, q, rows, out, ldo);
  });
}

template <class Products>
void kv_mix(const KvSide& values, const KvTiles& tiles, const float* p, std::int64_t ldp,
            std::int64_t rows, float* out, std::int64_t ldo) noexcept {
  with_code(values, [&]<int kBits, bool kAffine>() {
    mix_tiles<Products, kBits, kAffine>(values, tiles, p, ldp, rows, out, ldo);
  });
}

}  // namespace
}  // namespace nemo
