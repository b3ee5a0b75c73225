// Kernel order of codes that lie apart from their scales; included after the instruction set's
// vector.hpp.
//
// Slabs, strips and groups of kLanes rows as in weight_order-inl.hpp. Of a group's codes tile
// follows tile of 32 columns, kBits vectors each. The low bits of all codes come first: as many as
// the highest power of two in kBits; then the next ones. A part of kWidth bits fills kWidth
// vectors, lane = row: byte k of vector v has at bit kWidth * f those of column 4 * (v + kWidth *
// f) + k. Scales and biases, too, come strip after strip and group after group of rows: those of
// the group's rows side by side, for one group of columns after the other. Padding of words is
// dropped; what it filled is left at the end of the slab.
#pragma once

#include "code_levels-inl.hpp"

namespace nemo {
namespace {

/// Calls fn(first vector, first bit of a code, bits) for every part; compile-time constants.
template <int kBits, class Fn>
NEMO_SIMD void for_parts(Fn fn) {
  if constexpr ((kBits & 8) != 0) fn(Index<0>{}, Index<0>{}, Index<8>{});
  if constexpr ((kBits & 4) != 0) fn(Index<kBits & 8>{}, Index<kBits & 8>{}, Index<4>{});
  if constexpr ((kBits & 2) != 0) fn(Index<kBits & 12>{}, Index<kBits & 12>{}, Index<2>{});
  if constexpr ((kBits & 1) != 0) fn(Index<kBits & 14>{}, Index<kBits & 14>{}, Index<1>{});
}

/// The codes of a tile in kernel order, in bytes, lane = row.
template <int kBits>
NEMO_SIMD void ordered_codes(const std::byte* p, I (&low)[4], I (&high)[4]) {
  for_parts<kBits>([&](auto first, auto shift, auto width) NEMO_SIMD_LAMBDA {
    constexpr int kWidth = decltype(width)::k;
    constexpr int kShift = decltype(shift)::k;
    I vectors[kWidth];
    for (int v = 0; v < kWidth; ++v) vectors[v] = load_bytes(p + (first.k + v) * kLaneBytes);
    unroll<8>([&](auto quad) NEMO_SIMD_LAMBDA {
      constexpr int kQuad = decltype(quad)::k;
      constexpr int kDown = kQuad / kWidth * kWidth - kShift;  // to the place in a code
      I bits = vectors[kQuad % kWidth];
      if constexpr (kDown > 0) bits = shift_right<kDown>(bits);
      if constexpr (kDown < 0) bits = shift_left<-kDown>(bits);
      if constexpr (kWidth < 8) bits = and_bits(bits, all_bytes(((1 << kWidth) - 1) << kShift));
      I& code = kQuad < 4 ? low[kQuad % 4] : high[kQuad % 4];
      code = kShift == 0 ? bits : or_bits(code, bits);
    });
  });
}

/// quads: 32 codes of a row, a byte each, and their words in a tile.
template <int kBits>
NEMO_SIMD void order_codes(const std::uint32_t (&quads)[8], int lane, std::byte* tile) {
  for_parts<kBits>([&](auto first, auto shift, auto width) NEMO_SIMD_LAMBDA {
    constexpr int kWidth = decltype(width)::k;
    constexpr std::uint32_t kMask = ((1u << kWidth) - 1) * 0x01010101u;
    for (int v = 0; v < kWidth; ++v) {
      std::uint32_t word = 0;
      for (int f = 0; f < 8 / kWidth; ++f) {
        word |= (quads[v + kWidth * f] >> shift.k & kMask) << kWidth * f;
      }
      __builtin_memcpy(tile + (first.k + v) * kLaneBytes + 4 * lane, &word, 4);
    }
  });
}
template <int kBits>
NEMO_SIMD void codes_of_row(const std::byte* tile, int lane, std::uint32_t (&quads)[8]) {
  for (std::uint32_t& quad : quads) quad = 0;
  for_parts<kBits>([&](auto first, auto shift, auto width) NEMO_SIMD_LAMBDA {
    constexpr int kWidth = decltype(width)::k;
    constexpr std::uint32_t kMask = ((1u << kWidth) - 1) * 0x01010101u;
    for (int v = 0; v < kWidth; ++v) {
      std::uint32_t word = 0;
      __builtin_memcpy(&word, tile + (first.k + v) * kLaneBytes + 4 * lane, 4);
      for (int f = 0; f < 8 / kWidth; ++f) {
        quads[v + kWidth * f] |= (word >> kWidth * f & kMask) << shift.k;
      }
    }
  });
}

/// Where the scales of the group of rows and the column at `place` lie in a plane in kernel order:
/// so many from the start of the slab.
NEMO_SIMD std::int64_t scale_in_order(const PlaceInOrder& place, int shift) {
  const std::int64_t groups_of_width = ((place.width - 1) >> shift) + 1;
  return (place.strip >> shift) * place.height + groups_of_width * place.row +
         (place.column >> shift) * kLanes;
}

/// FormatKernels::to_kernel_order.
template <class Codes>
void planes_to_kernel_order(const WeightRows& from, std::int64_t row0, std::int64_t rows,
                            const RowsOut& to) noexcept {
  constexpr int kBits = Eights<Codes>::kBitsEach;
  const std::int64_t size = scale_bytes(from.planes.type);
  const int shift = shift_of(from.planes);
  for_order(rows, from.cols, [&](std::int64_t r0, std::int64_t c0, std::int64_t width) {
    const PlaceInOrder place(rows, from.cols, r0, c0);
    std::byte* const group = to.codes + place.slab * from.row_bytes + place.elements() / 8 * kBits;
    const std::int64_t scales_at =
        place.slab * from.planes.stride + scale_in_order(place, shift) * size;
    for (int lane = 0; lane < kLanes; ++lane) {
      const MatrixBytes row = from.row(row0 + r0 + lane);
      std::byte* tile = group;
      for (std::int64_t c = c0; c < c0 + width; c += 32, tile += kBits * kLaneBytes) {
        std::uint32_t quads[8];
        for (int i = 0; i < 4; ++i) {
          const std::uint64_t eight = Eights<Codes>::load(row.codes, c + 8 * i);
          __builtin_memcpy(quads + 2 * i, &eight, 8);
        }
        order_codes<kBits>(quads, lane, tile);
      }
      const auto order_scales = [&](const std::byte* plane, std::byte* out) NEMO_SIMD_LAMBDA {
        if (plane == nullptr) return;
        for (std::int64_t g = 0; g << shift < width; ++g) {
          __builtin_memcpy(out + scales_at + (g * kLanes + lane) * size,
                           plane + ((c0 >> shift) + g) * size, static_cast<std::size_t>(size));
        }
      };
      order_scales(row.scales, to.scales);
      order_scales(row.biases, to.biases);
    }
  });
}

/// FormatKernels::decode_row of rows in kernel order.
template <class Codes>
void decode_ordered_planes(const WeightRows& w, std::int64_t r, float* out) noexcept {
  constexpr int kBits = Eights<Codes>::kBitsEach;
  const auto lane = static_cast<int>(r % kLanes);
  const Planes& planes = w.planes;
  const int shift = shift_of(planes);
  for (std::int64_t c = 0; c < w.cols; c += 32) {
    const PlaceInOrder place(w.rows, w.cols, r - lane, c);
    const MatrixBytes slab = w.row(place.slab);
    std::uint32_t quads[8];
    codes_of_row<kBits>(slab.codes + place.elements() / 8 * kBits, lane, quads);
    for (std::int64_t i = 0; i < 32; ++i) {
      const std::int64_t at = scale_in_order({w.rows, w.cols, r - lane, c + i}, shift) + lane;
      const unsigned code = quads[i / 4] >> (8 * (i % 4)) & 0xffu;
      // As decode_planar: the product is rounded, then the sum. Through memory, lest the compiler
      // contracts them.
      float product = Codes::level(code, planes.levels) * load_scale(planes.type, slab.scales, at);
      __asm__("" : "+m"(product));
      out[c + i] =
          product + (slab.biases == nullptr ? 0.0f : load_scale(planes.type, slab.biases, at));
    }
  }
}

/// Scales [first, first + kLanes) of a plane.
NEMO_SIMD F scale_lanes(ScaleType type, const std::byte* plane, std::int64_t first) {
  switch (type) {
    case ScaleType::f32:
      return load(reinterpret_cast<const float*>(plane) + first);
    case ScaleType::f16:
      return load(reinterpret_cast<const Half*>(plane) + first);
    case ScaleType::bf16:
      return load(reinterpret_cast<const BFloat16*>(plane) + first);
    case ScaleType::e8m0: {
      const I e = load_byte_words(plane + first);
      const I smallest = all_words(1 << 22);  // 2^-127 has no exponent of its own
      return as_floats(greater_words(e, all_words(0), shift_words_left<23>(e), smallest));
    }
    case ScaleType::e4m3:
      return load(reinterpret_cast<const E4m3Element*>(plane + first));
    case ScaleType::none:
      break;
  }
  return F(1.0f);
}

/// A tile of kernel order, as a block.
template <class Codes>
struct OrderedTile {
  std::byte bytes[4 * Eights<Codes>::kBitsEach];
  static constexpr int kElements = 32;
};
/// kLanes rows from a tile on, as KernelBlocks.
template <class Codes>
struct OrderedTiles {
  static constexpr bool kKernelOrder = true;
  const std::byte* p;
  const std::byte* scales;
  const std::byte* biases;
  ScaleType type;
  int shift;            // groups of 2^shift columns
  std::int64_t column;  // from where scales and biases start on
  const CodeLevels<Codes>* levels;

