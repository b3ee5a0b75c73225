// Tiles, the unit of the integer products: 32 columns of kLanes rows, lane = row.
//
// A tile is eight vectors of code quads (word r of vector q = codes 4q..4q+3 of row r) and one or
// two vectors of scales and mins. Per token and tile, with s_g, m_g the scales and mins of its
// groups:
//   f    = sum_g  s_g * (codes . activations, exactly in int32, offset taken off)  [+ m_g * sum_g]
//   acc  = f * activation scale + acc
// Included after the instruction set's vector.hpp.
#pragma once

#include "q8_formats-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kLaneBytes = sizeof(F);
// Columns that a panel of unpacked rows or a copy of the last rows holds at once; wide enough for
// whole rows of nearly every model.
constexpr std::int64_t kPanelCols = 16384;

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

/// The code quads of a tile, from what Unpack gives.
template <class Blocks>
NEMO_SIMD void quads_of(const I (&low)[4], const I (&high)[4], I (&quads)[8]) {
  if constexpr (Blocks::kKernelOrder) {
    for (int q = 0; q < 4; ++q) {
      quads[q] = low[q];
      quads[4 + q] = high[q];
    }
  } else {
    transpose(low, quads);
    transpose(high, quads + 4);
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
template <class Layout, class Blocks, int kTokens>
NEMO_SIMD void add_tile(const I (&low)[4], const I (&high)[4], const F* scale, const F* min,
                        const TokenSpan& x, std::int64_t tile, F (&acc)[kTokens]) {
  using Product = typename Layout::Product;
  constexpr int kGroups = Layout::kGroups;
  const std::byte* codes = x.codes + 32 * tile;
  const float* aux = x.aux + Layout::kAux * tile;
  I dots[kGroups][kTokens];
  if constexpr (!Blocks::kKernelOrder && kTokens <= kRowTokens) {
    if constexpr (kGroups == 1) {
      Product::template rows32<kTokens>(low, high, codes, x.stride, dots[0]);
    } else {
      Product::template rows16<kTokens>(low, codes, x.stride, dots[0]);
      Product::template rows16<kTokens>(high, codes + 16, x.stride, dots[1]);
    }
    if constexpr (!Layout::kHasMin) {
      for (int g = 0; g < kGroups; ++g) {
        for (int t = 0; t < kTokens; ++t) {
          dots[g][t] = add_words(dots[g][t], broadcast_word(aux + t * x.aux_stride + 1 + g));
        }
      }
    }
  } else {
    I quads[8];
    quads_of<Blocks>(low, high, quads);
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
template <class Block, class Blocks, class Fn>
NEMO_SIMD void for_tiles(const Blocks& b, Fn fn) {
  using U = Unpack<Block>;
  constexpr int kOuter = Block::kElements / 32 / U::kInner;
  for (int outer = 0; outer < kOuter; ++outer) {
    unroll<U::kInner>([&](auto inner) NEMO_SIMD_LAMBDA {
      I low[4];
      I high[4];
      U::template codes<decltype(inner)::k>(b, outer, low, high);
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
  template <class Blocks>
  NEMO_SIMD explicit BlockScales(const Blocks& b) {
    Unpack<Block>::scales(b, scale, min);
  }
};

template <class Block>
constexpr std::int64_t bytes_of(std::int64_t cols) {
  return cols / Block::kElements * static_cast<std::int64_t>(sizeof(Block));
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

/// Rows of a block format in file order, from a row and a column on. What products read weights
/// through; the other sources are KernelRows and PlaneRows (planar_order-inl.hpp).
template <class BlockType>
struct FileRows {
  using Block = BlockType;
  static constexpr bool kKernelOrder = false;
  const std::byte* data;
  std::int64_t row_bytes;

  NEMO_SIMD explicit FileRows(const WeightRows& w) : data(w.data), row_bytes(w.row_bytes) {}
  NEMO_SIMD FileRows from(std::int64_t row, std::int64_t column) const {
    FileRows moved = *this;
    moved.data += row * row_bytes + bytes_of<Block>(column);
    return moved;
  }
  /// The first blocks of kLanes rows.
  NEMO_SIMD FileBlocks<sizeof(Block)> blocks() const { return {data, row_bytes}; }
  /// The same of the last `rows` rows, copied to `tail` and filled up.
  NEMO_SIMD FileBlocks<sizeof(Block)> last_blocks(std::int64_t rows, std::int64_t cols,
                                                  std::byte* tail) const {
    copy_tail(data, row_bytes, rows, bytes_of<Block>(cols), tail);
    return {tail, bytes_of<Block>(cols)};
  }
  /// Whether rows of so many columns follow each other without a gap.
  [[nodiscard]] bool whole(std::int64_t cols) const { return row_bytes == bytes_of<Block>(cols); }
};

/// The same in kernel order, whose rows come in whole groups.
template <class BlockType>
struct KernelRows {
  using Block = BlockType;
  static constexpr bool kKernelOrder = true;
  const std::byte* data;
  std::int64_t row_bytes;

  NEMO_SIMD explicit KernelRows(const WeightRows& w) : data(w.data), row_bytes(w.row_bytes) {}
  NEMO_SIMD KernelRows from(std::int64_t row, std::int64_t column) const {
    KernelRows moved = *this;
    moved.data += row * row_bytes + kLanes * bytes_of<Block>(column);
    return moved;
  }
  NEMO_SIMD KernelBlocks<sizeof(Block)> blocks() const { return {data}; }
  [[nodiscard]] bool whole(std::int64_t cols) const { return row_bytes == bytes_of<Block>(cols); }
};

}  // namespace
}  // namespace nemo
