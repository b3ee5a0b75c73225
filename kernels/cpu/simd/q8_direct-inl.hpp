// Integer products with few tokens: each tile is used while it is in registers and weights stream
// from memory as they lie there. Included after the instruction set's vector.hpp.
#pragma once

#include "ahead-inl.hpp"
#include "q8_tiles-inl.hpp"

namespace nemo {
namespace {

// Rows in kernel order lie in one stream, which hardware follows best by itself, unless the fields
// of a block with several tiles are read in turns or scales lie elsewhere. Then they are fetched
// this far ahead, without an end (a fetch behind the last row does nothing). Of the 59 GB/s that
// two Zen 4 cores read, Q8_0 gets 57 without and 41 with it, Q6_K 14 and 45, affine codes of 4 bits
// 43 and 60.
constexpr std::int64_t kAheadBytes = 8 << 10;

/// sums[t] += (kLanes rows) . (token t) over `blocks` blocks; `ahead` is read into cache meanwhile.
template <class Block, int kTokens, class Blocks>
[[gnu::noinline]] void multiply_direct(Blocks p, std::int64_t blocks, const TokenSpan& span,
                                       F* sums, const std::byte* ahead) {
  using Layout = LayoutOf<Block>;
  constexpr int kTiles = Block::kElements / 32;
  constexpr int kTileBytes = kLanes * static_cast<int>(sizeof(Block)) / kTiles;  // as stored
  // Copies that no store can alias, so that tiles of a block share loads and stay in registers.
  const TokenSpan x = span;
  F acc[kTokens];
  for (int t = 0; t < kTokens; ++t) acc[t] = sums[t];
  for (std::int64_t b = 0; b < blocks; ++b) {
    const BlockScales<Block> s(p);
    for_tiles<Block>(p, [&](int tile, const I(&low)[4], const I(&high)[4]) NEMO_SIMD_LAMBDA {
      if (ahead != nullptr) {
        // Into L2, a few lines a tile: in bursts they would fill the miss queue and stall.
        fetch_lines(ahead, kTileBytes);
        ahead += kTileBytes;
        if constexpr (requires { p.fetch_scales(); }) p.fetch_scales();
      }
      add_tile<Layout, Blocks>(low, high, s.scale + tile * Layout::kGroups,
                               s.min + tile * Layout::kGroups, x, b * kTiles + tile, acc);
    });
    p.next();
  }
  for (int t = 0; t < kTokens; ++t) sums[t] = acc[t];
}

/// multiply_direct for 1 .. kDirectGroup tokens.
template <class Block, int kTokens = kDirectGroup, class Blocks>
NEMO_SIMD void multiply_direct_any(std::int64_t tokens, const Blocks& p, std::int64_t blocks,
                                   const TokenSpan& x, F* sums, const std::byte* ahead) {
  if (tokens == kTokens) {
    multiply_direct<Block, kTokens>(p, blocks, x, sums, ahead);
  } else if constexpr (kTokens > 1) {
    multiply_direct_any<Block, kTokens - 1>(tokens, p, blocks, x, sums, ahead);
  }
}

/// Columns [0, cols) of all rows with up to kDirectTokens tokens.
template <class Rows>
void direct_rows(const Rows& w, std::int64_t rows, std::int64_t cols, const TokenSpan& x,
                 std::int64_t tokens, float* y, std::int64_t ldy, bool accumulate,
                 std::byte* tail) noexcept {
  using Block = typename Rows::Block;
  if constexpr (!Rows::kKernelOrder) {
    // Nobody has asked for the first rows yet: better all their lines at once than one miss at a
    // time.
    for (std::int64_t r = 0; r < rows && r < kLanes; ++r) {
      fetch_lines(w.data + r * w.row_bytes, bytes_of<Block>(cols));
    }
  }
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    const std::int64_t height = rows - r < kLanes ? rows - r : kLanes;
    const bool full = height == kLanes;
    F acc[kDirectTokens];
    for (std::int64_t t = 0; t < tokens; ++t) {
      acc[t] = accumulate ? load_upto(y + t * ldy + r, height) : F(0.0f);
    }
    // The last rows are copied and filled up to kLanes.
    const std::int64_t step = full ? cols : kPanelCols;
    for (std::int64_t c = 0; c < cols; c += step) {
      const std::int64_t width = cols - c < step ? cols - c : step;
      const Rows from = w.from(r, c);
      // In file order the next kLanes rows follow in memory, which the hardware cannot see in
      // kLanes short streams: they are fetched line by line.
      const std::byte* ahead = nullptr;
      if constexpr (!Rows::kKernelOrder) {
        if (rows - r >= 2 * kLanes) ahead = from.data + kLanes * w.row_bytes;
      } else if constexpr (!Rows::kOneStream) {
        ahead = from.data + kAheadBytes;
      }
      const auto multiply = [&](const auto& blocks) NEMO_SIMD_LAMBDA {
        for (std::int64_t t = 0; t < tokens; t += kDirectGroup) {
          const TokenSpan some{x.codes + t * x.stride + c, x.stride,
                               x.aux + t * x.aux_stride + c / 32 * LayoutOf<Block>::kAux,
                               x.aux_stride};
          multiply_direct_any<Block>(tokens - t < kDirectGroup ? tokens - t : kDirectGroup, blocks,
                                     width / Block::kElements, some, acc + t,
                                     t == 0 ? ahead : nullptr);
        }
      };
      if constexpr (Rows::kKernelOrder) {
        multiply(from.blocks());
      } else {
        multiply(full ? from.blocks() : from.last_blocks(height, width, tail));
      }
    }
    for (std::int64_t t = 0; t < tokens; ++t) store_upto(acc[t], y + t * ldy + r, height);
  }
}

}  // namespace
}  // namespace nemo
