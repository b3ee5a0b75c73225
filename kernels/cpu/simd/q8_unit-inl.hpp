// Integer products with many tokens on a matrix unit: C [tokens, rows] = A [tokens, depth] times
// B [depth, rows], int8 to int32.
//
// B is a tile as unpack_panel stores it, its codes signed; A is a piece of the activation rows
// where they lie; depth is a group of columns that share scales, so C holds the exact int32 sums
// that the other two ways have. The vector units then add up the same products, rounded in the same
// order, so a result has the same bits: acc = C * (s * activation scale) + acc, where the power of
// two in that scale changes no rounding. With every sum in memory, loads are what counts, and this
// needs one of C and one of the scale. C goes there through a ring of buffers, since the unit has
// no way to vector registers and takes long for one product: several are under way.
//
// Unit is what the hardware does, kLanes x kLanes products at a time:
//   configure(tokens, depth)   shapes of the products that follow, tokens <= kLanes
//   multiply<slot>(acts, stride, codes, sums)   sums [tokens, kLanes] of A rows `stride` bytes
//                              apart and B; slots are independent, kUnitSlots of them
//   release()                  no product follows
//   vectors()                  the table for too few tokens
// Included after the instruction set's vector.hpp.
#pragma once

#include "planar_q8-inl.hpp"

namespace nemo {
namespace {

constexpr int kUnitSlots = 4;
constexpr std::int64_t kUnitTokens = 8;  // fewer: the vector units are as fast
// Columns whose activations of kLanes tokens (8 KiB) stay in L1 while the panels of a slab pass by.
constexpr std::int64_t kUnitTiles = 16;
// The next slab's weights are fetched during this one: 64 rows, of 576 KiB at most.
constexpr std::int64_t kUnitSlabPanels = 4;
constexpr std::int64_t kUnitSlabBytes = 576 << 10;
constexpr std::int64_t kUnitActBytes = 1 << 20;  // activations that stay in L2 from slab to slab

template <class Block>
using UnitLayout = LayoutOf<Block, 1>;

/// What belongs to kLanes tokens and a tile, lane = token: the activation scale, and of formats
/// with mins its product with each group's sum of activations.
template <class Layout>
constexpr std::int64_t kFactors = (1 + (Layout::kHasMin ? Layout::kGroups : 0)) * kLanes;

/// Four words of `count` rows, lane = row; zeros in the lanes behind.
NEMO_SIMD RowWords words_of_tokens(const std::byte* p, std::int64_t stride, std::int64_t count) {
  if (count == kLanes) return row_words(p, stride);
  alignas(16) std::byte copy[16 * kLanes];
  copy_tail(p, stride, count, 16, copy);
  return row_words(copy, 16);
}

/// Fills factors[tile, kFactors] of `count` <= kLanes tokens for `tiles` tiles from column `first`.
template <class Layout>
void prepare_factors(const std::byte* acts, std::int64_t act_stride, std::int64_t cols,
                     std::int64_t first, std::int64_t tiles, std::int64_t count,
                     float* factors) noexcept {
  constexpr std::int64_t kStep = kFactors<Layout>;
  const std::int64_t scales_at = Q8Row::codes_bytes(cols);
  const std::int64_t sums_at = scales_at + (cols / 32 * 4 + 63) / 64 * 64;
  const std::byte* scales = acts + scales_at + first / 8;
  const std::byte* sums = acts + sums_at + first / 4;
  // Both arrays are padded to 64 bytes, so four words can be read at any place in them.
  for (std::int64_t b = 0; b < tiles; b += 4) {
    const RowWords four = words_of_tokens(scales + 4 * b, act_stride, count);
    for (std::int64_t i = 0; i < 4 && b + i < tiles; ++i) {
      store(as_floats(four.w[i]), factors + (b + i) * kStep);
    }
  }
  if constexpr (Layout::kHasMin) {
    for (std::int64_t b = 0; b < tiles; b += 2) {
      const RowWords four = words_of_tokens(sums + 8 * b, act_stride, count);
      for (std::int64_t i = 0; i < 2 && b + i < tiles; ++i) {
        float* out = factors + (b + i) * kStep;
        const F scale = load(out);
        if constexpr (Layout::kGroups == 1) {
          store(scale * to_floats(add_words(four.w[2 * i], four.w[2 * i + 1])), out + kLanes);
        } else {
          store(scale * to_floats(four.w[2 * i]), out + kLanes);
          store(scale * to_floats(four.w[2 * i + 1]), out + 2 * kLanes);
        }
      }
    }
  }
}

/// Consecutive tokens at the first column of a piece.
struct UnitTokens {
  const std::byte* codes;
  std::int64_t stride;   // bytes
  const float* factors;  // [tiles, kFactors]
  std::int64_t count;
};

/// Adds one tile's products to acc[t], whose int32 sums lie at sums[group, token, lane].
template <class Layout, int kTokens>
NEMO_SIMD void add_sums(const std::int32_t* sums, const std::byte* tile, const float* factors,
                        F (&acc)[kTokens]) {
  constexpr int kGroups = Layout::kGroups;
  const auto vector = [&](int at) NEMO_SIMD_LAMBDA {
    return load(reinterpret_cast<const float*>(tile + at * kLaneBytes));
  };
  F scale[kGroups], min[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    scale[g] = vector(8 + g);
    if constexpr (Layout::kHasMin) min[g] = vector(Layout::kMinsAt + g);
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      const F dot = to_floats(load_bytes(sums + (g * kLanes + t) * kLanes));
      acc[t] = fma(dot, scale[g] * F(factors[t]), acc[t]);
      if constexpr (Layout::kHasMin) acc[t] = fma(min[g], F(factors[(1 + g) * kLanes + t]), acc[t]);
    }
  }
}

/// y[t, 0..rows) (+)= panel . token t for x.count <= kTokens tokens, for which Unit is configured.
/// ring: [kUnitSlots, kLanes, kLanes].
template <class Layout, class Unit, int kTokens>
void multiply_unit(const std::byte* panel, std::int64_t tiles, const UnitTokens& tokens, float* y,
                   std::int64_t ldy, std::int64_t rows, bool accumulate, Ahead& ahead,
                   std::int32_t* ring) noexcept {
  constexpr int kGroups = Layout::kGroups;
  constexpr int kRing = kUnitSlots / kGroups;  // tiles under way
  constexpr std::int64_t kSums = kLanes * kLanes;
  const UnitTokens x = tokens;
  Ahead next = ahead;
  F acc[kTokens];
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    acc[t] = accumulate && t < x.count ? load_upto(y + t * ldy, rows) : F(0.0f);
  }
  const auto start = [&](std::int64_t b, auto place) NEMO_SIMD_LAMBDA {
    unroll<kGroups>([&](auto g) NEMO_SIMD_LAMBDA {
      constexpr int kSlot = decltype(place)::k * kGroups + decltype(g)::k;
      Unit::template multiply<kSlot>(x.codes + 32 * b + 16 * g.k, x.stride,
                                     panel + b * Layout::kBytes + g.k * Layout::kQuads * kLaneBytes,
                                     ring + kSlot * kSums);
    });
  };
  unroll<kRing - 1>([&](auto i) NEMO_SIMD_LAMBDA {
    if (i.k < tiles) start(i.k, i);
  });
  for (std::int64_t b0 = 0; b0 < tiles; b0 += kRing) {
    unroll<kRing>([&](auto i) NEMO_SIMD_LAMBDA {
      const std::int64_t b = b0 + i.k;
      if (b + kRing - 1 < tiles) {
        start(b + kRing - 1, Index<(decltype(i)::k + kRing - 1) % kRing>{});
      }
      if (b >= tiles) return;
      next.step();
      add_sums<Layout>(ring + i.k * kGroups * kSums, panel + b * Layout::kBytes,
                       x.factors + b * kFactors<Layout>, acc);
    });
  }
  ahead = next;
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    if (t >= x.count) break;
    store_upto(acc[t], y + t * ldy, rows);
  }
}

