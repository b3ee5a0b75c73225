// Numbers as Python reads, prints and divides them.
#include "src/text/python_number.hpp"

#include "src/text/python_unicode.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace nemo::text {
namespace {

constexpr int kFixedBelow = 16;  // repr switches to an exponent at 1e16 ...
constexpr int kFixedFrom = -4;   // ... and below 1e-4

std::string_view strip_spaces(std::string_view text) {
  while (!text.empty()) {
    const Character c = character_at(text, 0);
    if (!is_space(c.code_point)) break;
    text.remove_prefix(c.bytes);
  }
  while (!text.empty()) {
    const Character c = character_before(text, text.size());
    if (!is_space(c.code_point)) break;
    text.remove_suffix(c.bytes);
  }
  return text;
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char small = static_cast<char>(c | 0x20);
  return small >= 'a' && small <= 'z' ? small - 'a' + 10 : 99;
}

// Removes the underscores Python allows between digits; nothing where they are misplaced.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const bool between = i > 0 && i + 1 < text.size() && digit_value(text[i - 1]) < 36 &&
                         digit_value(text[i + 1]) < 36;
    if (!between) return std::nullopt;
  }
  return out;
}

// What a decimal outside the range of double reads as: from_chars does not tell big from small.
double out_of_range_value(std::string_view text) {
  const std::size_t mark = std::min(text.find_first_of("eE"), text.size());
  const std::string_view mantissa = text.substr(0, mark);
  long exponent = 0;
  if (mark < text.size()) {
    std::string_view digits = text.substr(mark + 1);
    if (digits[0] == '+') digits.remove_prefix(1);
    const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    if (end.ec != std::errc()) return digits[0] == '-' ? 0.0 : HUGE_VAL;
  }
  const auto point = static_cast<long>(std::min(mantissa.find('.'), mantissa.size()));
  const auto first = static_cast<long>(mantissa.find_first_not_of("0."));
  return point - first + exponent > 0 ? HUGE_VAL : 0.0;
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return (x >= 'A' && x <= 'Z' ? static_cast<char>(x | 0x20) : x) == y;
  });
}

}  // namespace

std::string int_text(Int value) {
  if (value == 0) return "0";
  std::string digits;
  // The minimum has no positive twin, so the digits are taken from the negative side.
  const bool negative = value < 0;
  for (Int rest = negative ? value : -value; rest != 0; rest /= 10) {
    digits += static_cast<char>('0' - static_cast<int>(rest % 10));
  }
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<std::size_t>(end.ptr - buffer.data()));
  const std::size_t mark = text.find('e');
  std::string digits;
  for (const char c : text.substr(0, mark)) {
    if (c != '-' && c != '.') digits += c;
  }
  const int exponent = std::atoi(std::string(text.substr(mark + 1)).c_str());
  std::string out = std::signbit(value) ? "-" : "";
  if (exponent < kFixedFrom || exponent >= kFixedBelow) {
    out += digits[0];
    if (digits.size() > 1) out += "." + digits.substr(1);
    out += exponent < 0 ? "e-" : "e+";
    const std::string power = std::to_string(std::abs(exponent));
    return out + (power.size() < 2 ? "0" : "") + power;
  }
  if (exponent < 0) {
    return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  }
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::optional<Int> parse_int(std::string_view text, int base) {
  text = strip_spaces(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.size() > 2 && text[0] == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    const int prefixed = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (prefixed != 0 && (base == 0 || base == prefixed)) {
      base = prefixed;
      text.remove_prefix(text[2] == '_' ? 3 : 2);
    }
  }
  const std::optional<std::string> digits = without_underscores(text);
  if (!digits || digits->empty()) return std::nullopt;
  if (base == 0) {
    const bool octal_like = digits->size() > 1 && (*digits)[0] == '0';
    if (octal_like && digits->find_first_not_of('0') != std::string::npos) return std::nullopt;
    base = 10;
  }
  Int value = 0;
  for (const char c : *digits) {
    const int digit = digit_value(c);
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_sub_overflow(value, static_cast<Int>(digit), &value)) {
      return std::nullopt;
    }
  }
  if (negative) return value;
  if (value == std::numeric_limits<Int>::min()) return std::nullopt;
  return -value;
}

std::optional<double> parse_float(std::string_view text) {
  text = strip_spaces(text);
  const std::optional<std::string> plain = without_underscores(text);
  if (!plain || plain->empty()) return std::nullopt;
  std::string_view body = *plain;
  const bool negative = body[0] == '-';
  if (body[0] == '-' || body[0] == '+') body.remove_prefix(1);
  double value = 0.0;
  if (equals_ignoring_case(body, "inf") || equals_ignoring_case(body, "infinity")) {
    value = std::numeric_limits<double>::infinity();
  } else if (equals_ignoring_case(body, "nan")) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    if (body.empty() || !((body[0] >= '0' && body[0] <= '9') || body[0] == '.')) {
      return std::nullopt;
    }
    const auto end = std::from_chars(body.data(), body.data() + body.size(), value);
    if (end.ptr != body.data() + body.size() || end.ec == std::errc::invalid_argument) {
      return std::nullopt;
    }
    if (end.ec == std::errc::result_out_of_range) value = out_of_range_value(body);
  }
  return negative ? -value : value;
}

std::optional<Int> truncate_to_int(double value) {
  constexpr double kLimit = 1.7e38;  // just below 2^127
  if (!(std::abs(value) < kLimit)) return std::nullopt;
  return static_cast<Int>(value);
}

Int floor_div(Int a, Int b) {
  if (b == -1) return -a;  // the caller excludes the minimum; avoids the trap of min / -1
  const Int quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Int floor_mod(Int a, Int b) {
  if (b == -1) return 0;
  const Int rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

double floor_mod(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0.0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double floor_div(double a, double b) {
  const double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0.0 && (rest < 0) != (b < 0)) quotient -= 1.0;
  if (quotient == 0.0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1.0 : whole;
}

double round_float(double value, int digits) {
  if (!std::isfinite(value) || digits > 330) return value;
  if (digits < -310) return std::copysign(0.0, value);
  if (digits >= 0) {
    std::array<char, 1024> buffer{};  // 309 digits + point + 330 decimals
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                   std::chars_format::fixed, digits);
    double rounded = value;
    std::from_chars(buffer.data(), end.ptr, rounded);
    return rounded;
  }
  // 17 significant digits of value / 10^-digits are exact enough to break ties correctly for every
  // value whose scaled form is representable; std::nearbyint rounds half to even.
  const double scale = std::pow(10.0, -digits);
  const double scaled = value / scale;
  return std::isfinite(scaled) ? std::nearbyint(scaled) * scale : value;
}

Int round_int(Int value, int digits) {
  if (digits >= 0) return value;
  if (digits < -38) return 0;
  Int scale = 1;
  for (int i = 0; i < -digits; ++i) scale *= 10;
  const Int rest = floor_mod(value, scale);
  const Int lower = value - rest;
  const Int half = scale / 2;
  const bool up = rest > half || (rest == half && floor_mod(lower / scale, 2) != 0);
  return up ? lower + scale : lower;
}

}  // namespace nemo::text
