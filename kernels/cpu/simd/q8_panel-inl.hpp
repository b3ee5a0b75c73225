// Integer products with many tokens: a panel of unpacked tiles in scratch serves all of them.
// Included after the instruction set's vector.hpp.
#pragma once

#include "ahead-inl.hpp"
#include "q8_tiles-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kPanelSlabBytes = 288 << 10;  // several panels share activations in L1
constexpr int kPieceTiles = 4;  // unpacked at a time where the next weights are fetched meanwhile

/// Stores the tiles of `blocks` blocks of kLanes rows as TileLayout says. `kAdd` is added to
/// every code, modulo 256. Multiplies them with the first kTokens tokens too, acc[t] += (row) .
/// (token t): loads and stores wait for other things than products do. Returns what follows.
template <class Block, class Layout, int kAdd = 0, int kTokens = 0, class Blocks>
[[gnu::noinline]] Blocks unpack_panel(Blocks p, std::int64_t blocks, std::byte* __restrict panel,
                                      const TokenSpan& span = {}, F* sums = nullptr) noexcept {
  const TokenSpan x = span;
  constexpr int kSome = kTokens > 0 ? kTokens : 1;
  F acc[kSome];
  for (int t = 0; t < kTokens; ++t) acc[t] = sums[t];
  for (std::int64_t b = 0; b < blocks; ++b) {
    const BlockScales<Block> s(p);
    for_tiles<Block>(p, [&](int tile, const I(&low)[4], const I(&high)[4]) NEMO_SIMD_LAMBDA {
      I quads[8];
      quads_of<Blocks>(low, high, quads);
      const F* scale = s.scale + tile * Layout::kGroups;
      const F* min = s.min + tile * Layout::kGroups;
      I starts = all_words(0);
      if constexpr (Layout::kHasStarts) {
        Layout::Product::arrange(quads);
        starts = Layout::Product::starts(quads);
        store_bytes(starts, panel + Layout::kStartsAt * kLaneBytes);
      }
      if constexpr (kTokens > 0) {
        add_quads<Layout, kSome>(quads, scale, min, x, b * (Block::kElements / 32) + tile, acc,
                                 starts);
      }
      if constexpr (!Layout::kHasStarts) Layout::Product::arrange(quads);
      for (int q = 0; q < 8; ++q) {
        if constexpr (kAdd != 0) quads[q] = add_bytes(quads[q], all_bytes(kAdd));
        store_bytes(quads[q], panel + q * kLaneBytes);
      }
      auto* floats = reinterpret_cast<float*>(panel + 8 * kLaneBytes);
      for (int level = 0; level < Layout::kLevels; ++level) {
        for (int g = 0; g < Layout::kGroups; ++g, floats += kLanes) {
          store(scale[g] * F(Q8Row::level(level)), floats);
        }
      }
      for (int g = 0; g < Layout::kGroups && Layout::kHasMin; ++g, floats += kLanes) {
        store(min[g], floats);
      }
      panel += Layout::kBytes;
    });
    p.next();
  }
  for (int t = 0; t < kTokens; ++t) sums[t] = acc[t];
  return p;
}

/// unpack(blocks, row, column, columns, panel) for the panels of all rows, one after the other,
/// with as many columns as lie together; `tail` takes a copy of the last rows if they do not fill a
/// panel.
template <class Layout, class Rows, class Unpack>
NEMO_SIMD void for_panels(const Rows& w, std::int64_t rows, std::int64_t cols, std::byte* tail,
                          std::byte* panels, Unpack unpack) {
  const std::int64_t strip = w.strip(cols);
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    for (std::int64_t c = 0; c < cols; c += strip) {
      const std::int64_t width = cols - c < strip ? cols - c : strip;
      const Rows from = w.from(r, c);
      if constexpr (Rows::kKernelOrder) {
        unpack(from.blocks(), r, c, width, panels);
      } else {
        unpack(rows - r < kLanes ? from.last_blocks(rows - r, width, tail) : from.blocks(), r, c,
               width, panels);
      }
      panels += width / 32 * Layout::kBytes;
    }
  }
}

/// Panels of all rows.
template <class Layout, int kAdd, class Rows>
void unpack_rows(const Rows& w, std::int64_t rows, std::int64_t cols, std::byte* tail,
                 std::byte* panels) noexcept {
  using Block = typename Rows::Block;
  for_panels<Layout>(w, rows, cols, tail, panels,
                     [&](auto blocks, std::int64_t, std::int64_t, std::int64_t width,
                         std::byte* panel) NEMO_SIMD_LAMBDA {
                       unpack_panel<Block, Layout, kAdd>(blocks, width / Block::kElements, panel);
                     });
}

