// Names by the layout of trunk and draft head; bytes of matrices plane by plane.
#include "stored_bytes.hpp"

#include <nemo/base/error.hpp>

#include <algorithm>

namespace nemo {
namespace {

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

}  // namespace

TensorNames::TensorNames(const ModelConfig& config) {
  for (LayoutTensor& tensor : whole_layout(config)) {
    const std::string name = tensor.canonical;
    known_.emplace(name, std::move(tensor));
  }
}

LayoutTensor TensorNames::of(const TensorRef& tensor) const {
  const auto it = known_.find(tensor.name);
  if (it != known_.end()) return it->second;
  // A bias: named as its matrix.
  const auto matrix = known_.find(replaced(tensor.name, ".bias", ".weight"));
  if (matrix == known_.end() || !tensor.name.ends_with(".bias")) {
    throw Error(ErrorCode::unsupported,
                "tensor '" + tensor.name + "' has no place in another container");
  }
  LayoutTensor bias = matrix->second;
  bias.canonical = tensor.name;
  bias.name = replaced(bias.name, ".weight", ".bias");
  bias.dims = {tensor.cols()};
  if (tensor.rank > 2) bias.dims.push_back(tensor.count());  // of experts
  bias.role = TensorRole::conv_bias;
  return bias;
}

std::vector<std::span<const std::byte>> plane_bytes(const TensorRef& t, StoredPlane plane,
                                                    std::int64_t first, std::int64_t count) {
  const std::int64_t row =
      plane == StoredPlane::codes ? row_bytes(t.type, t.cols()) : t.side.planes.stride;
  const auto size = static_cast<std::size_t>(t.rows() * row);
  std::vector<std::span<const std::byte>> runs;
  for (std::int64_t i = first; i < first + count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (!t.side.parts.empty()) {
      const MatrixBytes& part = t.side.parts[at];
      runs.emplace_back(plane == StoredPlane::codes    ? part.codes
                        : plane == StoredPlane::scales ? part.scales
                                                       : part.biases,
                        size);
      continue;
    }
    const std::byte* start = plane == StoredPlane::codes    ? t.data
                             : plane == StoredPlane::scales ? t.side.scales
                                                            : t.side.biases;
    runs.emplace_back(start + at * size, size);
  }
  return runs;
}

void CopyMeter::copy(const std::vector<std::span<const std::byte>>& runs,
                     const std::function<void(std::uint64_t, std::span<const std::byte>)>& write) {
  constexpr std::size_t kPiece = 4 << 20;
  std::uint64_t offset = 0;
  for (std::span<const std::byte> run : runs) {
    while (!run.empty()) {
      const auto piece = run.first(std::min(kPiece, run.size()));
      write(offset, piece);
      offset += piece.size();
      done_ += piece.size();
      run = run.subspan(piece.size());
      if (progress_ && !progress_(std::min(done_, total_), total_)) {
        throw Error(ErrorCode::cancelled, "cancelled");
      }
    }
  }
}

}  // namespace nemo
