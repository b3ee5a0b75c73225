// Products of bf16 weights on a matrix unit that multiplies bf16 numbers and adds in float.
//
// Rows of weights are tiles as they lie: kLanes rows, of kTileDepth columns each. Activations are
// taken as the sum of kParts = 2 bf16 parts, which loses at most 2^-17 of them, or in prefill
// rounded to one, and brought into tiles of kLanes tokens: [depth, part, word of two neighbouring
// columns, token], the high part first; one token alone has tiles of one column. Every token count
// goes this way, and every sum runs over the columns in the same order, so a product with as many
// parts has the same bits for one token as for many.
// Included after the instruction set's vector.hpp; Unit as in bf16_unit-inl.hpp.
#pragma once

#include "bf16_unit-inl.hpp"

#include <kernels/cpu/tables.hpp>

namespace nemo {
namespace {

/// Activations in tiles that stay in L2 while all rows pass by.
constexpr std::int64_t kPartBytes = 1 << 20;
/// Blocks of kLanes rows that pass by together.
constexpr std::int64_t kRowBlocks = 4;

/// The columns of kLanes rows of weights.
struct RowTile {
  const std::byte* at;
  std::int64_t stride;
};

/// Tiles of activations, in blocks of up to kLanes tokens.
template <int kParts>
struct TokenTiles {
  std::byte* at;
  std::int64_t line_bytes;  // of a row of a tile
  std::int64_t depth;       // tiles of a part

