// Integer products: int8 activations (Q8Row) with block-quantized weights.
//
// Few tokens (q8_direct-inl.hpp) and many (q8_panel-inl.hpp) do the same float operations in the
// same order, so a result has the same bits on both ways and depends on nothing but its weight row
// and its activation row. Included after the instruction set's vector.hpp.
#pragma once

#include "format_table.hpp"
#include "q8_direct-inl.hpp"
#include "q8_panel-inl.hpp"

namespace nemo {
namespace {

// How the scratch is divided; the rest is for rows of planes (planar_q8-inl.hpp).
constexpr std::int64_t kQ8ScratchBytes = 2816 << 10;
constexpr std::int64_t kAuxBytes = 1 << 20;
constexpr std::int64_t kTailBytes = kLanes * kPanelCols * 5 / 4;  // at most 1.25 B a column
constexpr std::int64_t kPanelBytes = kQ8ScratchBytes - kAuxBytes - kTailBytes;

/// Panels of blocks' own layouts.
struct OwnLayouts {
  template <class Block>
  using Of = LayoutOf<Block>;
};

/// Products of `rows` rows of `cols` columns from w on; panels for many tokens are Layouts' of the
/// rows' blocks.
template <class Layouts, class Rows>
void multiply_rows(const Rows& w, std::int64_t cols, std::int64_t rows, const std::byte* acts,
                   std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
                   std::byte* scratch) noexcept {
  using Block = typename Rows::Block;
  using DirectLayout = LayoutOf<Block>;
  using Layout = typename Layouts::template Of<Block>;
  static_assert(kPanelRows * kPanelCols / 32 * Layout::kBytes <= kPanelBytes &&
                kPanelSlabBytes <= kPanelBytes);
  static_assert(kLanes * bytes_of<Block>(kPanelCols) <= kTailBytes);
  auto* aux = reinterpret_cast<float*>(scratch);
  std::byte* tail = scratch + kAuxBytes;
  std::byte* panels = tail + kTailBytes;
  const bool direct = tokens <= kDirectTokens;
  // Few tokens: whole rows (as many columns as aux holds tiles of), so that weights stream as they
  // lie.
  constexpr std::int64_t kStrip = KernelOrder::kStripCols;
  constexpr std::int64_t kDirectCols =
      kAuxBytes / TokenTiles<DirectLayout, kDirectTokens>::kBytes * 32 / kStrip * kStrip;
  static_assert(kDirectCols > 0 && kPanelCols % kStrip == 0);
  const std::int64_t piece_cols = direct ? kDirectCols : kPanelCols;
  for (std::int64_t c = 0; c < cols; c += piece_cols) {
    const std::int64_t width = cols - c < piece_cols ? cols - c : piece_cols;
    const Rows piece = w.from(0, c);
    const std::int64_t chunk =
        kAuxBytes / 4 / (width / 32 * Layout::kAux) / kTokensOf<Layout> * kTokensOf<Layout>;
    for (std::int64_t t = 0; t < tokens; t += direct ? tokens : chunk) {
      const std::int64_t count = direct || tokens - t < chunk ? tokens - t : chunk;
      const std::byte* rows_of_tokens = acts + t * act_stride;
      float* out = y + t * ldy;
      if (count <= kDirectTokens) {
        prepare_tiles<DirectLayout, Unpack<Block>::kOffset>(
            rows_of_tokens, act_stride, cols, c, width / 32, count, scratch,
            [](const std::byte* codes, std::byte* to) { __builtin_memcpy(to, codes, 32); });
        direct_rows(piece, rows, width, scratch, count, out, ldy, c > 0, tail);
      } else {
        prepare_aux<Layout, Unpack<Block>::kOffset>(rows_of_tokens, act_stride, cols, c, width / 32,
                                                    count, aux);
        const TokenSpan x{rows_of_tokens + c, act_stride, aux, width / 32 * Layout::kAux};
        panel_rows<Layout>(piece, rows, width, x, count, out, ldy, c > 0, tail, panels);
      }
    }
  }
}

template <class Block, class Layouts = OwnLayouts>
void q8_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
               std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
               std::byte* scratch) noexcept {
  const auto multiply = [&](const auto& all) NEMO_SIMD_LAMBDA {
    multiply_rows<Layouts>(all.from(row0, 0), w.cols, rows, acts, act_stride, tokens, y, ldy,
                           scratch);
  };
  w.lanes == 0 ? multiply(FileRows<Block>(w)) : multiply(KernelRows<Block>(w));
}

}  // namespace
}  // namespace nemo