/// Columns [0, cols) of all rows, cols <= kPanelCols. factors: [blocks of kLanes tokens, tiles,
/// kFactors].
template <class Unit, class Rows>
void unit_rows(const Rows& w, std::int64_t rows, std::int64_t cols, const std::byte* codes,
               std::int64_t act_stride, const float* factors, std::int64_t tokens, float* y,
               std::int64_t ldy, bool accumulate, std::byte* tail, std::byte* panels,
               std::int32_t* ring) noexcept {
  using Block = typename Rows::Block;
  using Layout = UnitLayout<Block>;
  const std::int64_t tiles = cols / 32;
  const std::int64_t panel_bytes = tiles * Layout::kBytes;
  const std::int64_t slab_rows =
      panels_of_slab(kUnitSlabBytes / panel_bytes, kUnitSlabPanels, 1) * std::int64_t{kLanes};
  const std::int64_t token_blocks = (tokens + kLanes - 1) / kLanes;
  std::int64_t configured = 0;
  for (std::int64_t r0 = 0; r0 < rows; r0 += slab_rows) {
    const std::int64_t end = rows - r0 < slab_rows ? rows : r0 + slab_rows;
    unpack_rows<Layout, -Unpack<Block>::kOffset>(w.from(r0, 0), end - r0, cols, tail, panels);
    Ahead ahead;
    if (end < rows) {
      ahead = w.from(end, 0).ahead(rows - end < slab_rows ? rows - end : slab_rows, cols,
                                   slab_rows / kLanes * token_blocks * tiles);
    }
    for (std::int64_t b = 0; b < tiles; b += kUnitTiles) {
      const std::int64_t width = tiles - b < kUnitTiles ? tiles - b : kUnitTiles;
      for (std::int64_t i = 0; i < token_blocks; ++i) {
        const std::int64_t t = i * kLanes;
        const UnitTokens some{codes + t * act_stride + 32 * b, act_stride,
                              factors + (i * tiles + b) * kFactors<Layout>,
                              tokens - t < kLanes ? tokens - t : kLanes};
        if (some.count != configured) {
          configured = some.count;
          Unit::configure(configured, 32 / Layout::kGroups);
        }
        for (std::int64_t r = r0; r < end; r += kLanes) {
          const std::byte* panel = panels + (r - r0) / kLanes * panel_bytes + b * Layout::kBytes;
          const auto multiply = some.count <= kLanes / 2 ? multiply_unit<Layout, Unit, kLanes / 2>
                                                         : multiply_unit<Layout, Unit, kLanes>;
          multiply(panel, width, some, y + t * ldy + r, ldy, end - r < kLanes ? end - r : kLanes,
                   accumulate || b > 0, ahead, ring);
        }
      }
    }
  }
}

