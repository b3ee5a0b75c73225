// Integer products with few tokens: each tile is used while it is in registers and weights stream
// from memory as they lie there. Included after the instruction set's vector.hpp.
#pragma once

#include "ahead-inl.hpp"
#include "q8_tiles-inl.hpp"

namespace nemo {
namespace {

// Rows in kernel order lie in one stream, which some CPUs follow best by themselves
// (fetches_streams), unless the fields of a block with several tiles are read in turns or scales
// lie elsewhere. Otherwise they are fetched this far ahead, without an end (a fetch behind the last
// row does nothing). Of the 59 GB/s that two Zen 4 cores read, Q8_0 gets 57 without and 41 with it,
// Q6_K 14 and 45, affine codes of 4 bits 43 and 60; of the 21 of two Cascade Lake cores Q4_0 18
// and 20.5.
constexpr std::int64_t kAheadBytes = 8 << 10;

/// sums[g][t] += (kLanes rows of group g) . (token t) over `count` blocks each, which lie one group
/// after the other; `ahead` is read into cache meanwhile. acts: TokenTiles.
template <class Block, int kTokens, class Blocks>
[[gnu::noinline]] void multiply_direct(Blocks p, std::int64_t count, std::int64_t groups,
                                       const std::byte* acts, F (*sums)[kDirectTokens],
                                       const std::byte* ahead) {
  using Layout = LayoutOf<Block>;
  constexpr int kTiles = Block::kElements / 32;
  constexpr int kTileBytes = kLanes * static_cast<int>(sizeof(Block)) / kTiles;  // as stored
  const TokenTiles<Layout, kTokens> x{acts};
  for (std::int64_t g = 0; g < groups; ++g) {
    F acc[kTokens];
    for (int t = 0; t < kTokens; ++t) acc[t] = sums[g][t];
    for (std::int64_t b = 0; b < count; ++b) {
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
    if constexpr (requires { p.next_group(); }) p.next_group();
    for (int t = 0; t < kTokens; ++t) sums[g][t] = acc[t];
  }
}

/// multiply_direct for 1 .. kDirectTokens tokens.
template <class Block, int kTokens = kDirectTokens, class Blocks>
NEMO_SIMD void multiply_direct_any(std::int64_t tokens, const Blocks& p, std::int64_t count,
                                   std::int64_t groups, const std::byte* acts,
                                   F (*sums)[kDirectTokens], const std::byte* ahead) {
  if (tokens == kTokens) {
    multiply_direct<Block, kTokens>(p, count, groups, acts, sums, ahead);
  } else if constexpr (kTokens > 1) {
    multiply_direct_any<Block, kTokens - 1>(tokens, p, count, groups, acts, sums, ahead);
  }
}

/// Columns [0, cols) of all rows with up to kDirectTokens tokens; acts: their TokenTiles.
template <class Rows>
void direct_rows(const Rows& w, std::int64_t rows, std::int64_t cols, const std::byte* acts,
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
  std::int64_t height = 0;
  for (std::int64_t r = 0; r < rows; r += height) {
    height = w.from(r, 0).together(rows - r);
    const std::int64_t groups = (height + kLanes - 1) / kLanes;
    F acc[Rows::kMostGroups][kDirectTokens];
    const auto each_sum = [&](auto fn) NEMO_SIMD_LAMBDA {
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t row = g * kLanes;
        for (std::int64_t t = 0; t < tokens; ++t) {
          fn(acc[g][t], y + t * ldy + r + row, height - row < kLanes ? height - row : kLanes);
        }
      }
    };
    each_sum([&](F& sum, const float* out, std::int64_t count)
                 NEMO_SIMD_LAMBDA { sum = accumulate ? load_upto(out, count) : F(0.0f); });
    // The last rows in file order are copied and filled up to kLanes, so many columns at a time.
    const std::int64_t strip = height < kLanes ? kPanelCols : w.strip(cols);
    for (std::int64_t c = 0; c < cols; c += strip) {
      const std::int64_t width = cols - c < strip ? cols - c : strip;
      const std::int64_t count = width / Block::kElements;
      const std::byte* some = acts + c / 32 * tokens * TokenTiles<LayoutOf<Block>, 1>::kBytes;
      const Rows from = w.from(r, c);
      if constexpr (Rows::kKernelOrder) {
        const auto blocks = from.blocks();
        const bool hardware_follows = Rows::kOneStream && !fetches_streams();
        const std::byte* ahead = hardware_follows ? nullptr : blocks.p + kAheadBytes;
        multiply_direct_any<Block>(tokens, blocks, count, groups, some, acc, ahead);
      } else {
        // The next kLanes rows follow in memory, which the hardware cannot see in kLanes short
        // streams: they are fetched line by line.
        const std::byte* ahead =
            rows - r >= 2 * kLanes ? from.data + kLanes * w.row_bytes : nullptr;
        multiply_direct_any<Block>(
            tokens, height < kLanes ? from.last_blocks(height, width, tail) : from.blocks(), count,
            groups, some, acc, ahead);
      }
    }
    each_sum([&](const F& sum, float* out, std::int64_t count)
                 NEMO_SIMD_LAMBDA { store_upto(sum, out, count); });
  }
}

}  // namespace
}  // namespace nemo
