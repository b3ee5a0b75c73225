// Opening of single and split GGUF files, and typed access to their metadata.
#include "gguf_parser.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/gguf.hpp>
#include <nemo/io/printable.hpp>

#include <array>
#include <charconv>
#include <cstring>

namespace nemo {
namespace {

// Longest array expanded on request; per-layer arrays and vocabularies stay far below.
constexpr std::uint64_t kMaxArray = std::uint64_t{1} << 24;

/// The pieces of `PREFIX-00002-of-00003.gguf`.
struct SplitName {
  std::string prefix;
  int part = 0;  // 1-based
  int parts = 0;

  [[nodiscard]] std::string file(int number) const {
    const auto digits = [](int value) {
      std::string text = std::to_string(value);
      return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
    };
    return prefix + "-" + digits(number) + "-of-" + digits(parts) + ".gguf";
  }
};

std::optional<SplitName> split_name(const std::string& file) {
  constexpr std::string_view kShape = "-00000-of-00000.gguf";
  if (file.size() <= kShape.size()) return std::nullopt;
  const std::string_view tail = std::string_view(file).substr(file.size() - kShape.size());
  SplitName name;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    const bool digit = tail[i] >= '0' && tail[i] <= '9';
    if (kShape[i] == '0' ? !digit : tail[i] != kShape[i]) return std::nullopt;
  }
  std::from_chars(tail.data() + 1, tail.data() + 6, name.part);
  std::from_chars(tail.data() + 10, tail.data() + 15, name.parts);
  name.prefix = file.substr(0, file.size() - kShape.size());
  return name;
}

}  // namespace

std::string_view name_of(GgufType type) noexcept {
  static constexpr std::array<std::string_view, 13> kNames = {
      "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
      "bool", "string", "array", "u64", "i64", "f64"};
  const auto index = static_cast<std::size_t>(type);
  return index < kNames.size() ? kNames[index] : "unknown";
}

void Gguf::fail(const std::string& message) const {
  throw Error(ErrorCode::bad_file, name_ + ": " + message);
}

Gguf Gguf::open(const std::filesystem::path& path) {
  Gguf gguf;
  gguf.name_ = path.string();
  const auto named = split_name(path.filename().string());

  gguf.files_.emplace_back(path);
  std::int64_t parts = 1;
  {
    Gguf probe;  // what the given part says about itself; it need not be the first
    GgufParser parser(probe, gguf.files_[0].bytes(), gguf.name_);
    parser.parse(true);
    parts = parser.split_key("split.count").value_or(1);
    if (parts <= 1) {
      probe.name_ = gguf.name_;
      probe.files_ = std::move(gguf.files_);
      probe.index_tensors();
      return probe;
    }
  }
  if (!named || named->parts != parts) {
    gguf.fail(
        "this is one part of a model split into " + std::to_string(parts) +
        " files, so its name must end in -0000X-of-" +
        SplitName{"", 0, static_cast<int>(std::min<std::int64_t>(parts, 99999))}.file(0).substr(
            10));
  }
  gguf.files_.clear();
  std::int64_t tensors = -1;
  for (int part = 1; part <= named->parts; ++part) {
    const std::filesystem::path file = path.parent_path() / named->file(part);
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored)) {
      throw Error(ErrorCode::io, "part " + std::to_string(part) + " of " +
                                     std::to_string(named->parts) + " is missing: '" +
                                     file.string() + "'");
    }
    gguf.files_.emplace_back(file);
    GgufParser parser(gguf, gguf.files_.back().bytes(), file.string());
    parser.parse(part == 1);
    if (gguf.magic_ == GgufMagic::nemo) gguf.fail("a pack is one file, this says it has parts");
    const auto number = parser.split_key("split.no");
    const auto count = parser.split_key("split.count");
    if (number != part - 1 || count != named->parts) {
      gguf.fail("'" + file.string() + "' says it is part " +
                std::to_string(number.value_or(-1) + 1) + " of " +
                std::to_string(count.value_or(0)) + ", its name says part " + std::to_string(part) +
                " of " + std::to_string(named->parts));
    }
    if (const auto total = parser.split_key("split.tensors.count")) tensors = *total;
  }
  if (tensors >= 0 && tensors != static_cast<std::int64_t>(gguf.tensors_.size())) {
    gguf.fail("the parts hold " + std::to_string(gguf.tensors_.size()) +
              " tensors, split.tensors.count says " + std::to_string(tensors));
  }
  gguf.index_tensors();
  return gguf;
}