/// The same, `piece` blocks at a time, and y[t, 0..rows) (+)= rows . token t for kTokens tokens.
/// With every piece `ahead` takes a step.
template <class Layout, int kTokens, class Rows>
void unpack_and_multiply(const Rows& w, std::int64_t rows, std::int64_t cols, const TokenSpan& x,
                         float* y, std::int64_t ldy, bool accumulate, std::byte* tail,
                         std::byte* panels, std::int64_t piece, Ahead& ahead) noexcept {
  using Block = typename Rows::Block;
  constexpr int kTiles = Block::kElements / 32;
  for_panels<Layout>(
      w, rows, cols, tail, panels,
      [&](auto blocks, std::int64_t r, std::int64_t c, std::int64_t width, std::byte* panel)
          NEMO_SIMD_LAMBDA {
            const std::int64_t height = rows - r < kLanes ? rows - r : kLanes;
            TokenSpan some = x.from<Layout>(0, c);
            F acc[kTokens];
            for (int t = 0; t < kTokens; ++t) {
              acc[t] = accumulate || c > 0 ? load_upto(y + t * ldy + r, height) : F(0.0f);
            }
            const std::int64_t count = width / Block::kElements;
            for (std::int64_t b = 0; b < count; b += piece) {
              const std::int64_t n = count - b < piece ? count - b : piece;
              ahead.step();
              blocks = unpack_panel<Block, Layout, 0, kTokens>(blocks, n, panel, some, acc);
              panel += n * kTiles * Layout::kBytes;
              some = some.from<Layout>(0, n * Block::kElements);
            }
            for (int t = 0; t < kTokens; ++t) store_upto(acc[t], y + t * ldy + r, height);
          });
}

/// Panels unpacked at a time: as many as fit, a power of two, so that those of kernel order come
/// from one of its slabs.
constexpr std::int64_t panels_of_slab(std::int64_t fitting, std::int64_t most, std::int64_t least) {
  std::int64_t panels = most;
  while (panels > fitting && panels > least) panels /= 2;
  return panels;
}

/// Tokens of a pass.
template <class Layout>
constexpr int kTokensOf = Layout::kGroups == 1 ? kPanelTokens : kPanelPairTokens;

/// y[t, 0..rows) (+)= panels . token t, kRows panels `step` bytes apart; rows > (kRows - 1) *
/// kLanes.
template <class Layout, int kRows, int kTokens>
void multiply_panel(const std::byte* panel, std::int64_t step, std::int64_t tiles,
                    const TokenSpan& x, float* y, std::int64_t ldy, std::int64_t rows,
                    bool accumulate, Ahead& ahead) noexcept {
  using Product = typename Layout::Product;
  Ahead next = ahead;
  F acc[kRows][kTokens];
#pragma GCC unroll 2
  for (int i = 0; i < kRows; ++i) {
    const std::int64_t height = rows - i * kLanes;
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      acc[i][t] = accumulate ? load_upto(y + t * ldy + i * kLanes, height) : F(0.0f);
    }
  }
  const std::byte* codes = x.codes;
  const float* aux = x.aux;
  for (std::int64_t b = 0; b < tiles; ++b) {
    next.step();
    for (int g = 0; g < Layout::kGroups; ++g) {
      I starts[kRows] = {};
      for (int i = 0; i < kRows && Layout::kHasStarts; ++i) {
        starts[i] = load_bytes(panel + i * step + Layout::kStartsAt * kLaneBytes);
      }
      I dots[kRows][kTokens];
      for (int t = 0; t < kTokens; ++t) {
        for (int i = 0; i < kRows; ++i) {
          dots[i][t] = start_of<Layout>(aux + t * x.aux_stride, g, starts[i]);
        }
      }
      Product::template panel<kRows, kTokens, Layout::kQuads>(
          panel + g * Layout::kQuads * kLaneBytes, step, codes + 16 * g, x.stride, dots);
      for (int t = 0; t < kTokens; ++t) {
        const float* a = aux + t * x.aux_stride;
        const std::int64_t level = Q8Row::level_of(a[1]);
        for (int i = 0; i < kRows; ++i) {
          const auto* scales = reinterpret_cast<const float*>(panel + i * step + 8 * kLaneBytes);
          acc[i][t] = add_scaled(dots[i][t], F(a[0]),
                                 load(scales + (level * Layout::kGroups + g) * kLanes), acc[i][t]);
        }
      }
      if constexpr (Layout::kHasMin) {
        for (int i = 0; i < kRows; ++i) {
          const F min = load(reinterpret_cast<const float*>(panel + i * step +
                                                            (Layout::kMinsAt + g) * kLaneBytes));
          for (int t = 0; t < kTokens; ++t) {
            acc[i][t] = fma(min, F(aux[t * x.aux_stride + 2 + g]), acc[i][t]);
          }
        }
      }
    }
    panel += Layout::kBytes;
    codes += 32;
    aux += Layout::kAux;
  }
  ahead = next;
