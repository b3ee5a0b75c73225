// Tiles, the unit of the integer products: 32 columns of kLanes rows, lane = row.
//
// A tile is eight vectors of code quads (word r of vector q = codes 4q..4q+3 of row r) and vectors
// of scales and mins. Per token and tile, for each of its groups, with its scale s and min m and an
// activation scale of level * 2^e (kernels.hpp):
//   dot  = codes . activations, exactly in int32, offset taken off
//   acc  = (dot * 2^e) * (s * level) + acc           [acc = m * (activation scale * sum) + acc]
// Products with 2^e cost nothing: dot is added up from the bits of 3 * 2^(22 + e) on, which are
// those of 3 * 2^(22 + e) + dot * 2^e then, |dot| being less than 2^22. Nor do those with a level,
// where s * level lies in memory for all levels.
// Included after the instruction set's vector.hpp.
#pragma once

#include "ahead-inl.hpp"
#include "q8_formats-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kLaneBytes = sizeof(F);
// Columns that a panel of unpacked rows or a copy of the last rows holds at once; wide enough for
// whole rows of nearly every model.
constexpr std::int64_t kPanelCols = 16384;

/// What the arithmetic on unpacked tiles needs to know about a format. kScaleLevels: for how many
/// levels of activation scales a panel holds its scales, 1: as they are.
template <class ProductType, int kGroupSize, bool kWithMin, int kScaleLevels = Q8Row::kLevels>
struct TileLayout {
  using Product = ProductType;
  static constexpr int kGroups = 32 / kGroupSize;
  static constexpr int kQuads = 8 / kGroups;  // of one group
  static constexpr bool kHasMin = kWithMin;
  /// Whether sums start from something of the rows, too (q8_winograd-inl.hpp).
  static constexpr bool kHasStarts = requires(const I (&quads)[8]) { ProductType::starts(quads); };
  static constexpr int kLevels = kScaleLevels;
  // A panel's tile: codes, then [level, group] scales, then the groups' mins, then starts.
  static constexpr int kMinsAt = 8 + kGroups * kLevels;
  static constexpr int kStartsAt = kMinsAt + (kHasMin ? kGroups : 0);
  static constexpr std::int64_t kBytes = (kStartsAt + (kHasStarts ? 1 : 0)) * kLaneBytes;
  // Words of aux data a token and tile: the float whose bits stand for 0, the level, then per
  // group the activations' sum (formats with mins) or what sums start from, the bits that stand for
  // 0 less the codes' offset. Formats with mins start from those bits, or have a last word for it.
  static constexpr int kAux = 2 + kGroups + (kHasMin && kHasStarts ? 1 : 0);
  static constexpr int kStartWord = !kHasMin ? 2 : kHasStarts ? 2 + kGroups : 0;
};
template <class Block, int kScaleLevels = Q8Row::kLevels>
using LayoutOf = TileLayout<Dot<dot_class(Unpack<Block>::kMaxCode)>, Unpack<Block>::kGroup,
                            Unpack<Block>::kHasMin, kScaleLevels>;

/// Activations of consecutive tokens, in rows, at the first column of a piece.
struct TokenSpan {
  const std::byte* codes;
  std::int64_t stride;  // bytes
  const float* aux;     // [tokens, aux_stride]
  std::int64_t aux_stride;

  /// Those of a tile.
  NEMO_SIMD const std::byte* codes_of(std::int64_t tile) const { return codes + 32 * tile; }
  template <class Layout>
  NEMO_SIMD const float* aux_of(std::int64_t tile) const {
    return aux + Layout::kAux * tile;
  }
  /// Those from `token` and, a multiple of 32, `column` on.
  template <class Layout>
  NEMO_SIMD TokenSpan from(std::int64_t token, std::int64_t column) const {
    return {codes + token * stride + column, stride,
            aux + token * aux_stride + column / 32 * Layout::kAux, aux_stride};
  }
};

/// Activations of few tokens, all that belongs to a tile together: codes[kTokens, 32], aux[kTokens,
/// kAux]. Weights that stream through L1 drive out of it what lies in several places, one for each
/// token's codes and aux, sooner than a single stream of the same size: of the 62 GB/s that two
/// Zen 4 cores read, Q4_0 with two tokens of 2,688 columns gets 51 from rows and 57 from tiles.
template <class Layout, int kTokens>
struct TokenTiles {
  static constexpr std::int64_t kBytes = kTokens * (32 + Layout::kAux * std::int64_t{4});
  static constexpr std::int64_t stride = 32;
  static constexpr std::int64_t aux_stride = Layout::kAux;
  const std::byte* p;

