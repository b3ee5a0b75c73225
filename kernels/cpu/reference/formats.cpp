// Weight products of the reference table: every format is decoded to float and multiplied with
// unquantized activations, y[t, r] = sum_c W[r, c] x[t, c].
#include "formats.hpp"

#include <nemo/tensor/formats.hpp>

namespace nemo::reference {
namespace {

template <class Block>
void decode_row_of(const std::byte* row, std::int64_t cols, float* out) noexcept {
  decode_row<Block>(row, cols, out);
}

/// Rows wider than the scratch are decoded piece by piece; pieces depend on the width alone, so a
/// result does not depend on how rows and tokens were split over calls.
template <class Block>
void matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
            std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
            std::byte* scratch) noexcept {
  constexpr std::int64_t kPiece =
      static_cast<std::int64_t>(kMatmulScratchBytes / sizeof(float)) / 256 * 256;
  auto* decoded = reinterpret_cast<float*>(scratch);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::byte* row = w.data + (row0 + r) * w.row_bytes;
    for (std::int64_t t = 0; t < tokens; ++t) y[t * ldy + r] = 0.0f;
    for (std::int64_t c = 0; c < w.cols; c += kPiece) {
      const std::int64_t n = w.cols - c < kPiece ? w.cols - c : kPiece;
      const auto row_offset = c / Block::kElements * static_cast<std::int64_t>(sizeof(Block));
      decode_row<Block>(row + row_offset, n, decoded);
      for (std::int64_t t = 0; t < tokens; ++t) {
        const auto* x = reinterpret_cast<const float*>(acts + t * act_stride) + c;
        y[t * ldy + r] += dot(x, decoded, n);
      }
    }
  }
}

template <class... Weights, class... Scalars>
constexpr FormatTable make_table(BlockList<Weights...>, BlockList<Scalars...>) {
  FormatTable table{};
  ((table.formats[static_cast<int>(Weights::kType)] = {ActFormat::f32, matmul<Weights>,
                                                       decode_row_of<Weights>}),
   ...);
  ((table.formats[static_cast<int>(Scalars::kType)] = {ActFormat::f32, nullptr,
                                                       decode_row_of<Scalars>}),
   ...);
  return table;
}

}  // namespace

constinit const FormatTable kFormatTable = make_table(WeightBlocks{}, ScalarBlocks{});

}  // namespace nemo::reference