  NEMO_SIMD F scale(const std::byte* plane, std::int64_t group) const {
    return scale_lanes(type, plane, group * kLanes);
  }
  /// Reads what comes 1 KiB behind this tile's scales, if they have 2 bytes, into cache.
  NEMO_SIMD void fetch_scales() const {
    if (scales == nullptr) return;
    const std::int64_t ahead = (column >> shift) * kLanes * 2 + 1024;
    __builtin_prefetch(scales + ahead, 0, 3);
    if (biases != nullptr) __builtin_prefetch(biases + ahead, 0, 3);
  }
  NEMO_SIMD void next() {
    p += sizeof(OrderedTile<Codes>) * kLanes;
    column += 32;
  }
  /// Behind the last tile of a strip: to the next rows.
  NEMO_SIMD void next_group() {
    const std::int64_t bytes = (((column - 1) >> shift) + 1) * kLanes * scale_bytes(type);
    if (scales != nullptr) scales += bytes;
    if (biases != nullptr) biases += bytes;
    column = 0;
  }
};

template <class Codes>
struct Unpack<OrderedTile<Codes>> {
  using Same = Unpack<typename Tiles<Codes>::Block>;
  static constexpr int kMaxCode = Same::kMaxCode;
  static constexpr int kOffset = Same::kOffset;
  static constexpr int kGroup = Same::kGroup;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = Same::kHasMin;
  NEMO_SIMD static void scales(const OrderedTiles<Codes>& b, F* scale, F* min) {
    for (int g = 0; g < 32 / kGroup; ++g) {
      const std::int64_t group = (b.column + g * kGroup) >> b.shift;
      scale[g] = b.scale(b.scales, group);
      min[g] = kHasMin && b.biases != nullptr ? b.scale(b.biases, group) : F(0.0f);
      b.levels->scale(scale[g], min[g]);
    }
  }
  template <int>
  NEMO_SIMD static void codes(const OrderedTiles<Codes>& b, int, I (&low)[4], I (&high)[4]) {
    ordered_codes<Eights<Codes>::kBitsEach>(b.p, low, high);
    b.levels->codes(low, high);
  }
};

/// Planar rows in kernel order, from a row and a column on, as KernelRows.
template <class Codes>
struct PlaneRows {
  using Block = OrderedTile<Codes>;
  static constexpr bool kKernelOrder = true;
  static constexpr bool kOneStream = false;
  static constexpr std::int64_t kMostGroups = KernelOrder::kSlabGroups;
  const std::byte* data;
  std::int64_t row_bytes;
  std::int64_t stride;  // of scales
  OrderedFrom at;
  OrderedTiles<Codes> first;  // of the matrix

