// What can be done to values: Python's operators, attributes, elements, iteration and printing.
#pragma once

#include "src/text/jinja_ast.hpp"
#include "src/text/jinja_interpreter.hpp"
#include "src/text/jinja_value.hpp"

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace nemo::text::jinja {

// Operators; Failure for operands of the wrong type, division by zero, overflow.
[[nodiscard]] Value arithmetic(Interpreter& in, ArithmeticOperator op, const Value& a,
                               const Value& b);
[[nodiscard]] Value negate(const Value& value);
[[nodiscard]] Value plus(const Value& value);
[[nodiscard]] bool compare(Interpreter& in, ComparisonOperator op, const Value& a, const Value& b);
/// item in container.
[[nodiscard]] bool contains(Interpreter& in, const Value& container, const Value& item);

// Attributes and elements.
/// object.name: methods first, then elements, else undefined.
[[nodiscard]] Value get_attribute(Interpreter& in, const Value& object, std::string_view name);
/// object[key]: elements first, then methods, else undefined.
[[nodiscard]] Value get_item(Interpreter& in, const Value& object, const Value& key);
/// object[start:stop:step]; none where a bound is left out.
[[nodiscard]] Value get_slice(Interpreter& in, const Value& object, const Value& start,
                              const Value& stop, const Value& step);
/// Python's object.name alone, without the elements; nothing if there is none.
[[nodiscard]] std::optional<Value> python_attribute(Interpreter& in, const Value& object,
                                                    std::string_view name);

/// Throws Failure with the message of an undefined value, does nothing for others.
void require_defined(const Value& value);

/// len(value); nothing for values without a length.
[[nodiscard]] std::optional<std::size_t> length_of(const Value& value);
/// len(value); throws Failure.
[[nodiscard]] std::size_t require_length(const Value& value);
[[nodiscard]] bool is_iterable(const Value& value);

/// Walks the elements of a value: list items, dict keys, characters, ...
class Cursor {
 public:
  /// Throws Failure when `value` cannot be walked.
  Cursor(Interpreter& in, Value value);
  [[nodiscard]] bool next(Value& item);

 private:
  Interpreter* in_;
  Value value_;
  std::size_t position_ = 0;  // element, or byte of a text
};

/// list(value).
[[nodiscard]] std::vector<Value> items_of(Interpreter& in, const Value& value);

/// str(value).
[[nodiscard]] TextPtr to_text(Interpreter& in, const Value& value);
/// Appends str(value).
void print_value(Interpreter& in, const Value& value, TextBuilder& out);
/// Appends repr(value).
void print_repr(Interpreter& in, const Value& value, TextBuilder& out);

/// The value as an index or count; throws Failure naming `what` if it is no int.
[[nodiscard]] Int require_int(const Value& value, std::string_view what);
[[nodiscard]] TextPtr require_text(const Value& value, std::string_view what);

/// & < > " ' as HTML entities; the result is markup. Markup stays as it is.
[[nodiscard]] TextPtr escape_html(Interpreter& in, const TextPtr& text);
/// a + b with Markup's rule: plain text next to markup is escaped.
[[nodiscard]] TextPtr join_texts(Interpreter& in, const TextPtr& a, const TextPtr& b);

/// text % arguments.
[[nodiscard]] Value format_percent(Interpreter& in, const TextPtr& format, const Value& arguments);
/// text.format(...).
[[nodiscard]] Value format_braces(Interpreter& in, const TextPtr& format,
                                  const Arguments& arguments);

/// json.dumps(value, ...) of transformers' tojson.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level; nothing: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
void print_json(Interpreter& in, const Value& value, const JsonStyle& style, TextBuilder& out);

}  // namespace nemo::text::jinja