  NEMO_SIMD const std::byte* codes_of(std::int64_t tile) const { return p + kBytes * tile; }
  template <class>
  NEMO_SIMD const float* aux_of(std::int64_t tile) const {
    return reinterpret_cast<const float*>(p + kBytes * tile + 32 * kTokens);
  }
};

/// The float from whose bits on dots of activations with this scale are added up.
NEMO_SIMD float zero_of(float scale) { return Q8Row::power_of(scale) * 0x1.8p23f; }

/// A token's activations from column `first` on.
struct TokenRow {
  const std::byte* codes;
  const float* scales;
  const std::int32_t* sums;

  NEMO_SIMD TokenRow(const std::byte* row, std::int64_t cols, std::int64_t first) {
    const Q8Row whole = Q8Row::at(const_cast<std::byte*>(row), cols);
    codes = row + first;
    scales = whole.scales + first / 32;
    sums = whole.sums + first / 16;
  }
};

/// Fills aux[kAux] of a tile.
template <class Layout, int kOffset>
NEMO_SIMD void prepare_aux_of_tile(const TokenRow& row, std::int64_t tile, float* aux) {
  const float scale = row.scales[tile];
  const std::int32_t* sums = row.sums + 2 * tile;
  const float zero = zero_of(scale);
  aux[0] = zero;
  aux[1] = Q8Row::level(Q8Row::level_of(scale));
  for (int g = 0; g < Layout::kGroups; ++g) {
    const std::int32_t total = Layout::kGroups == 1 ? sums[0] + sums[1] : sums[g];
    // Unsigned: where the scale is infinite or 0 the sum may wrap, as the dots do.
    auto start = __builtin_bit_cast(std::uint32_t, zero) -
                 static_cast<std::uint32_t>(kOffset) * static_cast<std::uint32_t>(total);
    if constexpr (Layout::kHasStarts) start -= static_cast<std::uint32_t>(sums[1]);
    if constexpr (Layout::kHasMin) aux[2 + g] = scale * static_cast<float>(total);
    if constexpr (Layout::kStartWord != 0) {
      aux[Layout::kStartWord + g] = __builtin_bit_cast(float, start);
    }
  }
}

/// Fills aux[token, tile, kAux] for `tiles` tiles from column `first` on.
template <class Layout, int kOffset>
void prepare_aux(const std::byte* acts, std::int64_t act_stride, std::int64_t cols,
                 std::int64_t first, std::int64_t tiles, std::int64_t tokens, float* aux) noexcept {
  for (std::int64_t t = 0; t < tokens; ++t) {
    const TokenRow row(acts + t * act_stride, cols, first);
    for (std::int64_t b = 0; b < tiles; ++b, aux += Layout::kAux) {
      prepare_aux_of_tile<Layout, kOffset>(row, b, aux);
    }
  }
}

