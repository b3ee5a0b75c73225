// Products of float activations with weights that are floats or are first decoded to floats;
// included after the instruction set's vector.hpp.
//
// y is summed over pieces of kPiece columns, four rows at a time, lanes over the columns of a
// piece: the order depends on the column count alone, so splitting rows or tokens never changes a
// result.
#pragma once

#include "ahead-inl.hpp"
#include "dot-inl.hpp"
#include "planar-inl.hpp"
#include "streams-inl.hpp"

#include <nemo/tensor/formats.hpp>

namespace nemo {
namespace {

constexpr std::int64_t kPiece = 1024;   // a multiple of every block size; 4 rows = 16 KiB of float
constexpr std::int64_t kSlabRows = 32;  // decoded rows kept in scratch: 128 KiB, resident in L2
constexpr std::int64_t kFewTokens = 4;  // fewer: rows pass by once, so no slab of them is kept
static_assert(kPiece * kSlabRows * sizeof(float) <= kMatmulScratchBytes);

/// The C++ type of the elements of formats without blocks.
template <class Block>
struct Stored {
  using Element = void;
};
template <class T, DType kType>
struct Stored<Plain<T, kType>> {
  using Element = T;
};

/// Expands columns [first, first + n) of row r; `first` starts a block.
using ExpandFn = void (*)(const WeightRows& w, std::int64_t r, std::int64_t first, std::int64_t n,
                          float* out) noexcept;
template <class Block>
void expand(const WeightRows& w, std::int64_t r, std::int64_t first, std::int64_t n,
            float* out) noexcept {
  const std::byte* from =
      w.data + r * w.row_bytes + first / Block::kElements * std::int64_t{sizeof(Block)};
  using Element = typename Stored<Block>::Element;
  if constexpr (std::is_void_v<Element>) {
    nemo::decode_row<Block>(from, n, out);
  } else {
    const auto* elements = reinterpret_cast<const Element*>(from);
    for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA { at.store(at.load(elements), out); });
  }
}

template <ExpandFn kExpand>
void expand_row(const WeightRows& w, std::int64_t r, float* out) noexcept {
  kExpand(w, r, 0, w.cols, out);
}

/// y[t, 0..rows) (+)= piece of x . rows, where row(r) points at columns of row r.
template <class Row>
NEMO_SIMD void multiply_slab(Row row, std::int64_t rows, std::int64_t width, const float* x,
                             std::int64_t ldx, std::int64_t tokens, float* y, std::int64_t ldy,
                             bool accumulate) {
  // A few tokens' pieces (4 KiB each) stay in L1 while the slab's rows pass by.
  constexpr std::int64_t kGroup = kDotRows == 4 ? 4 : 2 * kDotRows;
  for (std::int64_t t = 0; t < tokens; t += kGroup) {
    const std::int64_t count = tokens - t < kGroup ? tokens - t : kGroup;
    for (std::int64_t r = 0; r < rows; r += 4) {
      const std::int64_t height = rows - r < 4 ? rows - r : 4;
      const auto clamped = [&](std::int64_t i) { return row(r + (i < height ? i : height - 1)); };
      const float* four[4] = {clamped(0), clamped(1), clamped(2), clamped(3)};
      dot_columns<float>(count, x + t * ldx, ldx, four, width, y + t * ldy + r, ldy, height,
                         accumulate);
    }
  }
}

/// Rows of floats multiplied where they lie.
void float_slab_in_place(const std::byte* w, std::int64_t row_bytes, std::int64_t rows,
                         std::int64_t cols, const float* x, std::int64_t ldx, std::int64_t tokens,
                         float* y, std::int64_t ldy) noexcept {
  for (std::int64_t c = 0; c < cols; c += kPiece) {
    const auto row = [&](std::int64_t r) {
      return reinterpret_cast<const float*>(w + r * row_bytes) + c;
    };
    multiply_slab(row, rows, cols - c < kPiece ? cols - c : kPiece, x + c, ldx, tokens, y, ldy,
                  c > 0);
  }
}

/// A few tokens' products with rows in the type they are stored in.
template <class Element>
void float_streams_in_place(const std::byte* w, std::int64_t row_bytes, std::int64_t rows,
                            std::int64_t cols, const float* x, std::int64_t ldx,
                            std::int64_t tokens, float* y, std::int64_t ldy) noexcept {
  for_streams(rows, [&](const std::int64_t(&at)[kStreams]) NEMO_SIMD_LAMBDA {
    float sums[kFewTokens][kStreams];
    for (std::int64_t c = 0; c < cols; c += kPiece) {
      const Element* row[kStreams];
      for (std::int64_t i = 0; i < kStreams; ++i) {
        row[i] = reinterpret_cast<const Element*>(w + at[i] * row_bytes) + c;
      }
      dot_columns<Element>(tokens, x + c, ldx, row, cols - c < kPiece ? cols - c : kPiece, sums[0],
                           kStreams, kStreams, c > 0);
    }
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t i = 0; i < kStreams; ++i) y[t * ldy + at[i]] = sums[t][i];
    }
  });
}

/// Rows multiplied through a float copy in scratch.
void float_slab_copied(ExpandFn expand_piece, const WeightRows& w, std::int64_t row0,
                       std::int64_t rows, const float* x, std::int64_t ldx, std::int64_t tokens,
                       float* y, std::int64_t ldy, std::byte* scratch) noexcept {
  auto* copy = reinterpret_cast<float*>(scratch);
  for (std::int64_t c = 0; c < w.cols; c += kPiece) {
    const std::int64_t width = w.cols - c < kPiece ? w.cols - c : kPiece;
    for (std::int64_t r = 0; r < rows; ++r) {
      // Pieces of rows are no stream that hardware follows: the next slab's come meanwhile.
      const std::byte* next = w.data + (row0 + r + rows) * w.row_bytes + c * w.row_bytes / w.cols;
      fetch_lines(next, width * w.row_bytes / w.cols);
      expand_piece(w, row0 + r, c, width, copy + r * kPiece);
    }
    const auto row = [&](std::int64_t r) -> const float* { return copy + r * kPiece; };
    multiply_slab(row, rows, width, x + c, ldx, tokens, y, ldy, c > 0);
  }
}

/// kExpand for rows that must be expanded; Element = void, or the type that rows without scales
/// consist of.
template <ExpandFn kExpand, class Element>
void float_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
                  std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
                  std::byte* scratch) noexcept {
  const auto* x = reinterpret_cast<const float*>(acts);
  const std::int64_t ldx = act_stride / std::int64_t{sizeof(float)};
  const bool few = tokens < kFewTokens;
  const bool stored = !std::is_void_v<Element> && w.planes.type == ScaleType::none;
  if constexpr (!std::is_void_v<Element>) {
    if (few && stored) {
      float_streams_in_place<Element>(w.data + row0 * w.row_bytes, w.row_bytes, rows, w.cols, x,
                                      ldx, tokens, y, ldy);
      return;
    }
  }
  const std::int64_t step = few ? 4 : kSlabRows;
  for (std::int64_t r = 0; r < rows; r += step) {
    const std::int64_t height = rows - r < step ? rows - r : step;
    if constexpr (std::is_same_v<Element, float>) {
      if (stored) {
        float_slab_in_place(w.data + (row0 + r) * w.row_bytes, w.row_bytes, height, w.cols, x, ldx,
                            tokens, y + r, ldy);
        continue;
      }
    }
    float_slab_copied(kExpand, w, row0 + r, height, x, ldx, tokens, y + r, ldy, scratch);
  }
}

}  // namespace
}  // namespace nemo
