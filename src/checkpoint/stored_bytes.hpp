// The bytes of a stored tensor where they lie, and the layout entry it fills.
#pragma once

#include <nemo/base/progress.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/checkpoint/gguf_layout.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace nemo {

/// What the containers call the tensors of a checkpoint, the draft head and biases included.
class TensorNames {
 public:
  explicit TensorNames(const ModelConfig& config);
  /// With the dims of the layout, or of the tensor where the layout does not know it.
  [[nodiscard]] LayoutTensor of(const TensorRef& tensor) const;

 private:
  std::unordered_map<std::string, LayoutTensor> known_;  // by canonical name
};

enum class StoredPlane : std::uint8_t { codes, scales, biases };

/// Runs of bytes that together are the plane of matrices [first, first + count) of a stack.
[[nodiscard]] std::vector<std::span<const std::byte>> plane_bytes(const TensorRef& tensor,
                                                                  StoredPlane plane,
                                                                  std::int64_t first,
                                                                  std::int64_t count);

/// Hands runs on in pieces that fit a cache, counting bytes: `write(offset, bytes)`.
class CopyMeter {
 public:
  CopyMeter(std::uint64_t total, const ProgressCallback& progress)
      : total_(total), progress_(progress) {}
  /// Throws Error{cancelled}.
  void copy(const std::vector<std::span<const std::byte>>& runs,
            const std::function<void(std::uint64_t, std::span<const std::byte>)>& write);

 private:
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  const ProgressCallback& progress_;
};

}  // namespace nemo