#pragma GCC unroll 2
  for (int i = 0; i < kRows; ++i) {
    const std::int64_t height = rows - i * kLanes;
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) store_upto(acc[i][t], y + t * ldy + i * kLanes, height);
  }
}

/// multiply_panel for 1 .. kTokensOf<Layout> tokens.
template <class Layout, int kRows, int kTokens = kTokensOf<Layout>>
NEMO_SIMD void multiply_panel_any(std::int64_t tokens, const std::byte* panel, std::int64_t step,
                                  std::int64_t tiles, const TokenSpan& x, float* y,
                                  std::int64_t ldy, std::int64_t rows, bool accumulate,
                                  Ahead& ahead) {
  if (tokens == kTokens) {
    multiply_panel<Layout, kRows, kTokens>(panel, step, tiles, x, y, ldy, rows, accumulate, ahead);
  } else if constexpr (kTokens > 1) {
    multiply_panel_any<Layout, kRows, kTokens - 1>(tokens, panel, step, tiles, x, y, ldy, rows,
                                                   accumulate, ahead);
  }
}

/// Columns [0, cols) of all rows, cols <= kPanelCols, with more than kDirectTokens tokens.
template <class Layout, class Rows>
void panel_rows(const Rows& w, std::int64_t rows, std::int64_t cols, const TokenSpan& x,
                std::int64_t tokens, float* y, std::int64_t ldy, bool accumulate, std::byte* tail,
                std::byte* panels) noexcept {
  using Block = typename Rows::Block;
  constexpr std::int64_t kTokens = kTokensOf<Layout>;
  const std::int64_t tiles = cols / 32;
  const std::int64_t panel_bytes = tiles * Layout::kBytes;
  const std::int64_t slab_rows =
      panels_of_slab(kPanelSlabBytes / panel_bytes, KernelOrder::kSlabGroups, kPanelRows) *
      std::int64_t{kLanes};
  const std::int64_t groups = slab_rows / kLanes;
  // The next slab's weights are read ahead during the passes or, where those would be over too
  // soon, while this one is unpacked.
  const std::int64_t most_passes = (tokens - kDirectTokens + kTokens - 1) / kTokens;
  const bool few = tokens < 2 * kDirectTokens;
  constexpr std::int64_t kFewBlocks = (kPieceTiles * 32 - 1) / Block::kElements + 1;
  const std::int64_t blocks = cols / Block::kElements;
  const std::int64_t piece = few ? kFewBlocks : blocks;
  const std::int64_t steps = few ? groups * ((blocks + piece - 1) / piece)
                                 : (groups + kPanelRows - 1) / kPanelRows * most_passes * tiles;
  for (std::int64_t r0 = 0; r0 < rows; r0 += slab_rows) {
    const std::int64_t end = rows - r0 < slab_rows ? rows : r0 + slab_rows;
    Ahead ahead;
    if (end < rows) {
      ahead = w.from(end, 0).ahead(rows - end < slab_rows ? rows - end : slab_rows, cols, steps);
    }
    unpack_and_multiply<Layout, kDirectTokens>(w.from(r0, 0), end - r0, cols, x, y + r0, ldy,
                                               accumulate, tail, panels, piece, ahead);
    // Passes of about as many tokens each: a short one loads the same weights for fewer products.
    std::int64_t passes = most_passes;
    for (std::int64_t t = kDirectTokens, count = 0; t < tokens; t += count, --passes) {
      count = (tokens - t + passes - 1) / passes;
      const TokenSpan some = x.from<Layout>(t, 0);
      const std::byte* panel = panels;
      const auto multiply = [&]<int kRows>(Index<kRows>, std::int64_t r) NEMO_SIMD_LAMBDA {
        const std::int64_t height = end - r < kRows * kLanes ? end - r : kRows * kLanes;
        multiply_panel_any<Layout, kRows>(count, panel, panel_bytes, tiles, some, y + t * ldy + r,
                                          ldy, height, accumulate, ahead);
        panel += kRows * panel_bytes;
      };
      std::int64_t r = r0;
      for (; end - r > (kPanelRows - 1) * kLanes; r += kPanelRows * kLanes) {
        multiply(Index<kPanelRows>{}, r);
      }
      if constexpr (kPanelRows > 1) {
        for (; r < end; r += kLanes) multiply(Index<1>{}, r);
      }
    }
  }
}

}  // namespace
}  // namespace nemo
