// Integer products: int8 activations (Q8Row) with block-quantized weights.
//
// Rows are taken kLanes at a time, lane = row. A tile is 32 columns of them: eight vectors of code
// quads (word r of vector q = codes 4q..4q+3 of row r), one or two vectors of scales and mins. Per
// token and tile, with s_g, m_g the scales and mins of the tile's groups:
//   f    = sum_g  s_g * (codes . activations, exactly in int32, offset taken off)  [+ m_g * sum_g]
//   acc  = f * activation scale + acc
// Few tokens use a tile while it is in registers; many tokens share a panel of unpacked tiles in
// scratch. Both do these float operations in this order, so their results have the same bits and
// depend on nothing but the weight row and the activation row.
// Included after the instruction set's vector.hpp.
#pragma once

#include "q8_formats-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kLaneBytes = sizeof(F);
// Up to this many tokens, unpacked tiles are not worth storing.
constexpr std::int64_t kDirectTokens = 3;
// Columns that a panel holds at once: at most 4096 * kLanes codes plus scales, 96 KiB on AVX-512.
constexpr std::int64_t kPanelCols = 4096;
constexpr std::int64_t kPanelSlabBytes = 256 << 10;  // several panels share activations in L1

// How the scratch is divided.
constexpr std::int64_t kAuxBytes = 768 << 10;
constexpr std::int64_t kTailBytes = 192
                                    << 10;  // kLanes rows x kPanelCols, at most 1.125 B a column
constexpr std::int64_t kPanelBytes = std::int64_t{kMatmulScratchBytes} - kAuxBytes - kTailBytes;
static_assert(kLanes * kPanelCols * 9 / 8 <= kTailBytes);

/// What the arithmetic on unpacked tiles needs to know about a format.
template <int kDotClass, int kGroupSize, bool kWithMin>
struct TileLayout {
  using Product = Dot<kDotClass>;
  static constexpr int kGroups = 32 / kGroupSize;
  static constexpr int kQuads = 8 / kGroups;  // of one group
  static constexpr bool kHasMin = kWithMin;
  static constexpr int kVectors = 8 + kGroups * (kHasMin ? 2 : 1);
  static constexpr std::int64_t kBytes = kVectors * kLaneBytes;
  // Floats of aux data a token and tile: activation scale, then per group the activation sum
  // (formats with mins) or the int32 that takes the codes' offset off.
  static constexpr int kAux = kGroups == 1 ? 2 : 4;
};
template <class Block>
using LayoutOf =
    TileLayout<dot_class(Unpack<Block>::kMaxCode), Unpack<Block>::kGroup, Unpack<Block>::kHasMin>;

/// Activations of consecutive tokens at the first column of a piece.
struct TokenSpan {
  const std::byte* codes;
  std::int64_t stride;  // bytes
  const float* aux;     // [tokens, aux_stride]
  std::int64_t aux_stride;
};

/// Fills aux[token, tile, kAux] for `tiles` tiles from column `first` on.
template <class Layout, int kOffset>
void prepare_aux(const std::byte* acts, std::int64_t act_stride, std::int64_t cols,
                 std::int64_t first, std::int64_t tiles, std::int64_t tokens, float* aux) noexcept {
  const std::int64_t scales_at = Q8Row::codes_bytes(cols);
  const std::int64_t sums_at = scales_at + (cols / 32 * 4 + 63) / 64 * 64;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::byte* row = acts + t * act_stride;
    const auto* scales = reinterpret_cast<const float*>(row + scales_at) + first / 32;
    const auto* sums = reinterpret_cast<const std::int32_t*>(row + sums_at) + first / 16;
    for (std::int64_t b = 0; b < tiles; ++b, aux += Layout::kAux) {
      aux[0] = scales[b];
      for (int g = 0; g < Layout::kGroups; ++g) {
        const std::int32_t total =
            Layout::kGroups == 1 ? sums[2 * b] + sums[2 * b + 1] : sums[2 * b + g];
        aux[1 + g] = Layout::kHasMin ? static_cast<float>(total)
                                     : __builtin_bit_cast(float, -kOffset* total);
      }
    }
  }
}

