// From Oniguruma's Ruby syntax to PCRE2's: a single walk over the expression that copies what both
// read alike, spells out the character sets they define differently and refuses the rest.
#include <nemo/base/error.hpp>
#include <nemo/text/regex.hpp>

namespace nemo::text {

namespace {

// White_Space of Unicode. PCRE2's own \s lacks U+0085.
constexpr std::string_view kSpace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";
constexpr std::string_view kNotSpace =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"
    "\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}";
// Alphabetic (letters, letter numbers, the circled and squared letters), marks, decimal digits,
// connectors. PCRE2's own \w lacks marks and connectors and takes every number.
constexpr std::string_view kWord =
    "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
constexpr std::string_view kHex = "0-9a-fA-F";

// Letters after a backslash that mean the same to both.
constexpr std::string_view kSameEscapes = "dDbBAzZGKRXkgNpPtnrfaex";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        character_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorCode::unsupported,
                what + " at byte " + std::to_string(at_) + " is not supported");
  }
  char peek(std::size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  void copy(std::size_t bytes) {
    out_.append(in_.substr(at_, bytes));
    at_ += bytes;
  }
  void replace(std::size_t bytes, std::string_view with) {
    out_.append(with);
    at_ += bytes;
  }

  /// A set that PCRE2 has no name for: bare inside a class, in brackets outside.
  void set(std::string_view members) {
    if (!in_class_) out_.push_back('[');
    replace(2, members);
    if (!in_class_) out_.push_back(']');
  }
  void complement(std::string_view members) {
    if (in_class_) refuse(std::string("'\\") + peek(1) + "' inside a character class");
    out_.append("[^");
    replace(2, members);
    out_.push_back(']');
  }

  void escape() {
    if (at_ + 1 == in_.size()) refuse("a backslash at the end");
    const char c = peek(1);
    if (!is_letter(c)) return copy(2);
    switch (c) {
      case 's':
        return set(kSpace);
      case 'S':
        return set(kNotSpace);
      case 'w':
        return set(kWord);
      case 'W':
        return complement(kWord);
      case 'h':
        return set(kHex);
      case 'H':
        return complement(kHex);
      case 'v':
        return replace(2, "\\x{b}");
      case 'u':
        return unicode_escape();
      default:
        if (kSameEscapes.find(c) == std::string_view::npos) {
          refuse(std::string("the escape '\\") + c + "'");
        }
        copy(2);
        // The braces of \p{..}, \x{..}, \g{..}, \k{..} are no interval.
        if (peek(0) == '{') {
          const std::size_t close = in_.find('}', at_);
          if (close == std::string_view::npos) refuse("a '{' without '}'");
          copy(close + 1 - at_);
        }
    }
  }

  void unicode_escape() {
    const std::string_view digits = in_.substr(at_ + 2, 4);
    if (digits.size() != 4 ||
        digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
      refuse("a '\\u' without four hex digits");
    }
    out_.append("\\x{").append(digits).push_back('}');
    at_ += 6;
  }

  void character_class() {
    in_class_ = true;
    copy(1);
    if (peek(0) == '^') copy(1);
    if (peek(0) == ']') copy(1);  // first in the class, a literal to both
    while (true) {
      if (at_ >= in_.size()) refuse("a character class that never ends");
      const char c = in_[at_];
      if (c == ']') break;
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        const std::size_t close = in_.find(":]", at_);
        if (peek(1) != ':' || close == std::string_view::npos) refuse("a class inside a class");
        copy(close + 2 - at_);
      } else if (c == '&' && peek(1) == '&') {
        refuse("the set intersection '&&'");
      } else {
        copy(1);
      }
    }
    copy(1);
    in_class_ = false;
  }

  void group() {
    if (peek(1) == '*') refuse("'(*'");
    if (peek(1) != '?') return copy(1);
    copy(2);
    if (is_letter(peek(0)) || peek(0) == '-') {
      // Ruby's m is PCRE2's s; its ^ and $ always work on lines (PCRE2_MULTILINE).
      while (is_letter(peek(0)) || peek(0) == '-') {
        const char flag = peek(0);
        if (flag == 'P' && peek(1) == '<') return copy(1);
        if (flag != 'i' && flag != 'm' && flag != 'x' && flag != '-') {
          refuse(std::string("the group flag '") + flag + "'");
        }
        replace(1, flag == 'm' ? "s" : std::string_view(&flag, 1));
      }
    }
  }

  void interval() {
    std::size_t end = at_ + 1;
    while (end < in_.size() && (is_digit(in_[end]) || in_[end] == ',')) ++end;
    if (end == at_ + 1 || end == in_.size() || in_[end] != '}') return copy(1);
    if (end + 1 < in_.size() && in_[end + 1] == '+') refuse("'+' after an interval");
    if (in_[at_ + 1] == ',') replace(1, "{0");
    copy(end + 1 - at_);
  }

  std::string_view in_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string translate_expression(std::string_view expression) {
  return Translator(expression).run();
}

}  // namespace nemo::text
