// Streaming reader of JSON objects of objects, {outer: {inner: value}}, as safetensors headers and
// indices are: no tree is built, keys that appear twice are an error.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

struct JsonEntry {
  enum class Kind : std::uint8_t { text, numbers, other };
  std::string outer;
  std::string inner;  // empty when the outer value is no object
  Kind kind = Kind::other;
  std::string text;
  std::vector<std::uint64_t> numbers;  // an array of whole numbers
};

/// Calls `entry` for every inner value, in order. Throws Error{bad_file} starting with `name` when
/// the text is no such object, and what `entry` throws.
void read_two_level_json(std::string_view text, const std::string& name,
                         const std::function<void(JsonEntry&)>& entry);

}  // namespace nemo