/// Fills TokenTiles of `tokens` tokens for `tiles` tiles from column `first` on; put(codes, to)
/// writes a token's codes in the order that the weights' tiles have.
template <class Layout, int kOffset, class Put>
NEMO_SIMD void prepare_tiles(const std::byte* acts, std::int64_t act_stride, std::int64_t cols,
                             std::int64_t first, std::int64_t tiles, std::int64_t tokens,
                             std::byte* out, Put put) {
  const std::int64_t tile_bytes = tokens * TokenTiles<Layout, 1>::kBytes;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const TokenRow row(acts + t * act_stride, cols, first);
    std::byte* codes = out + t * 32;
    auto* aux = reinterpret_cast<float*>(out + tokens * 32) + t * Layout::kAux;
    for (std::int64_t b = 0; b < tiles; ++b) {
      put(row.codes + 32 * b, codes + b * tile_bytes);
      prepare_aux_of_tile<Layout, kOffset>(row, b, aux + b * (tile_bytes / 4));
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

/// What sums of a group's products start from; `rows`: the rows' part if they have one.
template <class Layout>
NEMO_SIMD I start_of(const float* aux, int group, I rows = all_words(0)) {
  const I start = broadcast_word(Layout::kStartWord == 0 ? aux : aux + Layout::kStartWord + group);
  return Layout::kHasStarts ? add_words(start, rows) : start;
}

/// acc + (the dot that was added up from zero's bits on) * scale
NEMO_SIMD F add_scaled(I dot, F zero, F scale, F acc) {
  return fma(as_floats(dot) - zero, scale, acc);
}

/// Adds to acc[t] what a tile's groups come to.
template <class Layout, int kTokens>
NEMO_SIMD void add_dots(const I (&dots)[Layout::kGroups][kTokens], const F* scale, const F* min,
                        const float* aux, std::int64_t aux_stride, F (&acc)[kTokens]) {
  for (int t = 0; t < kTokens; ++t) {
    const float* a = aux + t * aux_stride;
    const F level(a[1]);
    for (int g = 0; g < Layout::kGroups; ++g) {
      acc[t] = add_scaled(dots[g][t], F(a[0]), scale[g] * level, acc[t]);
      if constexpr (Layout::kHasMin) acc[t] = fma(min[g], F(a[2 + g]), acc[t]);
    }
  }
}

/// Adds one tile's products, its code quads in registers, to acc[t].
template <class Layout, int kTokens, class Tokens>
NEMO_SIMD void add_quads(const I (&quads)[8], const F* scale, const F* min, const Tokens& x,
                         std::int64_t tile, F (&acc)[kTokens], I starts = all_words(0)) {
  const float* aux = x.template aux_of<Layout>(tile);
  I dots[Layout::kGroups][kTokens];
  for (int g = 0; g < Layout::kGroups; ++g) {
    for (int t = 0; t < kTokens; ++t) {
      dots[g][t] = start_of<Layout>(aux + t * x.aux_stride, g, starts);
    }
    Layout::Product::template quads<kTokens, Layout::kQuads>(
        quads + g * Layout::kQuads, x.codes_of(tile) + 16 * g, x.stride, dots[g]);
  }
  add_dots<Layout>(dots, scale, min, aux, x.aux_stride, acc);
}

/// The same with the codes as Unpack gives them.
template <class Layout, class Blocks, int kTokens>
NEMO_SIMD void add_tile(const I (&low)[4], const I (&high)[4], const F* scale, const F* min,
                        const TokenTiles<Layout, kTokens>& x, std::int64_t tile,
                        F (&acc)[kTokens]) {
  using Product = typename Layout::Product;
  if constexpr (!Blocks::kKernelOrder && kTokens <= kRowTokens) {
    const std::byte* codes = x.codes_of(tile);
    const float* aux = x.template aux_of<Layout>(tile);
    I dots[Layout::kGroups][kTokens];
    if constexpr (Layout::kGroups == 1) {
      Product::template rows32<kTokens>(low, high, codes, x.stride, dots[0]);
    } else {
      Product::template rows16<kTokens>(low, codes, x.stride, dots[0]);
      Product::template rows16<kTokens>(high, codes + 16, x.stride, dots[1]);
    }
    for (int g = 0; g < Layout::kGroups; ++g) {
      for (int t = 0; t < kTokens; ++t) {
        dots[g][t] = add_words(dots[g][t], start_of<Layout>(aux + t * x.aux_stride, g));
      }
    }
    add_dots<Layout>(dots, scale, min, aux, x.aux_stride, acc);
  } else {
    I quads[8];
    quads_of<Blocks>(low, high, quads);
    add_quads<Layout>(quads, scale, min, x, tile, acc);
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
  static constexpr std::int64_t kMostGroups = 1;
  const std::byte* data;
  std::int64_t row_bytes;

  NEMO_SIMD explicit FileRows(const WeightRows& w) : data(w.data), row_bytes(w.row_bytes) {}
  NEMO_SIMD FileRows from(std::int64_t row, std::int64_t column) const {
    FileRows moved = *this;
    moved.data += row * row_bytes + bytes_of<Block>(column);
    return moved;
  }
  /// Of `cols` columns those that lie together in a row.
  [[nodiscard]] NEMO_SIMD std::int64_t strip(std::int64_t cols) const { return cols; }
  /// Of `rows` rows those whose groups, kMostGroups at most, follow each other in a strip.
  [[nodiscard]] NEMO_SIMD std::int64_t together(std::int64_t rows) const {
    return rows < kLanes ? rows : kLanes;
  }
  /// The first blocks of kLanes rows.
  NEMO_SIMD FileBlocks<sizeof(Block)> blocks() const { return {data, row_bytes}; }
  /// The same of the last `rows` rows, copied to `tail` and filled up.
  NEMO_SIMD FileBlocks<sizeof(Block)> last_blocks(std::int64_t rows, std::int64_t cols,
                                                  std::byte* tail) const {
    copy_tail(data, row_bytes, rows, bytes_of<Block>(cols), tail);
    return {tail, bytes_of<Block>(cols)};
  }
  /// `cols` columns of `rows` rows, to be read in `steps` steps, if nothing lies between.
  NEMO_SIMD Ahead ahead(std::int64_t rows, std::int64_t cols, std::int64_t steps) const {
    if (row_bytes != bytes_of<Block>(cols)) return {};
    return {data, rows * row_bytes, steps};
  }
};

/// Where rows in kernel order are read from: a matrix, a row and a column, the first of a group and
/// a multiple of the strips' columns.
struct OrderedFrom {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t row = 0;
  std::int64_t column = 0;

  NEMO_SIMD void move(std::int64_t by_rows, std::int64_t by_columns) {
    row += by_rows;
    column += by_columns;
  }
  [[nodiscard]] NEMO_SIMD PlaceInOrder place() const { return {rows, cols, row, column}; }
  [[nodiscard]] NEMO_SIMD bool in_strips() const { return cols > KernelOrder::kMostWholeCols; }
  [[nodiscard]] NEMO_SIMD std::int64_t together(std::int64_t count) const {
    constexpr std::int64_t kRows = KernelOrder::kSlabGroups * kLanes;
    const std::int64_t rest = in_strips() ? kRows - row % kRows : kRows;
    return count < rest ? count : rest;
  }
};

/// As FileRows::ahead for rows in kernel order: of rows in strips those in front of the next slab,
/// a run in each strip.
template <class Block>
NEMO_SIMD Ahead ordered_ahead(const std::byte* data, std::int64_t row_bytes, const OrderedFrom& at,
                              std::int64_t count, std::int64_t width, std::int64_t steps) {
  if (at.cols != width) return {};
  const PlaceInOrder place = at.place();
  if (!at.in_strips()) {
    return {data + place.slab * row_bytes, count * row_bytes, steps};
  }
  const std::int64_t strip_bytes = bytes_of<Block>(KernelOrder::kStripCols);
  return {data + place.slab * row_bytes + bytes_of<Block>(place.elements()),
          count * bytes_of<Block>(width), count * strip_bytes, (place.height - count) * strip_bytes,
          steps};
}

/// The same in kernel order, whose rows come in whole groups.
template <class BlockType>
struct KernelRows {
  using Block = BlockType;
  static constexpr bool kKernelOrder = true;
  static constexpr bool kOneStream = Block::kElements == 32;  // a tile is read from end to end
  static constexpr std::int64_t kMostGroups = KernelOrder::kSlabGroups;
  const std::byte* data;
  std::int64_t row_bytes;
  OrderedFrom at;

  NEMO_SIMD explicit KernelRows(const WeightRows& w)
      : data(w.data), row_bytes(w.row_bytes), at{w.rows, w.cols} {}
  NEMO_SIMD KernelRows from(std::int64_t row, std::int64_t column) const {
    KernelRows moved = *this;
    moved.at.move(row, column);
    return moved;
  }
  [[nodiscard]] NEMO_SIMD std::int64_t strip(std::int64_t) const {
    return KernelOrder::strip_cols(at.cols);
  }
  [[nodiscard]] NEMO_SIMD std::int64_t together(std::int64_t rows) const {
    return at.together(rows);
  }
  /// The first blocks of a group, up to the end of the strip.
  NEMO_SIMD KernelBlocks<sizeof(Block)> blocks() const {
    const PlaceInOrder place = at.place();
    return {data + place.slab * row_bytes + bytes_of<Block>(place.elements())};
  }
  NEMO_SIMD Ahead ahead(std::int64_t rows, std::int64_t cols, std::int64_t steps) const {
    return ordered_ahead<Block>(data, row_bytes, at, rows, cols, steps);
  }
};

}  // namespace
}  // namespace nemo
