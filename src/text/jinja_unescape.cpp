// String literals of a template: Python's unicode-escape.
#include "src/text/jinja_lexer.hpp"
#include "src/text/python_unicode.hpp"

#include <nemo/text/utf8.hpp>

#include <algorithm>
#include <optional>

namespace nemo::text::jinja {
namespace {

class Unescaper {
 public:
  Unescaper(std::string_view raw, std::uint32_t line) : raw_(raw), line_(line) {}

  std::string run() {
    while (at_ < raw_.size()) {
      if (raw_[at_] == '\\') {
        ++at_;  // never the last byte: it would have escaped the closing quote
        read_escape();
      } else {
        out_ += raw_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  void read_escape() {
    static constexpr std::string_view kNames = "abfnrtv\\'\"";
    static constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
    const char c = raw_[at_];
    if (const std::size_t known = kNames.find(c); known != std::string_view::npos) {
      out_ += kValues[known];
      ++at_;
    } else if (c == '\n') {
      ++at_;  // a line continuation
    } else if (c == 'x' || c == 'u' || c == 'U') {
      ++at_;
      read_code_point(c == 'x' ? 2 : c == 'u' ? 4 : 8);
    } else if (c == 'N') {
      fail_at(line_, "a string holds a \\N{name} escape; write the character itself");
    } else if (c >= '0' && c <= '7') {
      char32_t value = 0;
      for (int digits = 0; digits < 3 && at_ < raw_.size() && raw_[at_] >= '0' && raw_[at_] <= '7';
           ++digits) {
        value = value * 8 + static_cast<char32_t>(raw_[at_++] - '0');
      }
      append_utf8(out_, value);
    } else {
      out_ += '\\';
      read_unknown_escape();
    }
  }

  // What follows a backslash that escapes nothing: itself, or, outside ASCII, its own escape as
  // text (jinja2 turns such characters into escapes before it reads the escapes).
  void read_unknown_escape() {
    const Character c = character_at(raw_, at_);
    if (c.code_point < 0x80) {
      out_ += raw_[at_++];
      return;
    }
    static constexpr std::string_view kHex = "0123456789abcdef";
    const int digits = c.code_point < 0x100 ? 2 : c.code_point < 0x10000 ? 4 : 8;
    out_ += digits == 2 ? 'x' : digits == 4 ? 'u' : 'U';
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) {
      out_ += kHex[(c.code_point >> static_cast<unsigned>(shift)) & 15U];
    }
    at_ += c.bytes;
  }

  [[nodiscard]] std::optional<char32_t> hex_at(std::size_t at, std::size_t digits) const {
    const std::string_view hex = raw_.substr(std::min(at, raw_.size()), digits);
    if (hex.size() != digits || hex.find_first_not_of("0123456789abcdefABCDEF") != hex.npos) {
      return std::nullopt;
    }
    return static_cast<char32_t>(*parse_int(hex, 16));
  }

  void read_code_point(std::size_t digits) {
    const std::optional<char32_t> first = hex_at(at_, digits);
    if (!first || *first > 0x10FFFF) {
      fail_at(line_, "a string holds a broken \\x, \\u or \\U escape");
    }
    at_ += digits;
    char32_t value = *first;
    if (value >= 0xD800 && value < 0xDC00 && raw_.substr(at_, 2) == "\\u") {
      const std::optional<char32_t> low = hex_at(at_ + 2, 4);
      if (low && *low >= 0xDC00 && *low < 0xE000) {
        value = 0x10000 + ((value - 0xD800) << 10U) + (*low - 0xDC00);
        at_ += 6;
      }
    }
    if (value >= 0xD800 && value < 0xE000) {
      fail_at(line_, "a string holds half of a surrogate pair, which no text can contain");
    }
    append_utf8(out_, value);
  }

  std::string_view raw_;
  std::uint32_t line_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string unescape_string(std::string_view raw, std::uint32_t line) {
  return Unescaper(raw, line).run();
}

}  // namespace nemo::text::jinja
