// What may belong to a stored matrix, or a stack of them, beside one run of bytes.
#pragma once

#include <nemo/tensor/formats_planar.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace nemo {

/// How the inputs of a matrix are rotated before the product: Kernels::rotate. Matrices with equal
/// rotations of one checkpoint share one object, so that an input is rotated once for all of them.
struct Rotation {
  std::vector<float> signs;  // [cols] +-1
  std::int64_t block = 0;    // hadamard_block(cols)
};

/// All absent for a matrix of blocks. A stack's matrices, and its planes, follow each other unless
/// `parts` says where each one is.
struct SideArrays {
  Planes planes;                      // of planar types
  const std::byte* scales = nullptr;  // [count, rows, planes.stride]
  const std::byte* biases = nullptr;  // same shape, or null
  std::vector<MatrixBytes> parts;     // empty or [count]
  std::shared_ptr<const Rotation> rotation;

  /// Bytes of one row's scales and offsets.
  [[nodiscard]] std::int64_t row_bytes() const noexcept {
    const bool offsets = biases != nullptr || (!parts.empty() && parts.front().biases != nullptr);
    return planes.stride * (offsets ? 2 : 1);
  }
  /// Where the arrays of matrix `index` start; `data`: codes of the first one, `rows` rows of `row`
  /// bytes each.
  [[nodiscard]] MatrixBytes of(const std::byte* data, std::int64_t index, std::int64_t rows,
                               std::int64_t row) const noexcept {
    if (!parts.empty()) return parts[static_cast<std::size_t>(index)];
    const std::int64_t first = index * rows;
    const auto at = [&](const std::byte* plane) {
      return plane == nullptr ? nullptr : plane + first * planes.stride;
    };
    return {data + first * row, at(scales), at(biases)};
  }
};

}  // namespace nemo
