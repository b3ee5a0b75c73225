// The tables of filters, by what they work on.
#pragma once

#include "src/text/jinja_ast.hpp"
#include "src/text/jinja_operations.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace nemo::text::jinja {

struct FilterEntry {
  std::string_view name;
  FilterFunction function;
};

template <std::size_t N>
[[nodiscard]] FilterFunction find_in_table(const FilterEntry (&table)[N], std::string_view name) {
  const auto found = std::find_if(std::begin(table), std::end(table),
                                  [&](const FilterEntry& entry) { return entry.name == name; });
  return found == std::end(table) ? nullptr : found->function;
}

[[nodiscard]] FilterFunction find_text_filter(std::string_view name);
[[nodiscard]] FilterFunction find_sequence_filter(std::string_view name);
[[nodiscard]] FilterFunction find_selection_filter(std::string_view name);

/// An attribute path as sort, map and the like take it: names and numbers separated by dots.
class AttributePath {
 public:
  /// `attribute`: a string, an int, or none for the item itself.
  explicit AttributePath(Interpreter& in, const Value& attribute);
  /// The attribute of `item`; `fallback` (if not none) stands for undefined parts of the path.
  [[nodiscard]] Value of(Interpreter& in, Value item, const Value& fallback = {}) const;

 private:
  std::vector<Value> parts_;
};

/// Small letters, where the value is a string and case does not matter.
[[nodiscard]] Value sort_key(Interpreter& in, const Value& value, bool case_sensitive);

/// A value that can be walked once.
[[nodiscard]] Value make_iterator(std::string type_name, std::vector<Value> items);

}  // namespace nemo::text::jinja
