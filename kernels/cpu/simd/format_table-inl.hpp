// Gathers the weight formats of one instruction set into a table; included after its vector.hpp.
#pragma once

#include "float_matmul-inl.hpp"
#include "format_table.hpp"
#include "q8_matmul-inl.hpp"

#include <kernels/cpu/tables.hpp>

namespace nemo {
namespace {

/// Rows of integer formats are decoded only for look-ups (embeddings), where speed is no matter.
template <class Block>
void decode_by_reference(const std::byte* row, std::int64_t cols, float* out) noexcept {
  kReferenceKernels.formats[static_cast<int>(Block::kType)].decode_row(row, cols, out);
}

/// Formats with an Unpack multiply in int8, all others in float.
template <class Block>
constexpr FormatKernels weight_format() {
  if constexpr (requires { Unpack<Block>::kGroup; }) {
    return {ActFormat::q8, q8_matmul<Block>, decode_by_reference<Block>};
  } else {
    return {ActFormat::f32, float_matmul<Block>, expand_row<Block>};
  }
}

template <class... Weights, class... Scalars>
constexpr FormatTable make_formats(BlockList<Weights...>, BlockList<Scalars...>) {
  FormatTable table{};
  ((table.formats[static_cast<int>(Weights::kType)] = weight_format<Weights>()), ...);
  ((table.formats[static_cast<int>(Scalars::kType)] = {ActFormat::f32, nullptr,
                                                       decode_by_reference<Scalars>}),
   ...);
  return table;
}

}  // namespace
}  // namespace nemo