  [[nodiscard]] std::int64_t tile_bytes() const { return kLanes * line_bytes; }
  [[nodiscard]] std::int64_t block_bytes() const { return kParts * depth * tile_bytes(); }
};

/// A block of `count` <= kLanes tokens, zeros behind them.
template <int kParts>
NEMO_SIMD void token_parts(const float* x, std::int64_t ldx, std::int64_t count, std::int64_t cols,
                           std::byte* to) {
  for (std::int64_t c = 0; c < cols; c += kTileDepth, to += kParts * kTileBytes) {
    const Square from(x + c, ldx, count, cols - c);
    for (std::int64_t e = 0; e < kTileDepth; e += 4) {
      I column[4];
      from.columns(e, column);
      for (std::int64_t k = 0; k < 4; k += 2) {
        store_parts<float, kParts>(as_floats(column[k]), as_floats(column[k + 1]),
                                   to + (e + k) / 2 * kLineBytes);
      }
    }
  }
}

/// The same of a single token, in tiles of one column.
template <int kParts>
NEMO_SIMD void one_token_parts(const float* x, std::int64_t cols, std::byte* to) {
  constexpr std::uint32_t kTop = 0xffff0000;
  const auto rounded = [](float v) NEMO_SIMD_LAMBDA {
    return (__builtin_bit_cast(std::uint32_t, v) + 0x8000u) & kTop;
  };
  for (std::int64_t c = 0; c < cols; c += kTileDepth, to += kParts * kLineBytes) {
    float some[kTileDepth] = {};
    const std::int64_t n = cols - c < kTileDepth ? cols - c : kTileDepth;
    __builtin_memcpy(some, x + c, static_cast<std::size_t>(n) * sizeof(float));
    std::uint32_t high[kTileDepth], low[kTileDepth];
    for (int i = 0; i < kTileDepth; ++i) {
      high[i] = rounded(some[i]);
      low[i] = rounded(some[i] - __builtin_bit_cast(float, high[i]));
    }
    std::uint32_t words[kParts * kLanes];
    for (int i = 0; i < kLanes; ++i) {
      words[i] = high[2 * i] >> 16 | high[2 * i + 1];
      if constexpr (kParts == 2) words[kLanes + i] = low[2 * i] >> 16 | low[2 * i + 1];
    }
    __builtin_memcpy(to, words, sizeof words);
  }
}

/// sums[x, y] [row, token] = rows[x] . tokens of block first + y. Rows `ahead` bytes further are
/// read into cache meanwhile, 0: none.
template <class Unit, int kX, int kY, int kParts>
void multiply_tiles(const RowTile (&rows)[kX], const TokenTiles<kParts>& tokens, std::int64_t first,
                    std::int64_t ahead, float* sums) noexcept {
  static_assert((kX == 4 && kY == 1) || (kX == 2 && kY == 2));
  const std::int64_t line = tokens.line_bytes;
  const std::int64_t tile = tokens.tile_bytes();
  const std::int64_t block = tokens.block_bytes();
  const std::byte* high = tokens.at + first * block;
  unroll<4>([](auto i) NEMO_SIMD_LAMBDA { Unit::template zero<decltype(i)::k>(); });
  for (std::int64_t d = 0; d < tokens.depth; ++d, high += kParts * tile) {
    const std::byte* low = high + tile;
    const auto load_row_tile = [&](auto x, auto in) NEMO_SIMD_LAMBDA {
      const RowTile& from = rows[decltype(x)::k];
      const std::byte* at = from.at + d * kLineBytes;
      if (ahead != 0) {
        for (std::int64_t r = 0; r < kLanes; ++r) {
          __builtin_prefetch(at + ahead + r * from.stride, 0, 2);
        }
      }
      Unit::template load<decltype(in)::k>(at, from.stride);
    };
    if constexpr (kY == 1) {
      if constexpr (kParts == 2) Unit::template load<6>(low, line);
      Unit::template load<7>(high, line);
      unroll<kX>([&](auto i) NEMO_SIMD_LAMBDA {
        using In = Index<4 + decltype(i)::k % 2>;
        load_row_tile(i, In{});
        if constexpr (kParts == 2) Unit::template multiply<decltype(i)::k, In::k, 6>();
        Unit::template multiply<decltype(i)::k, In::k, 7>();
      });
    } else {
      const auto multiply_all = [&](const std::byte* part) NEMO_SIMD_LAMBDA {
        Unit::template load<6>(part, line);
        Unit::template load<7>(part + block, line);
        unroll<4>([](auto i) NEMO_SIMD_LAMBDA {
          constexpr int kSum = decltype(i)::k;
          Unit::template multiply<kSum, 4 + kSum / kY, 6 + kSum % kY>();
        });
      };
      unroll<kX>([&](auto i) NEMO_SIMD_LAMBDA { load_row_tile(i, Index<4 + decltype(i)::k>{}); });
      if constexpr (kParts == 2) multiply_all(low);
      multiply_all(high);
    }
  }
  unroll<4>([&](auto i) NEMO_SIMD_LAMBDA {
    Unit::template store<decltype(i)::k>(sums + i.k * kTileFloats);
  });
}

/// y[t, r] = sums[r, t] for r < kLanes.
NEMO_SIMD void store_sums(const float* sums, std::int64_t rows, std::int64_t tokens, float* y,
                          std::int64_t ldy) {
  if (tokens == 1) {
    for (std::int64_t r = 0; r < kLanes && r < rows; ++r) y[r] = sums[r * kLanes];
    return;
  }
  for (std::int64_t t = 0; t < tokens; t += 4) {
    I four[4], out[4];
    load_rows(reinterpret_cast<const std::byte*>(sums + t), kLineBytes, four);
    transpose(four, out);
    for (std::int64_t i = 0; i < 4 && t + i < tokens; ++i) {
      store_upto(as_floats(out[i]), y + (t + i) * ldy, rows);
    }
  }
}

/// kRowBlocks blocks of rows, of which `rows` rows count, with `tokens` tokens.
template <class Unit, int kParts>
void multiply_row_blocks(const RowTile (&tiles)[kRowBlocks], std::int64_t rows,
                         const TokenTiles<kParts>& parts, std::int64_t tokens, std::int64_t ahead,
                         float* y, std::int64_t ldy) noexcept {
  alignas(64) float sums[4 * kTileFloats];
  const auto finish = [&](std::int64_t x, std::int64_t block, const float* from) NEMO_SIMD_LAMBDA {
    const std::int64_t height = rows - x * kLanes;
    const std::int64_t count = tokens - block * kLanes;
    if (height <= 0) return;
    store_sums(from, height, count < kLanes ? count : kLanes, y + block * kLanes * ldy + x * kLanes,
               ldy);
  };
  const std::int64_t blocks = blocks_of(tokens, kLanes);
  std::int64_t block = 0;
  for (; block + 2 <= blocks; block += 2) {
    for (std::int64_t x = 0; x < kRowBlocks && x * kLanes < rows; x += 2) {
      const RowTile two[2] = {tiles[x], tiles[x + 1]};
      multiply_tiles<Unit, 2, 2>(two, parts, block, block == 0 ? ahead : 0, sums);
      for (std::int64_t i = 0; i < 4; ++i) finish(x + i / 2, block + i % 2, sums + i * kTileFloats);
    }
  }
  if (block < blocks) {
    multiply_tiles<Unit, 4, 1>(tiles, parts, block, block == 0 ? ahead : 0, sums);
    for (std::int64_t i = 0; i < 4; ++i) finish(i, block, sums + i * kTileFloats);
  }
}

/// Tiles of the kRowBlocks blocks from row `first` on, `rows` > 0 of them; rows that end inside a
/// tile are copied, kRowBlocks blocks of room for which are at `tails`.
NEMO_SIMD void row_tiles(const WeightRows& w, std::int64_t first, std::int64_t rows,
                         std::int64_t depth, std::byte* tails, RowTile (&tiles)[kRowBlocks]) {
  const std::int64_t line = depth * kLineBytes;
  for (std::int64_t x = 0; x < kRowBlocks; ++x) {
    const std::int64_t rest = rows - x * kLanes;
    if (rest <= 0) {
      tiles[x] = tiles[x - 1];  // whose products are dropped
      continue;
    }
    tiles[x] = {w.data + (first + x * kLanes) * w.row_bytes, w.row_bytes};
    if (rest >= kLanes && w.cols % kTileDepth == 0) continue;
    std::byte* copy = tails + x * kLanes * line;
    __builtin_memset(copy, 0, static_cast<std::size_t>(kLanes * line));
    for (std::int64_t r = 0; r < kLanes && r < rest; ++r) {
      __builtin_memcpy(copy + r * line, tiles[x].at + r * w.row_bytes,
                       static_cast<std::size_t>(2 * w.cols));
    }
    tiles[x] = {copy, line};
  }
}

template <class Unit, int kParts>
void unit_bf16_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                      const std::byte* acts, std::int64_t act_stride, std::int64_t tokens, float* y,
                      std::int64_t ldy, std::byte* scratch) noexcept {
  if (rows == 0 || tokens == 0) return;
  const std::int64_t depth = blocks_of(w.cols, kTileDepth);
  const std::int64_t tail_bytes = kRowBlocks * kLanes * depth * kLineBytes;
  const std::int64_t block_bytes = kParts * depth * kTileBytes;
  const std::int64_t room = std::int64_t{kMatmulScratchBytes} - tail_bytes;
  if (block_bytes > room) {
    Unit::vectors()
        .format(DType::bf16)
        .matmul(w, row0, rows, acts, act_stride, tokens, y, ldy, scratch);
    return;
  }
  const std::int64_t fitting = (kPartBytes < room ? kPartBytes : room) / block_bytes;
  const std::int64_t chunk = (fitting > 0 ? fitting : 1) * kLanes;
  const TokenTiles<kParts> parts{scratch + tail_bytes, tokens == 1 ? 4 : kLineBytes, depth};
  constexpr std::int64_t kStep = kRowBlocks * kLanes;
  Unit::configure(kLanes, tokens == 1 ? 1 : kLanes);
  for (std::int64_t t = 0; t < tokens; t += chunk) {
    const std::int64_t count = tokens - t < chunk ? tokens - t : chunk;
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const auto* x = reinterpret_cast<const float*>(acts + (t + i) * act_stride);
      if (tokens == 1) {
        one_token_parts<kParts>(x, w.cols, parts.at);
      } else {
        token_parts<kParts>(x, act_stride / std::int64_t{sizeof(float)},
                            count - i < kLanes ? count - i : kLanes, w.cols,
                            parts.at + i / kLanes * parts.block_bytes());
      }
    }
    for (std::int64_t r = 0; r < rows; r += kStep) {
      RowTile tiles[kRowBlocks];
      row_tiles(w, row0 + r, rows - r, depth, scratch, tiles);
      const std::int64_t ahead = rows - r >= 2 * kStep ? kStep * w.row_bytes : 0;
      multiply_row_blocks<Unit>(tiles, rows - r, parts, count, ahead, y + t * ldy + r, ldy);
    }
  }
  Unit::release();
}

