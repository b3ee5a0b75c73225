// Python's format specifications.
#include "src/text/jinja_format_spec.hpp"

#include "src/text/jinja_text_operations.hpp"
#include "src/text/python_unicode.hpp"

#include <nemo/text/utf8.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace nemo::text::jinja {
namespace {

constexpr std::size_t kMaxWidth = 1'000'000;
constexpr int kMaxPrecision = 1000;

std::size_t read_number(std::string_view spec, std::size_t& at) {
  std::size_t value = 0;
  while (at < spec.size() && spec[at] >= '0' && spec[at] <= '9') {
    value = value * 10 + static_cast<std::size_t>(spec[at++] - '0');
    if (value > kMaxWidth) throw Failure("a width or precision in a format is too large");
  }
  return value;
}

bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

// Digits of an integer in base 2, 8, 10 or 16, without sign.
std::string digits_of(Int value, unsigned base, bool capital) {
  const std::string_view symbols = capital ? "0123456789ABCDEF" : "0123456789abcdef";
  if (value == 0) return "0";
  std::string digits;
  while (value != 0) {
    const Int rest = value % static_cast<Int>(base);
    digits += symbols[static_cast<std::size_t>(rest < 0 ? -rest : rest)];
    value /= static_cast<Int>(base);
  }
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string grouped(const std::string& digits, char separator, std::size_t size) {
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % size == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string chars_of(double value, std::chars_format format, int precision) {
  std::array<char, 2048> buffer{};  // 309 digits + 1000 decimals
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format, precision);
  return {buffer.data(), end.ptr};
}

// A float that is not negative, by type.
std::string float_digits(double value, const FormatSpec& spec) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return "inf";
  if (spec.type == '\0' && !spec.precision) return float_repr(value);
  const int precision = spec.precision.value_or(6);
  switch (spec.type) {
    case 'e':
    case 'E':
      return chars_of(value, std::chars_format::scientific, precision);
    case 'f':
    case 'F':
      return chars_of(value, std::chars_format::fixed, precision);
    case '%':
      return chars_of(value * 100.0, std::chars_format::fixed, precision) + "%";
    default: {
      std::string text = chars_of(value, std::chars_format::general, std::max(precision, 1));
      const bool whole = text.find_first_of(".e") == std::string::npos;
      return spec.type == '\0' && whole ? text + ".0" : text;
    }
  }
}

}  // namespace

FormatSpec parse_format_spec(std::string_view text) {
  FormatSpec spec;
  std::size_t at = 0;
  const std::size_t first = text.empty() ? 0 : character_at(text, 0).bytes;
  const bool has_fill = first < text.size() && is_align(text[first]);
  if (has_fill) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[at++];
  }
  const auto next_is = [&](std::string_view any) {
    return at < text.size() && any.find(text[at]) != std::string_view::npos;
  };
  if (next_is("+- ")) spec.sign = text[at++];
  if (next_is("#")) {
    spec.alternate = true;
    ++at;
  }
  if (next_is("0")) {
    if (!has_fill) spec.fill = "0";
    if (spec.align == '\0') spec.align = '=';
    ++at;
  }
  spec.width = read_number(text, at);
  if (next_is(",_")) spec.grouping = text[at++];
  if (next_is(".")) {
    const std::size_t digits = ++at;
    spec.precision = static_cast<int>(read_number(text, at));
    if (at == digits) throw Failure("a format has a point without a precision");
    if (*spec.precision > kMaxPrecision) throw Failure("a precision in a format is too large");
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) throw Failure("invalid format specification");
  return spec;
}

