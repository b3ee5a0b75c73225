// Reader of GGUF files (v2, v3, little endian, single or split), the container of llama.cpp models,
// and of packs, which differ in the magic: their matrices mean something else to other programs.
//
//   file = magic version tensor_count kv_count  {key type value}*  {name dims type offset}*  pad
//   data
//
// Everything is checked before use; strings and tensor data stay in the mapping (zero copy).
#pragma once

#include <nemo/io/mapped_file.hpp>
#include <nemo/tensor/dtype.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nemo {

/// What a file starts with.
enum class GgufMagic : std::uint8_t { gguf, nemo };
[[nodiscard]] constexpr std::string_view text_of(GgufMagic magic) noexcept {
  return magic == GgufMagic::nemo ? "NEMO" : "GGUF";
}

/// Value types of GGUF metadata, with the numbers of the file.
enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};
[[nodiscard]] std::string_view name_of(GgufType type) noexcept;

/// One metadata value as it lies in the file. Scalars and strings have count 1; for arrays
/// `element` is the type of the items (never array) and `bytes` holds them one after the other.
struct GgufValue {
  GgufType type;
  GgufType element;
  std::uint64_t count;
  std::span<const std::byte> bytes;  // a string's characters, without the length
};

/// One tensor: dims[0] is the contiguous (input) dimension; unused dims are 1.
struct GgufTensor {
  std::string_view name;
  DType type;
  int rank;
  std::array<std::int64_t, 4> dims;
  const std::byte* data;
  std::uint64_t bytes;
};

/// An open GGUF file with all its parts. Views stay valid as long as the object (moves included).
class Gguf {
 public:
  /// Opens `path`; of a split file any part may be named and all parts are opened.
  /// Throws Error{io} when a file cannot be read, {bad_file} when it breaks the format,
  /// {unsupported} for other versions, big endian and unknown tensor types.
  [[nodiscard]] static Gguf open(const std::filesystem::path& path);
  /// Reads a whole single file from memory that outlives the object. `name` is for messages.
  [[nodiscard]] static Gguf from_memory(std::span<const std::byte> bytes,
                                        std::string name = "memory");

  [[nodiscard]] GgufMagic magic() const noexcept { return magic_; }
  [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_bytes_; }
  [[nodiscard]] std::size_t parts() const noexcept { return files_.empty() ? 1 : files_.size(); }
  /// All bytes in front of the data, of the last part.
  [[nodiscard]] std::span<const std::byte> header() const noexcept { return header_; }

  /// Asks the system to read all parts ahead.
  void will_need() const noexcept;
  /// Lets the pages of some bytes of a tensor go; they come back when they are touched again.
  void dont_need(std::span<const std::byte> bytes) const noexcept;

  [[nodiscard]] std::span<const GgufTensor> tensors() const noexcept { return tensors_; }
  [[nodiscard]] const GgufTensor* find_tensor(std::string_view name) const noexcept;

  /// Keys in file order (those of the first part).
  [[nodiscard]] std::span<const std::string_view> keys() const noexcept { return keys_; }
  [[nodiscard]] const GgufValue* find(std::string_view key) const noexcept;
  [[nodiscard]] bool has(std::string_view key) const noexcept { return find(key) != nullptr; }

  // Typed access. Any integer width (and bool) reads as integer, any number as float. A value of
  // another type throws Error{bad_file}: `key 'x' has type string, expected an integer`; the get_*
  // also throw when the key is missing, the find_* return nothing.
  [[nodiscard]] std::optional<std::int64_t> find_int(std::string_view key) const;
  [[nodiscard]] std::optional<double> find_float(std::string_view key) const;
  [[nodiscard]] std::optional<bool> find_bool(std::string_view key) const;
  [[nodiscard]] std::optional<std::string_view> find_string(std::string_view key) const;
  /// Arrays; a scalar reads as an array of one.
  [[nodiscard]] std::optional<std::vector<std::int64_t>> find_ints(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<std::string_view>> find_strings(
      std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<float>> find_floats(std::string_view key) const;

  [[nodiscard]] std::int64_t get_int(std::string_view key) const;
  [[nodiscard]] std::string_view get_string(std::string_view key) const;

  /// Throws Error{bad_file} with this file's name in front.
  [[noreturn]] void fail(const std::string& message) const;

 private:
  friend class GgufParser;
  Gguf() = default;
  void index_tensors();

  std::string name_;
  GgufMagic magic_ = GgufMagic::gguf;
  std::uint32_t version_ = 0;
  std::uint64_t file_bytes_ = 0;
  std::vector<MappedFile> files_;  // empty when read from memory
  std::span<const std::byte> header_;
  std::vector<std::string_view> keys_;
  std::unordered_map<std::string_view, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> tensor_index_;
};

}  // namespace nemo
