// Typing a parameter's text by its JSON schema.
#include "src/text/tool_call.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <string>

namespace nemo::text {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kMaxDepth = 256;  // of nested arguments, schemas and references

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return (x >= 'A' && x <= 'Z' ? static_cast<char>(x - 'A' + 'a') : x) == y;
  });
}

std::string_view trimmed(std::string_view s) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = s.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(kSpace) - first + 1);
}

const char* type_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "boolean";
  if (value.is_number_integer()) return "integer";
  if (value.is_number()) return "number";
  if (value.is_array()) return "array";
  return value.is_object() ? "object" : "string";
}

/// Collects the type names that `schema` admits.
void collect_types(const Json& schema, const Json& root, std::set<std::string>& types, int depth) {
  if (!schema.is_object() || depth > 16) return;
  if (const auto ref = schema.find("$ref"); ref != schema.end() && ref->is_string()) {
    const std::string& path = ref->get_ref<const std::string&>();
    if (path.starts_with("#/")) {
      try {
        collect_types(root.at(Json::json_pointer(path.substr(1))), root, types, depth + 1);
      } catch (const Json::exception&) {  // names nothing: as if there were no reference
      }
    }
  }
  if (const auto type = schema.find("type"); type != schema.end()) {
    if (type->is_string()) types.insert(type->get<std::string>());
    if (type->is_array()) {
      for (const Json& t : *type) {
        if (t.is_string()) types.insert(t.get<std::string>());
      }
    }
  } else if (const auto values = schema.find("enum");
             values != schema.end() && values->is_array()) {
    for (const Json& v : *values) types.insert(type_of(v));
  } else if (const auto value = schema.find("const"); value != schema.end()) {
    types.insert(type_of(*value));
  }
  if (const auto nullable = schema.find("nullable");
      nullable != schema.end() && *nullable == true) {
    types.insert("null");
  }
  for (const char* key : {"anyOf", "oneOf", "allOf"}) {
    const auto alternatives = schema.find(key);
    if (alternatives == schema.end() || !alternatives->is_array()) continue;
    for (const Json& s : *alternatives) collect_types(s, root, types, depth + 1);
  }
}

/// JSON of bounded depth, or a discarded value.
Json parse_bounded(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return Json(Json::value_t::discarded);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return Json::parse(text, nullptr, false);
}

std::optional<Json> as_integer(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const char* end = text.data() + text.size();
  std::int64_t value = 0;
  if (const auto r = std::from_chars(text.data(), end, value); r.ec == std::errc() && r.ptr == end)
    return value;
  std::uint64_t large = 0;
  if (const auto r = std::from_chars(text.data(), end, large); r.ec == std::errc() && r.ptr == end)
    return large;
  return std::nullopt;
}

std::optional<Json> as_number(std::string_view text) {
  if (auto integer = as_integer(text)) return integer;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const char* end = text.data() + text.size();
  const auto r = std::from_chars(text.data(), end, value);
  if (r.ec != std::errc() || r.ptr != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

Json typed_value(std::string_view text, const Json& schema, const Json& parameters) {
  std::set<std::string> types;
  collect_types(schema, parameters, types, 0);
  const auto has = [&](const char* type) { return types.count(type) != 0; };
  const std::string_view value = trimmed(text);
  const bool says_null = equals_ignoring_case(value, "null") || equals_ignoring_case(value, "none");
  if (!types.empty() && says_null && (has("null") || !has("string"))) return nullptr;
  if (has("boolean")) {
    if (equals_ignoring_case(value, "true")) return true;
    if (equals_ignoring_case(value, "false")) return false;
    types.erase("null");
    if (types.size() == 1) return false;  // what the reference parsers make of a bad boolean
  }
  if (has("integer")) {
    if (auto integer = as_integer(value)) return *integer;
  }
  if (has("number")) {
    if (auto number = as_number(value)) return *number;
  }
  if (has("array") || has("object")) {
    Json parsed = parse_bounded(value);
    if ((parsed.is_array() && has("array")) || (parsed.is_object() && has("object"))) return parsed;
  }
  return std::string(text);
}

}  // namespace nemo::text
