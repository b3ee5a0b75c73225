// Streaming writer of safetensors files, split into shards with an index: tensor list first, then
// data in any order.
#pragma once

#include <nemo/io/atomic_file.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// Usage: add tensors, begin(), write() all bytes of every tensor, finish(). Writes
/// model.safetensors or model-0000I-of-0000N.safetensors with model.safetensors.index.json into an
/// existing folder; the files appear on finish(), an abandoned writer leaves nothing behind.
class SafetensorsWriter {
 public:
  struct Options {
    std::string format = "pt";                   // __metadata__.format; "mlx" for MLX
    std::uint64_t shard_bytes = 5'000'000'000u;  // a shard holds less unless one tensor is larger
    bool always_index = false;                   // an index for a single file too
  };

  SafetensorsWriter(std::filesystem::path folder, Options options);

  /// Declares a tensor, shape row-major; `dtype` as in the format: "BF16", "U32", "F8_E4M3".
  /// Returns its index. Throws Error{internal} for a dtype that the format does not have.
  std::size_t add_tensor(std::string_view name, std::string_view dtype,
                         std::span<const std::int64_t> shape);
  [[nodiscard]] std::uint64_t tensor_bytes(std::size_t index) const {
    return tensors_[index].bytes;
  }
  /// Bytes of all tensors declared so far.
  [[nodiscard]] std::uint64_t data_bytes() const noexcept { return data_bytes_; }

  /// Writes the headers; nothing can be added afterwards.
  void begin();
  /// Bytes [offset, offset + size) of a tensor; may be called from several threads, in any order,
  /// every byte once.
  void write(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes);
  /// Throws Error{internal} when a tensor is incomplete, {io} when the disk refuses.
  void finish();

  /// Bytes of an element; 0 when the format does not have the dtype.
  [[nodiscard]] static std::uint64_t element_bytes(std::string_view dtype) noexcept;

 private:
  struct Tensor {
    std::string name;
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t bytes = 0;
    std::size_t shard = 0;
    std::uint64_t offset = 0;  // in the data of its shard
    std::atomic<std::uint64_t> written{0};
  };
  struct Shard {
    explicit Shard(const std::filesystem::path& path) : file(path) {}
    AtomicFile file;
    std::uint64_t data_start = 0;
  };

  void plan_shards();
  [[nodiscard]] std::string shard_name(std::size_t shard) const;

  std::filesystem::path folder_;
  Options options_;
  std::deque<Tensor> tensors_;  // atomics do not move
  std::deque<Shard> shards_;
  std::uint64_t data_bytes_ = 0;
};

}  // namespace nemo
