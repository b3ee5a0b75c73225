// What packs hold of matrices whose scales lie apart: each plane is a tensor of bytes, I8, and key
// kPackPlanesKey describes them; docs/FORMATS.md has the details.
#pragma once

#include "gguf_pieces.hpp"

#include <nemo/io/gguf.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nemo {

inline constexpr std::string_view kPackPlanesKey = "nemo.pack.planes";

/// Collects the pieces of planar matrices, and what describes them.
class PlanePieces {
 public:
  /// Appends the planes of `tensor`, which `layout` names.
  void add(const TensorRef& tensor, const LayoutTensor& layout, std::vector<GgufPiece>& pieces);
  /// Appends codebooks and rotations, each once.
  void finish(std::vector<GgufPiece>& pieces);
  /// The value of kPackPlanesKey; empty: there are no planar matrices.
  [[nodiscard]] std::string description() const;

 private:
  struct Entry {
    const TensorRef* tensor;
    std::string levels, signs;  // tensors, or empty
  };
  std::map<std::string, Entry> entries_;  // by name
  std::map<std::vector<float>, std::string> levels_;
  std::unordered_map<const Rotation*, std::string> signs_;
  std::vector<std::pair<std::string, std::vector<float>>> tables_;
};

/// The planar matrices of a pack.
class PlaneTensors {
 public:
  /// Throws Error{bad_file} when the description makes no sense.
  explicit PlaneTensors(const Gguf& gguf);

  [[nodiscard]] bool contains(std::string_view name) const {
    return entries_.contains(std::string(name));
  }
  /// A tensor of this name and shape, but for its canonical name, with the names of the tensors
  /// it was read from in `used`. Throws Error{bad_file} when one is missing or has other sizes.
  [[nodiscard]] TensorRef find(const std::string& name, const std::vector<std::int64_t>& shape,
                               std::vector<std::string_view>& used);

 private:
  struct Entry {
    DType type = DType::affine4;
    ScaleType scales = ScaleType::none;
    std::int64_t group = 0;
    bool biases = false;
    std::string levels, signs;
  };
  [[nodiscard]] const std::byte* plane(const std::string& name, std::int64_t row,
                                       const TensorRef& tensor,
                                       std::vector<std::string_view>& used) const;
  [[nodiscard]] std::vector<float> floats(const std::string& name, std::int64_t count,
                                          std::vector<std::string_view>& used) const;

  const Gguf& gguf_;
  std::unordered_map<std::string, Entry> entries_;
  std::unordered_map<std::string, std::vector<float>> levels_;
  std::unordered_map<std::string, std::shared_ptr<const Rotation>> rotations_;
};

}  // namespace nemo
