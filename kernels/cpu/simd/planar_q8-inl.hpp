// Integer products with codes that lie apart from their scales: rows are laid out in scratch as
// blocks of bytes with float scales, which then go the way of the block formats
// (q8_matmul-inl.hpp), or multiplied as they lie. Included after the instruction set's vector.hpp.
#pragma once

#include "planar_direct-inl.hpp"
#include "planar_order-inl.hpp"

namespace nemo {
namespace {

/// Lays out row r; what lies `ahead` bytes further is fetched, since it is next.
template <class Codes>
NEMO_SIMD void lay_out_row(const Tiles<Codes>& tiles, const WeightRows& w, std::int64_t r,
                           std::int64_t ahead, typename Tiles<Codes>::Block* out) {
  constexpr std::int64_t kPieceCols = 4096;
  constexpr std::int64_t kMostScales = kPieceCols / Tiles<Codes>::kGroup + 1;
  const MatrixBytes row = w.row(r);
  const int shift = shift_of(w.planes);
  fetch_lines(row.codes + ahead, w.row_bytes);
  for (std::int64_t c = 0; c < w.cols; c += kPieceCols) {
    const std::int64_t end = w.cols - c < kPieceCols ? w.cols : c + kPieceCols;
    const std::int64_t first = c >> shift;
    const std::int64_t count = ((end - 1) >> shift) - first + 1;
    float scales[kMostScales];
    float mins[kMostScales];
    load_scales(w.planes.type, row.scales, first, count, scales);
    if (row.biases != nullptr) {
      load_scales(w.planes.type, row.biases, first, count, mins);
    } else {
      for (std::int64_t g = 0; g < count; ++g) mins[g] = 0.0f;
    }
    auto* const from = out;
    for (std::int64_t column = c; column < end; column += 32) {
      tiles(row.codes, column, shift, scales - first, mins - first, *out++);
    }
    if constexpr (requires { tiles.finish(*out); }) {
      for (auto* tile = from; tile < out; ++tile) tiles.finish(*tile);
    }
  }
}

/// multiply(rows as blocks, how many, first of them - row0) for as many rows at a time as fit.
template <class Codes, class Multiply>
NEMO_SIMD void for_laid_out_rows(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                                 std::int64_t tokens, std::byte* scratch, Multiply multiply) {
  using Block = typename Tiles<Codes>::Block;
  if (rows == 0) return;  // Tiles may round a codebook
  const std::int64_t row_bytes = bytes_of<Block>(w.cols);
  // Few tokens: what is laid out stays in L1 or L2 and the next rows come meanwhile. Many: each
  // call first prepares its activations.
  const std::int64_t wanted = tokens <= kDirectTokens ? 16 : 256;
  const std::int64_t fitting = kLaidOutBytes / row_bytes / kLanes * kLanes;
  static_assert(bytes_of<Block>(FormatKernels::kMostQ8Cols) <= kLaidOutBytes);
  const std::int64_t step = wanted < fitting ? wanted : fitting > 0 ? fitting : 1;
  auto* laid_out = reinterpret_cast<Block*>(scratch + kQ8ScratchBytes);
  const Tiles<Codes> tiles(w.planes);
  for (std::int64_t r = 0; r < rows; r += step) {
    const std::int64_t count = rows - r < step ? rows - r : step;
    for (std::int64_t i = 0; i < count; ++i) {
      lay_out_row<Codes>(tiles, w, row0 + r + i, r + i + step < rows ? step * w.row_bytes : 0,
                         laid_out + i * (w.cols / 32));
    }
    multiply(FileRows<Block>({reinterpret_cast<const std::byte*>(laid_out), row_bytes, w.cols}),
             count, r);
  }
}

template <class Codes, class Layouts = OwnLayouts>
void planar_q8_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                      const std::byte* acts, std::int64_t act_stride, std::int64_t tokens, float* y,
                      std::int64_t ldy, std::byte* scratch) noexcept {
  const auto multiply = [&](const auto& some, std::int64_t count, std::int64_t r) NEMO_SIMD_LAMBDA {
    multiply_rows<Layouts>(some, w.cols, count, acts, act_stride, tokens, y + r, ldy, scratch);
  };
  if (w.lanes != 0) {
    if (rows == 0) return;  // Tiles may round a codebook
    const CodeLevels<Codes> levels{Tiles<Codes>(w.planes)};
    multiply(PlaneRows<Codes>(w, levels).from(row0, 0), rows, 0);
    return;
  }
  std::int64_t done = 0;
  // Rows are read in pieces of 16 bytes.
  if (tokens <= kDirectTokens && w.cols <= kRowTilesCols && w.row_bytes >= 16) {
    done = rows / kLanes * kLanes;
    if (done > 0) {
      multiply_in_place<Codes>(w, row0, done, acts, act_stride, tokens, y, ldy, scratch);
    }
  }
  for_laid_out_rows<Codes>(w, row0 + done, rows - done, tokens, scratch,
                           [&](const auto& blocks, std::int64_t count, std::int64_t r)
                               NEMO_SIMD_LAMBDA { multiply(blocks, count, done + r); });
}

/// A table of the integer formats' products, of activations as `act`, and nothing else:
/// block_product(Block*) gives that of a block format, planar_product(Codes*) that of a planar one,
/// or null.
template <class... Blocks, class... Codes, class BlockProduct, class PlanarProduct>
constexpr FormatTable product_table(BlockList<Blocks...>, BlockList<Codes...>,
                                    BlockProduct block_product, PlanarProduct planar_product,
                                    ActFormat act = ActFormat::q8) {
  FormatTable table{};
  const auto add = [&]<class Block>(Block* block) {
    if constexpr (requires { Unpack<Block>::kGroup; }) {
      FormatKernels& format = table.formats[static_cast<int>(Block::kType)];
      format.act = act;
      format.matmul = block_product(block);
    }
  };
  (add(static_cast<Blocks*>(nullptr)), ...);
  const auto add_planar = [&]<class C>(C* codes) {
    if constexpr (requires { Tiles<C>::kGroup; }) {
      FormatKernels& format = table.formats[static_cast<int>(C::kType)];
      format.act_q8 = act;
      format.matmul_q8 = planar_product(codes);
    }
  };
  (add_planar(static_cast<Codes*>(nullptr)), ...);
  return table;
}

/// The products on the vector units.
template <class Blocks, class Codes>
constexpr FormatTable integer_products(Blocks blocks, Codes codes) {
  return product_table(
      blocks, codes, []<class Block>(Block*) -> Matmul { return q8_matmul<Block>; },
      []<class C>(C*) -> Matmul { return planar_q8_matmul<C>; });
}

}  // namespace
}  // namespace nemo
