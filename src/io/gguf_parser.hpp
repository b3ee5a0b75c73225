// Turns the bytes of one GGUF part into checked metadata and tensor entries.
#pragma once

#include <nemo/io/gguf.hpp>

#include <cstring>

namespace nemo {

/// Reads little-endian fields from a byte range; a read past its end throws Error{bad_file}.
class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, const std::string& file)
      : bytes_(bytes), file_(file) {}

  [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
  [[nodiscard]] std::uint64_t remaining() const noexcept { return bytes_.size() - position_; }

  template <class T>
  [[nodiscard]] T read(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }
  [[nodiscard]] std::span<const std::byte> take(std::uint64_t count, std::string_view what);
  [[nodiscard]] std::string_view string(std::string_view what);

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::uint64_t position_ = 0;
};

/// Parses one part and appends what it holds to a Gguf.
class GgufParser {
 public:
  GgufParser(Gguf& out, std::span<const std::byte> bytes, std::string file);

  /// `first`: this part's metadata becomes the model's.
  void parse(bool first);
  /// split.* of this part, or nothing where the key is absent.
  [[nodiscard]] std::optional<std::int64_t> split_key(std::string_view key) const;

  /// A scalar's value as integer; nothing when its type is not an integer or bool.
  [[nodiscard]] static std::optional<std::int64_t> integer(GgufType type, const std::byte* at);
  /// Bytes of one item; 0 for strings and arrays.
  [[nodiscard]] static std::uint64_t size_of(GgufType type) noexcept;

 private:
  [[noreturn]] void fail(const std::string& message) const;
  void check_magic();
  [[nodiscard]] GgufValue value(std::string_view key);
  [[nodiscard]] GgufType type(std::string_view key);
  void metadata(std::uint64_t count);
  void tensor_entries(std::uint64_t count);
  void place_tensors();
  [[nodiscard]] std::string ends(const GgufTensor& tensor, std::uint64_t end) const;

  Gguf& out_;
  std::span<const std::byte> bytes_;
  std::string file_;
  GgufCursor cursor_;
  std::unordered_map<std::string_view, GgufValue> values_;
  std::vector<std::string_view> keys_;
  std::vector<GgufTensor> tensors_;
  std::vector<std::uint64_t> offsets_;
};

}  // namespace nemo
