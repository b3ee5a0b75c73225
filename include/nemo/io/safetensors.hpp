// Reader of safetensors files, the container of Hugging Face and MLX models; one file or shards.
//
//   file = u64 header_bytes | JSON {name: {dtype, shape, data_offsets}, __metadata__} | data
//
// Everything is checked before use: tensors cover the data without gaps or overlaps and are as long
// as dtype and shape say. Their bytes stay in the mapping (zero copy).
#pragma once

#include <nemo/io/mapped_file.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nemo {

/// Element types of the format that this library knows the size of.
enum class SafeType : std::uint8_t {
  boolean,
  u8,
  i8,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  u16,
  i16,
  f16,
  bf16,
  u32,
  i32,
  f32,
  u64,
  i64,
  f64
};
/// As the format spells it: "BF16", "F8_E4M3".
[[nodiscard]] std::string_view name_of(SafeType type) noexcept;
[[nodiscard]] std::uint64_t bytes_of(SafeType type) noexcept;

struct SafeTensor {
  std::string name;
  SafeType type = SafeType::u8;
  std::vector<std::int64_t> shape;  // row-major, outermost first; empty: one number
  const std::byte* data = nullptr;
  std::uint64_t bytes = 0;
};

/// Open safetensors files. Views stay valid as long as the object (moves included).
class Safetensors {
 public:
  /// All weights of a folder: the files that model.safetensors.index.json names, or
  /// model.safetensors, or all model*.safetensors. Throws Error{io} when one is missing or
  /// unreadable, {bad_file} when one breaks the format or two contradict each other, {unsupported}
  /// for unknown element types.
  [[nodiscard]] static Safetensors open_folder(const std::filesystem::path& folder);
  [[nodiscard]] static Safetensors open(const std::filesystem::path& file);
  /// A whole file in memory that outlives the object. `name` is for messages.
  [[nodiscard]] static Safetensors from_memory(std::span<const std::byte> bytes,
                                               const std::string& name = "memory");

  [[nodiscard]] const std::deque<SafeTensor>& tensors() const noexcept { return tensors_; }
  /// nullptr when absent.
  [[nodiscard]] const SafeTensor* find(std::string_view name) const noexcept;
  [[nodiscard]] std::size_t files() const noexcept { return files_.empty() ? 1 : files_.size(); }
  /// Asks the system to read all files ahead.
  void will_need() const noexcept;
  /// Lets the pages of some bytes of a tensor go; they come back when they are touched again.
  void dont_need(std::span<const std::byte> bytes) const noexcept;

 private:
  Safetensors() = default;
  void parse(std::span<const std::byte> bytes, const std::string& name);
  void add_file(const std::filesystem::path& file);

  std::vector<MappedFile> files_;   // empty when read from memory
  std::deque<SafeTensor> tensors_;  // names stay where they are while tensors are added
  std::unordered_map<std::string_view, const SafeTensor*> index_;
};

}  // namespace nemo