/// Products of `rows` rows of `cols` columns from w on with many tokens; Unit stays configured.
template <class Unit, class Rows>
void multiply_rows_on_unit(const Rows& w, std::int64_t cols, std::int64_t rows,
                           const std::byte* acts, std::int64_t act_stride, std::int64_t tokens,
                           float* y, std::int64_t ldy, std::byte* scratch) noexcept {
  using Layout = UnitLayout<typename Rows::Block>;
  static_assert(kUnitSlabBytes <= kPanelBytes &&
                kPanelCols / 32 * Layout::kBytes <= kUnitSlabBytes);
  auto* factors = reinterpret_cast<float*>(scratch);
  std::byte* tail = scratch + kAuxBytes;
  std::byte* panels = tail + kTailBytes;
  alignas(64) std::int32_t ring[kUnitSlots * kLanes * kLanes] = {};
  for (std::int64_t c = 0; c < cols; c += kPanelCols) {
    const std::int64_t width = cols - c < kPanelCols ? cols - c : kPanelCols;
    const std::int64_t block_floats = width / 32 * kFactors<Layout>;
    const std::int64_t by_factors = kAuxBytes / 4 / block_floats;
    const std::int64_t by_codes = kUnitActBytes / width / kLanes;
    const std::int64_t chunk = (by_factors < by_codes ? by_factors : by_codes) * kLanes;
    for (std::int64_t t = 0; t < tokens; t += chunk) {
      const std::int64_t count = tokens - t < chunk ? tokens - t : chunk;
      const std::byte* rows_of_tokens = acts + t * act_stride;
      for (std::int64_t i = 0; i < count; i += kLanes) {
        prepare_factors<Layout>(rows_of_tokens + i * act_stride, act_stride, cols, c, width / 32,
                                count - i < kLanes ? count - i : kLanes,
                                factors + i / kLanes * block_floats);
      }
      unit_rows<Unit>(w.from(0, c), rows, width, rows_of_tokens + c, act_stride, factors, count,
                      y + t * ldy, ldy, c > 0, tail, panels, ring);
    }
  }
}

template <class Block, class Unit>
void unit_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
                 std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
                 std::byte* scratch) noexcept {
  if (tokens < kUnitTokens) {
    Unit::vectors()
        .format(Block::kType)
        .matmul(w, row0, rows, acts, act_stride, tokens, y, ldy, scratch);
    return;
  }
  const auto multiply = [&](const auto& all) NEMO_SIMD_LAMBDA {
    multiply_rows_on_unit<Unit>(all.from(row0, 0), w.cols, rows, acts, act_stride, tokens, y, ldy,
                                scratch);
  };
  w.lanes == 0 ? multiply(FileRows<Block>(w)) : multiply(KernelRows<Block>(w));
  Unit::release();
}

template <class Codes, class Unit>
void planar_unit_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                        const std::byte* acts, std::int64_t act_stride, std::int64_t tokens,
                        float* y, std::int64_t ldy, std::byte* scratch) noexcept {
  if (tokens < kUnitTokens) {
    Unit::vectors()
        .format(Codes::kType)
        .matmul_q8(w, row0, rows, acts, act_stride, tokens, y, ldy, scratch);
    return;
  }
  const auto multiply = [&](const auto& some, std::int64_t count, std::int64_t r) NEMO_SIMD_LAMBDA {
    multiply_rows_on_unit<Unit>(some, w.cols, count, acts, act_stride, tokens, y + r, ldy, scratch);
  };
  if (w.lanes == 0) {
    for_laid_out_rows<Codes>(w, row0, rows, tokens, scratch, multiply);
  } else if (rows > 0) {
    const CodeLevels<Codes> levels{Tiles<Codes>(w.planes)};
    multiply(PlaneRows<Codes>(w, levels).from(row0, 0), rows, 0);
  }
  Unit::release();
}

/// The products of the integer formats. Affine codes of 8 bits stay with the vector units: a unit
/// of signed bytes would need other mins than theirs.
template <class Unit, class Blocks, class Codes>
constexpr FormatTable unit_products(Blocks blocks, Codes codes) {
  return product_table(
      blocks, codes, []<class Block>(Block*) -> Matmul { return unit_matmul<Block, Unit>; },
      []<class C>(C*) -> Matmul {
        if constexpr (std::is_same_v<typename Tiles<C>::Block, AffineTile<128>>) {
          return nullptr;
        } else {
          return planar_unit_matmul<C, Unit>;
        }
      });
}

}  // namespace
}  // namespace nemo
