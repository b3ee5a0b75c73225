// Streaming writer of GGUF v3 files: metadata and tensor list first, then data in any order.
#pragma once

#include <nemo/io/atomic_file.hpp>
#include <nemo/io/gguf.hpp>
#include <nemo/tensor/dtype.hpp>

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

/// Usage: add metadata and tensors, begin(), write() all bytes of every tensor, finish(). The file
/// appears under its name on finish(); an abandoned writer leaves nothing behind.
class GgufWriter {
 public:
  /// `alignment`: a power of two >= 8; recorded in the file when it is not the default 32.
  explicit GgufWriter(const std::filesystem::path& path, std::uint32_t alignment = 32,
                      GgufMagic magic = GgufMagic::gguf);

  void add_string(std::string_view key, std::string_view value);
  void add_u32(std::string_view key, std::uint32_t value);
  void add_i32(std::string_view key, std::int32_t value);
  void add_u16(std::string_view key, std::uint16_t value);
  void add_u64(std::string_view key, std::uint64_t value);
  void add_f32(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_i32s(std::string_view key, std::span<const std::int32_t> values);
  void add_f32s(std::string_view key, std::span<const float> values);
  void add_strings(std::string_view key, std::span<const std::string> values);
  /// A value as another file holds it.
  void add_value(std::string_view key, const GgufValue& value);
  /// All keys of another file, but those that tell how it is laid out (alignment, parts) and those
  /// that start with `without`.
  void add_keys(const Gguf& from, std::string_view without);

  /// Declares a tensor; dims contiguous first. Returns its index.
  std::size_t add_tensor(std::string_view name, DType type, std::span<const std::int64_t> dims);
  [[nodiscard]] std::uint64_t tensor_bytes(std::size_t index) const {
    return tensors_[index].bytes;
  }
  /// Size of the whole file with what has been declared so far.
  [[nodiscard]] std::uint64_t file_bytes() const;

  /// Writes header and tensor list; nothing can be added afterwards. Throws Error{io} when the disk
  /// has no room for the whole file.
  void begin();
  /// All bytes in front of the data.
  [[nodiscard]] std::string header() const;
  /// Bytes [offset, offset + size) of a tensor; may be called from several threads, in any order,
  /// every byte once.
  void write(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes);
  /// Throws Error{internal} when a tensor is incomplete, {io} when the disk refuses.
  void finish();

 private:
  struct Tensor {
    Tensor(std::string n, std::uint64_t at, std::uint64_t size)
        : name(std::move(n)), offset(at), bytes(size) {}
    std::string name;
    std::uint64_t offset;  // in the data section
    std::uint64_t bytes;
    std::atomic<std::uint64_t> written{0};
  };
  void key(std::string_view name, GgufType type);
  [[nodiscard]] std::uint64_t aligned(std::uint64_t size) const noexcept {
    return (size + alignment_ - 1) / alignment_ * alignment_;
  }
  [[nodiscard]] std::uint64_t data_start() const noexcept;

  AtomicFile file_;
  std::uint64_t alignment_;
  GgufMagic magic_;
  std::uint64_t keys_ = 0;
  std::string metadata_;
  std::string tensor_list_;
  std::deque<Tensor> tensors_;  // atomics do not move
  std::uint64_t data_bytes_ = 0;
};

}  // namespace nemo