  NEMO_SIMD PlaneRows(const WeightRows& w, const CodeLevels<Codes>& levels)
      : data(w.data),
        row_bytes(w.row_bytes),
        stride(w.planes.stride),
        at{w.rows, w.cols},
        first{nullptr, w.scales, w.biases, w.planes.type, shift_of(w.planes), 0, &levels} {}
  NEMO_SIMD PlaneRows from(std::int64_t row, std::int64_t column) const {
    PlaneRows moved = *this;
    moved.at.move(row, column);
    return moved;
  }
  [[nodiscard]] NEMO_SIMD std::int64_t strip(std::int64_t) const {
    return KernelOrder::strip_cols(at.cols);
  }
  [[nodiscard]] NEMO_SIMD std::int64_t together(std::int64_t rows) const {
    if (at.in_strips()) return at.together(rows);
    return rows < kLanes ? rows : kLanes;  // slabs of one group, and what was padding behind them
  }
  NEMO_SIMD OrderedTiles<Codes> blocks() const {
    const PlaceInOrder place = at.place();
    OrderedTiles<Codes> tiles = first;
    tiles.p = data + place.slab * row_bytes + bytes_of<Block>(place.elements());
    const std::int64_t scales_at =
        place.slab * stride + scale_in_order(place, first.shift) * scale_bytes(first.type);
    if (first.scales != nullptr) tiles.scales += scales_at;
    if (first.biases != nullptr) tiles.biases += scales_at;
    return tiles;
  }
  NEMO_SIMD Ahead ahead(std::int64_t rows, std::int64_t cols, std::int64_t steps) const {
    return ordered_ahead<Block>(data, row_bytes, at, rows, cols, steps);
  }
};

}  // namespace
}  // namespace nemo