Gguf Gguf::from_memory(std::span<const std::byte> bytes, std::string name) {
  Gguf gguf;
  gguf.name_ = std::move(name);
  GgufParser parser(gguf, bytes, gguf.name_);
  parser.parse(true);
  if (parser.split_key("split.count").value_or(1) > 1) {
    gguf.fail("this is one part of a split model; give the file's path, not its bytes");
  }
  gguf.index_tensors();
  return gguf;
}

void Gguf::index_tensors() {
  tensor_index_.reserve(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (!tensor_index_.emplace(tensors_[i].name, i).second) {
      fail("tensor " + in_quotes(tensors_[i].name) + " appears twice");
    }
  }
}

void Gguf::will_need() const noexcept {
  for (const MappedFile& file : files_) file.will_need(0, file.size());
}

void Gguf::dont_need(std::span<const std::byte> bytes) const noexcept {
  for (const MappedFile& file : files_) file.dont_need(bytes);
}

const GgufTensor* Gguf::find_tensor(std::string_view name) const noexcept {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

const GgufValue* Gguf::find(std::string_view key) const noexcept {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

namespace {

[[noreturn]] void wrong_type(const Gguf& gguf, std::string_view key, const GgufValue& value,
                             std::string_view expected) {
  std::string type(name_of(value.type));
  if (value.type == GgufType::array) type += " of " + std::string(name_of(value.element));
  gguf.fail("key " + in_quotes(key) + " has type " + type + ", expected " + std::string(expected));
}

}  // namespace

std::optional<std::int64_t> Gguf::find_int(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = GgufParser::integer(value->type, value->bytes.data());
  if (!number) wrong_type(*this, key, *value, "an integer");
  return number;
}

std::optional<double> Gguf::find_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type == GgufType::f32) {
    float number = 0;
    std::memcpy(&number, value->bytes.data(), sizeof number);
    return number;
  }
  if (value->type == GgufType::f64) {
    double number = 0;
    std::memcpy(&number, value->bytes.data(), sizeof number);
    return number;
  }
  const auto number = GgufParser::integer(value->type, value->bytes.data());
  if (!number) wrong_type(*this, key, *value, "a number");
  return static_cast<double>(*number);
}

std::optional<bool> Gguf::find_bool(std::string_view key) const {
  const auto number = find_int(key);
  if (!number) return std::nullopt;
  return *number != 0;
}

std::optional<std::string_view> Gguf::find_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::string) wrong_type(*this, key, *value, "string");
  return std::string_view(reinterpret_cast<const char*>(value->bytes.data()), value->bytes.size());
}

std::optional<std::vector<std::int64_t>> Gguf::find_ints(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->count > kMaxArray) fail("array " + in_quotes(key) + " is absurdly long");
  const std::uint64_t size = GgufParser::size_of(value->element);
  std::vector<std::int64_t> numbers;
  numbers.reserve(value->count);
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto number = GgufParser::integer(value->element, value->bytes.data() + i * size);
    if (!number) wrong_type(*this, key, *value, "an integer or an array of integers");
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<std::vector<std::string_view>> Gguf::find_strings(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->element != GgufType::string) wrong_type(*this, key, *value, "an array of strings");
  if (value->type == GgufType::string) return std::vector{*find_string(key)};
  if (value->count > kMaxArray) fail("array " + in_quotes(key) + " is absurdly long");
  GgufCursor cursor(value->bytes, name_);  // walked once at open, so this cannot fail
  std::vector<std::string_view> strings;
  strings.reserve(value->count);
  for (std::uint64_t i = 0; i < value->count; ++i) strings.push_back(cursor.string("a string"));
  return strings;
}

std::optional<std::vector<float>> Gguf::find_floats(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->element != GgufType::f32) wrong_type(*this, key, *value, "an array of f32");
  if (value->count > kMaxArray) fail("array " + in_quotes(key) + " is absurdly long");
  std::vector<float> numbers(value->count);
  if (value->count > 0) std::memcpy(numbers.data(), value->bytes.data(), value->count * 4);
  return numbers;
}

std::int64_t Gguf::get_int(std::string_view key) const {
  const auto value = find_int(key);
  if (!value) fail("key " + in_quotes(key) + " is missing");
  return *value;
}

std::string_view Gguf::get_string(std::string_view key) const {
  const auto value = find_string(key);
  if (!value) fail("key " + in_quotes(key) + " is missing");
  return *value;
}

}  // namespace nemo
