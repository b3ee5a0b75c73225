// Gathers the weight formats of one instruction set into a table; included after its vector.hpp.
#pragma once

#include "float_matmul-inl.hpp"
#include "format_table.hpp"
#include "planar_q8-inl.hpp"

#include <kernels/cpu/tables.hpp>

namespace nemo {
namespace {

/// Rows of integer formats are decoded only for look-ups (embeddings), where speed is no matter.
template <class Block>
void decode_by_reference(const WeightRows& w, std::int64_t r, float* out) noexcept {
  kReferenceKernels.formats[static_cast<int>(Block::kType)].decode_row(w, r, out);
}

/// The same for rows in either order, block by block where they lie in kernel order.
template <class Block>
void decode_ordered(const WeightRows& w, std::int64_t r, float* out) noexcept {
  if (w.lanes == 0) return decode_by_reference<Block>(w, r, out);
  alignas(64) std::byte block[sizeof(Block)];
  const auto lane = static_cast<int>(r % kLanes);
  for (std::int64_t c = 0; c < w.cols; c += Block::kElements) {
    block_of_row<Block>(KernelRows<Block>(w).from(r - lane, c).blocks().p, lane, block);
    decode_by_reference<Block>({block, sizeof(Block), Block::kElements}, 0, out + c);
  }
}

template <class Codes>
void decode_planes(const WeightRows& w, std::int64_t r, float* out) noexcept {
  w.lanes == 0 ? decode_by_reference<Codes>(w, r, out) : decode_ordered_planes<Codes>(w, r, out);
}

/// Formats with an Unpack multiply in int8, all others in float.
template <class Block>
constexpr FormatKernels weight_format() {
  if constexpr (requires { Unpack<Block>::kGroup; }) {
    return {ActFormat::q8, q8_matmul<Block>, decode_ordered<Block>, kLanes, to_kernel_order<Block>};
  } else {
    return {ActFormat::f32, float_matmul<expand<Block>, typename Stored<Block>::Element>,
            expand_row<expand<Block>>};
  }
}

template <class Codes>
constexpr FormatKernels planar_format() {
  FormatKernels format{ActFormat::f32,
                       float_matmul<expand_planar<Codes>, typename CodeValues<Codes>::Element>,
                       decode_by_reference<Codes>};
  if constexpr (requires { Tiles<Codes>::kGroup; }) {
    format.decode_row = decode_planes<Codes>;
    format.lanes = kLanes;
    format.to_kernel_order = planes_to_kernel_order<Codes>;
    format.matmul_q8 = planar_q8_matmul<Codes>;
    format.q8_group = Tiles<Codes>::kGroup;
  }
  return format;
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
