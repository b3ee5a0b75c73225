// Builds GGUF files in memory, broken ones included, for tests of the reader.
#pragma once

#include <nemo/tensor/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::test {

/// All bytes of a file.
inline std::vector<std::byte> read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

inline void write_bytes(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

/// A folder that goes away with the object.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / ("nemo-test-" + name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const {
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

/// Little-endian fields one after the other.
class Bytes {
 public:
  template <class T>
  Bytes& put(T value) {
    const auto at = data_.size();
    data_.resize(at + sizeof(T));
    std::memcpy(data_.data() + at, &value, sizeof(T));
    return *this;
  }
  Bytes& text(std::string_view text) {
    put(static_cast<std::uint64_t>(text.size()));
    return raw(text);
  }
  Bytes& raw(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Bytes& raw(const Bytes& other) {
    data_.insert(data_.end(), other.data_.begin(), other.data_.end());
    return *this;
  }
  void pad(std::size_t alignment) {
    while (data_.size() % alignment != 0) data_.push_back(std::byte{0});
  }
  [[nodiscard]] std::size_t size() const { return data_.size(); }
  [[nodiscard]] const std::vector<std::byte>& data() const { return data_; }
  std::vector<std::byte>& data() { return data_; }

 private:
  std::vector<std::byte> data_;
};

/// A GGUF whose every field can be wrong on purpose.
struct GgufBuilder {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t extra_tensors = 0;  // added to the true counts
  std::uint64_t extra_keys = 0;
  std::size_t alignment = 32;
  std::size_t data_bytes = 0;  // data section; grows with tensor()
  Bytes keys;
  Bytes tensors;
  std::uint64_t key_count = 0;
  std::uint64_t tensor_count = 0;

  template <class T>
  GgufBuilder& number(std::string_view key, std::uint32_t type, T value) {
    keys.text(key).put(type).put(value);
    ++key_count;
    return *this;
  }
  GgufBuilder& u32(std::string_view key, std::uint32_t value) { return number(key, 4, value); }
  GgufBuilder& f32(std::string_view key, float value) { return number(key, 6, value); }
  GgufBuilder& string(std::string_view key, std::string_view value) {
    keys.text(key).put(std::uint32_t{8}).text(value);
    ++key_count;
    return *this;
  }
  GgufBuilder& i32s(std::string_view key, const std::vector<std::int32_t>& values) {
    keys.text(key).put(std::uint32_t{9}).put(std::uint32_t{5}).put(std::uint64_t{values.size()});
    for (const std::int32_t value : values) keys.put(value);
    ++key_count;
    return *this;
  }
  GgufBuilder& strings(std::string_view key, const std::vector<std::string>& values) {
    keys.text(key).put(std::uint32_t{9}).put(std::uint32_t{8}).put(std::uint64_t{values.size()});
    for (const std::string& value : values) keys.text(value);
    ++key_count;
    return *this;
  }
  /// A tensor entry with any numbers.
  GgufBuilder& entry(std::string_view name, const std::vector<std::uint64_t>& dims,
                     std::uint32_t type, std::uint64_t offset) {
    tensors.text(name).put(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t dim : dims) tensors.put(dim);
    tensors.put(type).put(offset);
    ++tensor_count;
    return *this;
  }
  /// A well-formed tensor of zeros.
  GgufBuilder& tensor(std::string_view name, const std::vector<std::uint64_t>& dims,
                      DType type = DType::f32) {
    entry(name, dims, info(type).ggml_id, data_bytes);
    std::uint64_t rows = 1;
    for (std::size_t d = 1; d < dims.size(); ++d) rows *= dims[d];
    data_bytes += rows * static_cast<std::size_t>(row_bytes(
                             type, static_cast<std::int64_t>(dims.empty() ? 1 : dims[0])));
    data_bytes = (data_bytes + alignment - 1) / alignment * alignment;
    return *this;
  }
  [[nodiscard]] std::vector<std::byte> build() const {
    Bytes file;
    file.raw(magic).put(version).put(tensor_count + extra_tensors).put(key_count + extra_keys);
    file.raw(keys).raw(tensors);
    file.pad(alignment);
    file.data().resize(file.size() + data_bytes);
    return file.data();
  }
};

}  // namespace nemo::test