/// As Kernels::peak_bf16: two by two full products a round, operands from L1.
template <class Unit>
std::int64_t peak_bf16_unit(std::int64_t rounds, float* sink) noexcept {
  alignas(64) std::byte operands[4 * kTileBytes] = {};
  alignas(64) float sums[kTileFloats];
  __builtin_memcpy(operands, sink, sizeof *sink);
  Unit::configure(kLanes, kLanes);
  unroll<4>([](auto i) NEMO_SIMD_LAMBDA { Unit::template zero<decltype(i)::k>(); });
  for (std::int64_t r = 0; r < rounds; ++r) {
    Unit::template load<4>(operands, kLineBytes);
    Unit::template load<6>(operands + kTileBytes, kLineBytes);
    Unit::template multiply<0, 4, 6>();
    Unit::template load<5>(operands + 2 * kTileBytes, kLineBytes);
    Unit::template multiply<1, 5, 6>();
    Unit::template load<7>(operands + 3 * kTileBytes, kLineBytes);
    Unit::template multiply<2, 4, 7>();
    Unit::template multiply<3, 5, 7>();
  }
  Unit::template store<0>(sums);
  Unit::release();
  sink[0] = sums[0];
  return 2 * rounds * 4 * kLanes * kLanes * kTileDepth;
}

template <class Unit, int kParts>
constexpr FloatProducts unit_float_products() {
  return {.scores_half = unit_scores<Half, Unit, kParts>,
          .mix_half = unit_mix<Half, Unit, kParts>,
          .peak = peak_bf16_unit<Unit>,
          .bf16_matmul = unit_bf16_matmul<Unit, kParts>};
}

}  // namespace
}  // namespace nemo