std::string format_number(const Value& value, const FormatSpec& spec) {
  const std::string_view integer_types = "bcdoxXn";
  const bool as_integer = value.is_integral() &&
                          (spec.type == '\0' || integer_types.find(spec.type) != std::string::npos);
  std::string prefix;
  std::string digits;
  std::size_t group = 3;
  bool negative = false;
  if (as_integer) {
    if (spec.precision) throw Failure("a precision is not allowed for an integer");
    const Int number = value.integer();
    negative = number < 0;
    const unsigned base = spec.type == 'b'            ? 2
                          : spec.type == 'o'          ? 8
                          : (spec.type | 0x20) == 'x' ? 16
                                                      : 10;
    if (spec.type == 'c') {
      if (number < 0 || number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) {
        throw Failure("%c needs the number of a character");
      }
      std::string out;
      append_utf8(out, static_cast<char32_t>(number));
      return out;
    }
    digits = digits_of(number, base, spec.type == 'X');
    if (base != 10) group = 4;
    if (spec.alternate && base != 10) prefix = std::string("0") + spec.type;
  } else {
    const std::string_view float_types = "eEfFgGn%";
    if (spec.type != '\0' && float_types.find(spec.type) == std::string::npos) {
      throw Failure(std::string("unknown format code '") + spec.type + "' for a value of type '" +
                    value.type_name() + "'");
    }
    const double number = value.real();
    negative = std::signbit(number) && !std::isnan(number);
    digits = float_digits(std::abs(number), spec);
    if (spec.type == 'E' || spec.type == 'G' || spec.type == 'F') {
      for (char& c : digits) c = c >= 'a' && c <= 'z' ? static_cast<char>(c ^ 0x20) : c;
    }
  }
  if (spec.grouping != '\0') {
    const std::size_t whole =
        std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
    const std::size_t end =
        as_integer ? whole : std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = grouped(digits.substr(0, end), spec.grouping, group) + digits.substr(end);
  }
  const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  return sign + prefix + digits;
}

TextPtr pad_to_spec(Interpreter& in, const TextPtr& text, const FormatSpec& spec, bool number) {
  const std::size_t length = text->characters();
  if (length >= spec.width) return text;
  const std::size_t missing = spec.width - length;
  const char align = spec.align != '\0' ? spec.align : number ? '>' : '<';
  const auto fill = [&](TextBuilder& out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) out.append(spec.fill, TextOrigin::template_text);
  };
  std::size_t before = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  std::size_t head = 0;  // bytes of the sign and the prefix, which stay in front of '=' padding
  if (align == '=') {
    const std::string_view view = text->view();
    if (!view.empty() && (view[0] == '-' || view[0] == '+' || view[0] == ' ')) head = 1;
    const std::string_view prefix = view.substr(head, 2);
    if (prefix == "0x" || prefix == "0X" || prefix == "0b" || prefix == "0o") head += 2;
    before = number ? missing : 0;
  }
  TextBuilder out(in.budget());
  out.append(*text, 0, head);
  fill(out, before);
  out.append(*text, head, text->size());
  fill(out, missing - before);
  return out.finish(text->markup());
}

TextPtr format_value(Interpreter& in, const Value& value, const FormatSpec& spec, bool empty_spec) {
  if (empty_spec) return to_text(in, value);
  if (value.is_number()) {
    const TextPtr digits =
        make_text(in.budget(), format_number(value, spec), TextOrigin::template_text);
    return pad_to_spec(in, digits, spec, true);
  }
  TextPtr text = value.text();
  if (text == nullptr) {
    throw Failure("a format specification cannot be applied to a value of type '" +
                  value.type_name() + "'");
  }
  if (spec.type != '\0' && spec.type != 's') {
    throw Failure(std::string("unknown format code '") + spec.type + "' for a string");
  }
  if (spec.sign != '-' || (spec.align == '=' && spec.fill != "0") || spec.grouping != '\0') {
    throw Failure("a sign, '=' and grouping are not allowed in the format of a string");
  }
  if (spec.precision && static_cast<std::size_t>(*spec.precision) < text->characters()) {
    const auto characters = static_cast<std::size_t>(*spec.precision);
    text = slice_text(in.budget(), text, 0, text->offset_of(characters));
  }
  return pad_to_spec(in, text, spec, false);
}

}  // namespace nemo::text::jinja
