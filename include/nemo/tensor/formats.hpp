// Every stored element type as a struct with a decoder: the list that all per-format code folds
// over.
#pragma once

#include <nemo/tensor/formats_basic.hpp>
#include <nemo/tensor/formats_iq.hpp>
#include <nemo/tensor/formats_k.hpp>
#include <nemo/tensor/formats_planar.hpp>

#include <cstddef>

namespace nemo {

template <class... Blocks>
struct BlockList {
  static constexpr int kCount = static_cast<int>(sizeof...(Blocks));
};

/// Types that a weight matrix may have.
using WeightBlocks =
    BlockList<PlainF32, PlainF16, PlainBF16, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0,
              BlockQ2_K, BlockQ3_K, BlockQ4_K, BlockQ5_K, BlockQ6_K, BlockIQ1_S, BlockIQ1_M,
              BlockIQ2_XXS, BlockIQ2_XS, BlockIQ2_S, BlockIQ3_XXS, BlockIQ3_S, BlockIQ4_NL,
              BlockIQ4_XS, BlockTQ1_0, BlockTQ2_0, BlockQ1_0, BlockQ2_0, BlockMXFP4, BlockNVFP4>;
/// Types of small side tensors only.
using ScalarBlocks = BlockList<PlainI8, PlainI16, PlainI32, PlainI64, PlainF64>;
/// Weight types whose scales lie apart.
using PlanarCodes =
    BlockList<AffineCodes<2, DType::affine2>, AffineCodes<3, DType::affine3>,
              AffineCodes<4, DType::affine4>, AffineCodes<5, DType::affine5>,
              AffineCodes<6, DType::affine6>, AffineCodes<8, DType::affine8>, E2m1Codes, E4m3Codes,
              TurboCodes<1, DType::turbo1>, TurboCodes<2, DType::turbo2>,
              TurboCodes<3, DType::turbo3>, TurboCodes<4, DType::turbo4>, TurboTernaryCodes>;

static_assert(WeightBlocks::kCount + ScalarBlocks::kCount + PlanarCodes::kCount == kDTypeCount);

/// Expands elements [0, cols) of one row to float; cols is a multiple of Block::kElements.
template <class Block>
[[gnu::always_inline]] inline void decode_row(const std::byte* row, std::int64_t cols,
                                              float* out) noexcept {
  const auto* blocks = reinterpret_cast<const Block*>(row);
  for (std::int64_t i = 0; i < cols / Block::kElements; ++i) {
    decode(blocks[i], out + i * Block::kElements);
  }
}

}  // namespace nemo
