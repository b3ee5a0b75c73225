// Reading JSON with messages that name the field: a value that knows its path.
#pragma once

#include "src/text/tokenizer_json_file.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/tokenizer_data.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace nemo::text::tokenizer_file {

using Json = nlohmann::json;

[[noreturn]] inline void bad(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::bad_file, where + " " + what);
}
[[noreturn]] inline void unsupported(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::unsupported, where + ": " + what);
}

/// A JSON value together with its path in the file, for messages.
struct Node {
  const Json* value = nullptr;
  std::string path;

  [[nodiscard]] bool present() const { return value != nullptr && !value->is_null(); }

  /// Member `key`; absent when this is no object or has none.
  [[nodiscard]] Node operator[](const char* key) const {
    Node child{nullptr, path + "." + key};
    if (value != nullptr && value->is_object()) {
      if (const auto it = value->find(key); it != value->end()) child.value = &*it;
    }
    return child;
  }
  [[nodiscard]] Node element(std::size_t i) const {
    return {&(*value)[i], path + "[" + std::to_string(i) + "]"};
  }
  const Node& object() const {
    if (value == nullptr || !value->is_object()) bad(path, "must be an object");
    return *this;
  }
  [[nodiscard]] std::size_t array_size() const {
    if (value == nullptr || !value->is_array()) bad(path, "must be an array");
    return value->size();
  }
  [[nodiscard]] const std::string& string() const {
    if (value == nullptr || !value->is_string()) bad(path, "must be a string");
    return value->get_ref<const std::string&>();
  }
  [[nodiscard]] bool boolean(bool fallback) const {
    if (!present()) return fallback;
    if (!value->is_boolean()) bad(path, "must be true or false");
    return value->get<bool>();
  }
  [[nodiscard]] std::int32_t id() const {
    if (value == nullptr || !value->is_number_unsigned() ||
        value->get<std::uint64_t>() > kMaxTokenId) {
      bad(path, "must be a token id (a whole number up to 2^30)");
    }
    return value->get<std::int32_t>();
  }
};

// Components inside components: real files have one level.
inline constexpr int kMaxNesting = 16;
inline void check_nesting(const Node& node, int nesting) {
  if (nesting > kMaxNesting) bad(node.path.substr(0, 60) + "...", "is nested too deeply");
}

/// The split rules of a pre_tokenizer, which must end in ByteLevel.
[[nodiscard]] std::vector<SplitRule> read_split_rules(const Node& pre_tokenizer);

}  // namespace nemo::text::tokenizer_file
