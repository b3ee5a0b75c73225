// Weight products of the reference table: every format is decoded to float and multiplied with
// unquantized activations, y[t, r] = sum_c W[r, c] x[t, c].
#include "formats.hpp"

#include <nemo/tensor/formats.hpp>

namespace nemo::reference {
namespace {

/// Expands columns [first, first + n) of row r; `first` starts a block.
template <class Block>
void expand(const WeightRows& w, std::int64_t r, std::int64_t first, std::int64_t n,
            float* out) noexcept {
  const auto offset = first / Block::kElements * static_cast<std::int64_t>(sizeof(Block));
  decode_row<Block>(w.data + r * w.row_bytes + offset, n, out);
}
template <class Codes>
void expand_planar(const WeightRows& w, std::int64_t r, std::int64_t first, std::int64_t n,
                   float* out) noexcept {
  decode_planar<Codes>(w.row(r), w.planes, first, n, out);
}

using Expand = void (*)(const WeightRows& w, std::int64_t r, std::int64_t first, std::int64_t n,
                        float* out) noexcept;

template <Expand kExpand>
void expand_row(const WeightRows& w, std::int64_t r, float* out) noexcept {
  kExpand(w, r, 0, w.cols, out);
}

/// Rows wider than the scratch are decoded piece by piece; pieces depend on the width alone, so a
/// result does not depend on how rows and tokens were split over calls.
template <Expand kExpand>
void matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
            std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
            std::byte* scratch) noexcept {
  constexpr std::int64_t kPiece =
      static_cast<std::int64_t>(kMatmulScratchBytes / sizeof(float)) / 256 * 256;
  auto* decoded = reinterpret_cast<float*>(scratch);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t t = 0; t < tokens; ++t) y[t * ldy + r] = 0.0f;
    for (std::int64_t c = 0; c < w.cols; c += kPiece) {
      const std::int64_t n = w.cols - c < kPiece ? w.cols - c : kPiece;
      kExpand(w, row0 + r, c, n, decoded);
      for (std::int64_t t = 0; t < tokens; ++t) {
        const auto* x = reinterpret_cast<const float*>(acts + t * act_stride) + c;
        y[t * ldy + r] += dot(x, decoded, n);
      }
    }
  }
}

template <Expand kExpand>
constexpr FormatKernels weights() {
  return {ActFormat::f32, matmul<kExpand>, expand_row<kExpand>};
}

template <class... Blocks, class... Scalars, class... Codes>
constexpr FormatTable make_table(BlockList<Blocks...>, BlockList<Scalars...>, BlockList<Codes...>) {
  FormatTable table{};
  ((table.formats[static_cast<int>(Blocks::kType)] = weights<expand<Blocks>>()), ...);
  ((table.formats[static_cast<int>(Scalars::kType)] = {ActFormat::f32, nullptr,
                                                       expand_row<expand<Scalars>>}),
   ...);
  ((table.formats[static_cast<int>(Codes::kType)] = weights<expand_planar<Codes>>()), ...);
  return table;
}

}  // namespace

constinit const FormatTable kFormatTable =
    make_table(WeightBlocks{}, ScalarBlocks{}, PlanarCodes{});

}  // namespace nemo::reference
