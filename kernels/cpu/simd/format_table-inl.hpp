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
void decode_by_reference(const WeightRows& w, std::int64_t r, float* out) noexcept {
  kReferenceKernels.formats[static_cast<int>(Block::kType)].decode_row(w, r, out);
}

/// Formats with an Unpack multiply in int8, all others in float.
template <class Block>
constexpr FormatKernels weight_format() {
  if constexpr (requires { Unpack<Block>::kGroup; }) {
    return {ActFormat::q8, q8_matmul<Block>, decode_by_reference<Block>};
  } else {
    return {ActFormat::f32, float_matmul<expand<Block>, typename Stored<Block>::Element>,
            expand_row<expand<Block>>};
  }
}

template <class Codes>
constexpr FormatKernels planar_format() {
  return {ActFormat::f32, float_matmul<expand_planar<Codes>, void>, decode_by_reference<Codes>};
}

template <class... Weights, class... Scalars, class... Codes>
constexpr FormatTable make_formats(BlockList<Weights...>, BlockList<Scalars...>,
                                   BlockList<Codes...>) {
  FormatTable table{};
  ((table.formats[static_cast<int>(Weights::kType)] = weight_format<Weights>()), ...);
  ((table.formats[static_cast<int>(Scalars::kType)] = {ActFormat::f32, nullptr,
                                                       decode_by_reference<Scalars>}),
   ...);
  ((table.formats[static_cast<int>(Codes::kType)] = planar_format<Codes>()), ...);
  return table;
}

}  // namespace
}  // namespace nemo
