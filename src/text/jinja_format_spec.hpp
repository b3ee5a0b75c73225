// Python's format specifications: [[fill]align][sign][#][0][width][grouping][.precision][type].
#pragma once

#include "src/text/jinja_operations.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace nemo::text::jinja {

struct FormatSpec {
  std::string fill = " ";  // one character
  char align = '\0';       // < > ^ =; none: by type
  char sign = '-';         // - + or blank
  bool alternate = false;  // 0x and friends
  std::size_t width = 0;
  char grouping = '\0';  // , or _
  std::optional<int> precision;
  char type = '\0';
};

/// Reads a specification as format() takes it. Throws Failure.
[[nodiscard]] FormatSpec parse_format_spec(std::string_view spec);

/// An int or float (by its type or the one in `spec`) without padding, sign included.
[[nodiscard]] std::string format_number(const Value& value, const FormatSpec& spec);

/// format(value, spec) with what it needs of padding. Throws Failure for values and specifications
/// that do not go together.
[[nodiscard]] TextPtr format_value(Interpreter& in, const Value& value, const FormatSpec& spec,
                                   bool empty_spec);

/// Pads `text` as `spec` says; `number`: '=' puts the fill between sign and digits.
[[nodiscard]] TextPtr pad_to_spec(Interpreter& in, const TextPtr& text, const FormatSpec& spec,
                                  bool number);

}  // namespace nemo::text::jinja
