// Filters on single values, and the list of all filters.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_filters.hpp"

#include <algorithm>
#include <cmath>

namespace nemo::text::jinja {
namespace {

Value absolute(Interpreter&, const Value& input, const Arguments& arguments) {
  const Parameters none("abs", arguments, {});
  require_defined(input);
  if (input.is_float()) return std::abs(input.real());
  if (!input.is_integral()) throw Failure("abs: needs a number, not " + input.type_name());
  return input.integer() < 0 ? negate(input) : Value(input.integer());
}

Value attr(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("attr", arguments, {"name"}, 1);
  require_defined(input);
  const TextPtr name = parameters.text(0);
  if (std::optional<Value> found = python_attribute(in, input, name->view()))
    return *std::move(found);
  return undefined_value("'" + input.type_name() + " object' has no attribute '" +
                         std::string(name->view()) + "'");
}

Value fall_back(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("default", arguments, {"default_value", "boolean"});
  const bool missing = input.is_undefined() || (parameters.flag(1) && !input.truthy());
  return missing ? parameters.get(0, in.text("")) : input;
}

Value length(Interpreter&, const Value& input, const Arguments& arguments) {
  const Parameters none("length", arguments, {});
  return require_length(input);
}

Value to_int(Interpreter&, const Value& input, const Arguments& arguments) {
  const Parameters parameters("int", arguments, {"default", "base"});
  const Int base = parameters.integer(1, 10);
  if (base != 0 && (base < 2 || base > 36)) throw Failure("int: the base must be 0 or 2 to 36");
  const Value fallback = parameters.get(0, Value(0));
  require_defined(input);
  if (input.is_integral()) return input.integer();
  if (input.is_float()) {
    if (std::isinf(input.real())) throw Failure("int: cannot convert infinity to an integer");
    const std::optional<Int> whole = truncate_to_int(input.real());
    return whole ? Value(*whole) : fallback;
  }
  const TextPtr text = input.text();
  if (text == nullptr) return fallback;
  if (const std::optional<Int> value = parse_int(text->view(), static_cast<int>(base))) {
    return *value;
  }
  const std::optional<double> real = parse_float(text->view());
  const std::optional<Int> whole = real ? truncate_to_int(*real) : std::nullopt;
  return whole ? Value(*whole) : fallback;
}

Value to_float(Interpreter&, const Value& input, const Arguments& arguments) {
  const Parameters parameters("float", arguments, {"default"});
  require_defined(input);
  if (input.is_number()) return input.real();
  const TextPtr text = input.text();
  const std::optional<double> value = text != nullptr ? parse_float(text->view()) : std::nullopt;
  return value ? Value(*value) : parameters.get(0, Value(0.0));
}

Value round_value(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("round", arguments, {"precision", "method"});
  require_defined(input);
  if (!input.is_number()) throw Failure("round: needs a number, not " + input.type_name());
  const bool to_whole = parameters.has(0) && parameters.get(0).is_none();
  const Int wanted = to_whole ? Int{0} : parameters.integer(0, 0);
  const int precision = static_cast<int>(std::clamp(wanted, Int{-400}, Int{400}));
  const TextPtr method = parameters.has(1) ? parameters.text(1) : in.text("common").text();
  if (method->view() == "common") {
    if (input.is_integral()) return round_int(input.integer(), precision);
    const double rounded = round_float(input.real(), precision);
    if (!to_whole) return rounded;
    const std::optional<Int> whole = truncate_to_int(rounded);
    if (!whole) throw Failure("round: the number is too large for an integer");
    return *whole;
  }
  const bool ceiling = method->view() == "ceil";
  if (!ceiling && method->view() != "floor") {
    throw Failure("round: the method must be 'common', 'ceil' or 'floor'");
  }
  const double scale = std::pow(10.0, precision);
  const double scaled = input.real() * scale;
  if (!std::isfinite(scaled)) throw Failure("round: the number is too large");
  return (ceiling ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value tojson(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("tojson", arguments,
                              {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = parameters.flag(0);
  style.sort_keys = parameters.flag(3);
  if (const Value& indent = parameters.get(1); !indent.is_none()) {
    if (const TextPtr text = indent.text()) {
      style.indent = text->view();
    } else {
      const Int width = std::clamp(parameters.integer(1, 0), Int{0}, Int{1000});
      style.indent = std::string(static_cast<std::size_t>(width), ' ');
    }
    style.item_separator = ",";
  }
  if (const Value& separators = parameters.get(2); !separators.is_none()) {
    const SequencePtr pair = separators.sequence();
    if (pair == nullptr || pair->items().size() != 2) {
      throw Failure("tojson: separators must be two strings");
    }
    style.item_separator = require_text(pair->items()[0], "tojson: a separator")->view();
    style.key_separator = require_text(pair->items()[1], "tojson: a separator")->view();
  }
  TextBuilder out(in.budget());
  print_json(in, input, style, out);
  return out.finish();
}

constexpr FilterEntry kFilters[] = {
    {"abs", absolute},      {"attr", attr},      {"count", length}, {"d", fall_back},
    {"default", fall_back}, {"float", to_float}, {"int", to_int},   {"length", length},
    {"round", round_value}, {"tojson", tojson},
};

}  // namespace

FilterFunction find_filter(std::string_view name) {
  if (const FilterFunction found = find_in_table(kFilters, name)) return found;
  if (const FilterFunction found = find_text_filter(name)) return found;
  if (const FilterFunction found = find_selection_filter(name)) return found;
  return find_sequence_filter(name);
}

}  // namespace nemo::text::jinja