/// One group's contribution to f.
template <class Layout>
NEMO_SIMD F scaled(I dot, F scale, F min, F sum, F f, bool first) {
  if constexpr (Layout::kHasMin) f = first ? min * sum : fma(min, sum, f);
  const bool plain = first && !Layout::kHasMin;
  return plain ? to_floats(dot) * scale : fma(to_floats(dot), scale, f);
}

/// Adds one tile's products, its codes in registers, to acc[t].
template <class Layout, int kTokens>
NEMO_SIMD void add_tile(const I (&low)[4], const I (&high)[4], const F* scale, const F* min,
                        const TokenSpan& x, std::int64_t tile, F (&acc)[kTokens]) {
  using Product = typename Layout::Product;
  constexpr int kGroups = Layout::kGroups;
  const std::byte* codes = x.codes + 32 * tile;
  const float* aux = x.aux + Layout::kAux * tile;
  I dots[kGroups][kTokens];
  if constexpr (kTokens == 1) {
    if constexpr (kGroups == 1) {
      dots[0][0] = Product::rows32(low, high, codes);
    } else {
      dots[0][0] = Product::rows16(low, codes);
      dots[1][0] = Product::rows16(high, codes + 16);
    }
    if constexpr (!Layout::kHasMin) {
      for (int g = 0; g < kGroups; ++g) {
        dots[g][0] = add_words(dots[g][0], broadcast_word(aux + 1 + g));
      }
    }
  } else {
    I quads[8];
    transpose(low, quads);
    transpose(high, quads + 4);
    for (int g = 0; g < kGroups; ++g) {
      for (int t = 0; t < kTokens; ++t) {
        dots[g][t] =
            Layout::kHasMin ? all_words(0) : broadcast_word(aux + t * x.aux_stride + 1 + g);
      }
      Product::template quads<kTokens, Layout::kQuads>(quads + g * Layout::kQuads, codes + 16 * g,
                                                       x.stride, dots[g]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    const float* a = aux + t * x.aux_stride;
    F f(0.0f);
    for (int g = 0; g < kGroups; ++g) {
      f = scaled<Layout>(dots[g][t], scale[g], min[g], F(a[1 + g]), f, g == 0);
    }
    acc[t] = fma(f, F(a[0]), acc[t]);
  }
}

/// The tiles of one block of kLanes rows, in order: fn(tile, low, high).
template <class Block, class Fn>
NEMO_SIMD void for_tiles(const std::byte* p, std::int64_t stride, Fn fn) {
  using U = Unpack<Block>;
  constexpr int kOuter = Block::kElements / 32 / U::kInner;
  for (int outer = 0; outer < kOuter; ++outer) {
    unroll<U::kInner>([&](auto inner) NEMO_SIMD_LAMBDA {
      I low[4];
      I high[4];
      U::template codes<inner.k>(p, stride, outer, low, high);
      fn(outer * U::kInner + inner.k, low, high);
    });
  }
}

/// Scales and mins of one block of kLanes rows.
template <class Block>
struct BlockScales {
  static constexpr int kGroups = LayoutOf<Block>::kGroups;
  static constexpr int kCount = Block::kElements / 32 * kGroups;
  F scale[kCount];
  F min[kCount];
  NEMO_SIMD BlockScales(const std::byte* p, std::int64_t stride) {
    Unpack<Block>::scales(p, stride, scale, min);
  }
};

/// sums[t] += (kLanes rows) . (token t) over `blocks` blocks; `ahead` is read into cache meanwhile.
template <class Block, int kTokens>
[[gnu::noinline]] void multiply_direct(const std::byte* p, std::int64_t stride, std::int64_t blocks,
                                       const TokenSpan& span, F (&sums)[kTokens],
                                       const std::byte* ahead) {
  using Layout = LayoutOf<Block>;
  constexpr int kTiles = Block::kElements / 32;
  constexpr int kTileBytes = kLanes * static_cast<int>(sizeof(Block)) / kTiles;  // as stored
  // Copies that no store can alias, so that tiles of a block share loads and stay in registers.
  const TokenSpan x = span;
  F acc[kTokens];
  for (int t = 0; t < kTokens; ++t) acc[t] = sums[t];
  for (std::int64_t b = 0; b < blocks; ++b) {
    const BlockScales<Block> s(p, stride);
    for_tiles<Block>(
        p, stride, [&](int tile, const I(&low)[4], const I(&high)[4]) NEMO_SIMD_LAMBDA {
          if (ahead != nullptr) {
            // Into L2, a few lines a tile: in bursts they would fill the miss queue and stall.
            for (int line = 0; line < kTileBytes; line += 64) {
              __builtin_prefetch(ahead + line, 0, 2);
            }
            ahead += kTileBytes;
          }
          add_tile<Layout, kTokens>(low, high, s.scale + tile * Layout::kGroups,
                                    s.min + tile * Layout::kGroups, x, b * kTiles + tile, acc);
        });
    p += sizeof(Block);
  }
  for (int t = 0; t < kTokens; ++t) sums[t] = acc[t];
}

/// Copies `rows` row pieces of `bytes` bytes and fills up to kLanes rows with zeros.
NEMO_SIMD void copy_tail(const std::byte* from, std::int64_t stride, std::int64_t rows,
                         std::int64_t bytes, std::byte* to) {
  for (std::int64_t r = 0; r < kLanes; ++r) {
    if (r < rows) {
      __builtin_memcpy(to + r * bytes, from + r * stride, static_cast<std::size_t>(bytes));
    } else {
      __builtin_memset(to + r * bytes, 0, static_cast<std::size_t>(bytes));
    }
  }
}

template <class Block>
constexpr std::int64_t bytes_of(std::int64_t cols) {
  return cols / Block::kElements * static_cast<std::int64_t>(sizeof(Block));
}

/// Columns [first, first + cols) of all rows with up to kDirectTokens tokens.
template <class Block, int kTokens>
void direct_rows(const std::byte* w, std::int64_t row_bytes, std::int64_t rows, std::int64_t cols,
                 const TokenSpan& x, float* y, std::int64_t ldy, bool accumulate,
                 std::byte* tail) noexcept {
  std::int64_t r = 0;
  for (; r < rows; r += kLanes) {
    const std::int64_t height = rows - r < kLanes ? rows - r : kLanes;
    F acc[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      const float* from = y + t * ldy + r;
      acc[t] = !accumulate ? F(0.0f) : height == kLanes ? load(from) : load_first(from, height);
    }
    const std::byte* row = w + r * row_bytes;
    if (height == kLanes) {
      // The next kLanes rows follow in memory, which the hardware cannot see in kLanes short
      // streams: fetch them line by line.
      const bool more = rows - r >= 2 * kLanes && cols * Block::kElements > 0;
      multiply_direct<Block, kTokens>(row, row_bytes, cols / Block::kElements, x, acc,
                                      more ? row + kLanes * row_bytes : nullptr);
      for (int t = 0; t < kTokens; ++t) store(acc[t], y + t * ldy + r);
    } else {
      for (std::int64_t c = 0; c < cols; c += kPanelCols) {
        const std::int64_t width = cols - c < kPanelCols ? cols - c : kPanelCols;
        const std::int64_t bytes = bytes_of<Block>(width);
        copy_tail(row + bytes_of<Block>(c), row_bytes, height, bytes, tail);
        const TokenSpan piece{x.codes + c, x.stride, x.aux + c / 32 * LayoutOf<Block>::kAux,
                              x.aux_stride};
        multiply_direct<Block, kTokens>(tail, bytes, width / Block::kElements, piece, acc, nullptr);
      }
      for (int t = 0; t < kTokens; ++t) store_first(acc[t], y + t * ldy + r, height);
    }
  }
}

/// Stores the tiles of `blocks` blocks of kLanes rows: codes, scales, mins.
template <class Block>
void unpack_panel(const std::byte* p, std::int64_t stride, std::int64_t blocks,
                  std::byte* __restrict panel) noexcept {
  using Layout = LayoutOf<Block>;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const BlockScales<Block> s(p, stride);
    for_tiles<Block>(p, stride,
                     [&](int tile, const I(&low)[4], const I(&high)[4]) NEMO_SIMD_LAMBDA {
                       I quads[8];
                       transpose(low, quads);
                       transpose(high, quads + 4);
                       for (int q = 0; q < 8; ++q) store_bytes(quads[q], panel + q * kLaneBytes);
                       auto* floats = reinterpret_cast<float*>(panel + 8 * kLaneBytes);
                       for (int g = 0; g < Layout::kGroups; ++g) {
                         store(s.scale[tile * Layout::kGroups + g], floats);
                         floats += kLanes;
                       }
                       if constexpr (Layout::kHasMin) {
                         for (int g = 0; g < Layout::kGroups; ++g) {
                           store(s.min[tile * Layout::kGroups + g], floats);
                           floats += kLanes;
                         }
                       }
                       panel += Layout::kBytes;
                     });
    p += sizeof(Block);
  }
}

/// y[t, 0..rows) (+)= panel . token t.
template <class Layout, int kTokens>
void multiply_panel(const std::byte* panel, std::int64_t tiles, const TokenSpan& x, float* y,
                    std::int64_t ldy, std::int64_t rows, bool accumulate) noexcept {
  using Product = typename Layout::Product;
  F acc[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const float* from = y + t * ldy;
    acc[t] = !accumulate ? F(0.0f) : rows == kLanes ? load(from) : load_first(from, rows);
  }
  const std::byte* codes = x.codes;
  const float* aux = x.aux;
  for (std::int64_t b = 0; b < tiles; ++b) {
    const auto* scale = reinterpret_cast<const float*>(panel + 8 * kLaneBytes);
    const float* min = scale + Layout::kGroups * kLanes;
    F f[kTokens];
    for (int g = 0; g < Layout::kGroups; ++g) {
      I dots[kTokens];
      for (int t = 0; t < kTokens; ++t) {
        dots[t] = Layout::kHasMin ? all_words(0) : broadcast_word(aux + t * x.aux_stride + 1 + g);
      }
      Product::template panel<kTokens, Layout::kQuads>(panel + g * Layout::kQuads * kLaneBytes,
                                                       codes + 16 * g, x.stride, dots);
      const F s = load(scale + g * kLanes);
      const F m = Layout::kHasMin ? load(min + g * kLanes) : F(0.0f);
      for (int t = 0; t < kTokens; ++t) {
        f[t] = scaled<Layout>(dots[t], s, m, F(aux[t * x.aux_stride + 1 + g]), f[t], g == 0);
      }
    }
    for (int t = 0; t < kTokens; ++t) acc[t] = fma(f[t], F(aux[t * x.aux_stride]), acc[t]);
    panel += Layout::kBytes;
    codes += 32;
    aux += Layout::kAux;
  }
  for (int t = 0; t < kTokens; ++t) {
    if (rows == kLanes) {
      store(acc[t], y + t * ldy);
    } else {
      store_first(acc[t], y + t * ldy, rows);
    }
  }
}

/// multiply_panel for 1 .. kPanelTokens tokens.
template <class Layout, int kTokens = kPanelTokens>
NEMO_SIMD void multiply_panel_any(std::int64_t tokens, const std::byte* panel, std::int64_t tiles,
                                  const TokenSpan& x, float* y, std::int64_t ldy, std::int64_t rows,
                                  bool accumulate) {
  if (tokens == kTokens) {
    multiply_panel<Layout, kTokens>(panel, tiles, x, y, ldy, rows, accumulate);
  } else if constexpr (kTokens > 1) {
    multiply_panel_any<Layout, kTokens - 1>(tokens, panel, tiles, x, y, ldy, rows, accumulate);
  }
}

/// Columns [0, cols) of all rows, cols <= kPanelCols, with any number of tokens.
template <class Block>
void panel_rows(const std::byte* w, std::int64_t row_bytes, std::int64_t rows, std::int64_t cols,
                const TokenSpan& x, std::int64_t tokens, float* y, std::int64_t ldy,
                bool accumulate, std::byte* tail, std::byte* panels) noexcept {
  using Layout = LayoutOf<Block>;
  const std::int64_t tiles = cols / 32;
  const std::int64_t panel_bytes = tiles * Layout::kBytes;
  const std::int64_t fitting = kPanelSlabBytes / panel_bytes;
  const std::int64_t slab_rows = (fitting < 1 ? 1 : fitting > 8 ? 8 : fitting) * kLanes;
  for (std::int64_t r0 = 0; r0 < rows; r0 += slab_rows) {
    const std::int64_t end = rows - r0 < slab_rows ? rows : r0 + slab_rows;
    std::byte* panel = panels;
    for (std::int64_t r = r0; r < end; r += kLanes) {
      const std::byte* row = w + r * row_bytes;
      if (end - r < kLanes) {
        copy_tail(row, row_bytes, end - r, bytes_of<Block>(cols), tail);
        unpack_panel<Block>(tail, bytes_of<Block>(cols), cols / Block::kElements, panel);
      } else {
        unpack_panel<Block>(row, row_bytes, cols / Block::kElements, panel);
      }
      panel += panel_bytes;
    }
    for (std::int64_t t = 0; t < tokens; t += kPanelTokens) {
      const std::int64_t count = tokens - t < kPanelTokens ? tokens - t : kPanelTokens;
      const TokenSpan some{x.codes + t * x.stride, x.stride, x.aux + t * x.aux_stride,
                           x.aux_stride};
      panel = panels;
      for (std::int64_t r = r0; r < end; r += kLanes) {
        multiply_panel_any<Layout>(count, panel, tiles, some, y + t * ldy + r, ldy,
                                   end - r < kLanes ? end - r : kLanes, accumulate);
        panel += panel_bytes;
      }
    }
  }
}

template <class Block>
void q8_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
               std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
               std::byte* scratch) noexcept {
  using Layout = LayoutOf<Block>;
  auto* aux = reinterpret_cast<float*>(scratch);
  std::byte* tail = scratch + kAuxBytes;
  std::byte* panels = tail + kTailBytes;
  const bool direct = tokens <= kDirectTokens;
  // Few tokens: whole rows (up to what aux holds), so that weights stream in file order.
  constexpr std::int64_t kDirectCols = kAuxBytes / 4 / Layout::kAux / kDirectTokens / 8 * 256;
  const std::int64_t piece_cols = direct ? kDirectCols : kPanelCols;
  for (std::int64_t c = 0; c < w.cols; c += piece_cols) {
    const std::int64_t width = w.cols - c < piece_cols ? w.cols - c : piece_cols;
    const std::int64_t aux_stride = width / 32 * Layout::kAux;
    const std::byte* first = w.data + row0 * w.row_bytes + bytes_of<Block>(c);
    const std::int64_t chunk = kAuxBytes / 4 / aux_stride / kPanelTokens * kPanelTokens;
    for (std::int64_t t = 0; t < tokens; t += direct ? tokens : chunk) {
      const std::int64_t count = direct || tokens - t < chunk ? tokens - t : chunk;
      const std::byte* rows_of_tokens = acts + t * act_stride;
      prepare_aux<Layout, Unpack<Block>::kOffset>(rows_of_tokens, act_stride, w.cols, c, width / 32,
                                                  count, aux);
      const TokenSpan x{rows_of_tokens + c, act_stride, aux, aux_stride};
      float* out = y + t * ldy;
      if (!direct) {
        panel_rows<Block>(first, w.row_bytes, rows, width, x, count, out, ldy, c > 0, tail, panels);
      } else if (count == 1) {
        direct_rows<Block, 1>(first, w.row_bytes, rows, width, x, out, ldy, c > 0, tail);
      } else if (count == 2) {
        direct_rows<Block, 2>(first, w.row_bytes, rows, width, x, out, ldy, c > 0, tail);
      } else if (count == 3) {
        direct_rows<Block, 3>(first, w.row_bytes, rows, width, x, out, ldy, c > 0, tail);
      }
    }
  }
}

}  // namespace
}  // namespace nemo
