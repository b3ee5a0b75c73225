// Splits a template into tokens, with jinja2's whitespace control:
// -  next to a tag strips all white space on that side, + keeps it;
// trim_blocks: one newline right after a block or comment tag goes away;
// lstrip_blocks: blanks between the start of a line and a block or comment tag go away.
#include "src/text/jinja_lexer.hpp"

#include "src/text/python_unicode.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/utf8.hpp>

#include <array>
#include <optional>

namespace nemo::text::jinja {
namespace {

constexpr std::size_t kMaxSource = std::size_t{16} << 20;  // bytes; real templates have 50 KiB

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

bool is_name_start(std::string_view text, std::size_t at) {
  const char c = text[at];
  if (static_cast<unsigned char>(c) < 0x80) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  }
  return is_alpha(character_at(text, at).code_point);
}

// \r\n and \r become \n, and one newline at the end of the file is dropped.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : owned_(normalize_newlines(source)), source_(owned_) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) lex_text();
    push(Token::Kind::end);
    return std::move(tokens_);
  }

 private:
  enum class Tag { print, block, comment };

  void push(Token::Kind kind, std::string text = {}) {
    tokens_.push_back({kind, std::move(text), {}, line_});
  }

  [[nodiscard]] bool at(std::string_view what) const {
    return source_.substr(position_, what.size()) == what;
  }

  void advance_to(std::size_t position) {
    for (; position_ < position; ++position_) line_ += source_[position_] == '\n' ? 1 : 0;
  }

  void skip_spaces() {
    while (position_ < source_.size()) {
      const Character c = character_at(source_, position_);
      if (!is_space(c.code_point)) break;
      advance_to(position_ + c.bytes);
    }
  }

  // The text up to the next tag, then the tag.
  void lex_text() {
    std::size_t begin = position_;
    std::optional<Tag> tag;
    for (; begin + 1 < source_.size() && !tag; ++begin) {
      if (source_[begin] != '{') continue;
      const char next = source_[begin + 1];
      if (next == '{') tag = Tag::print;
      if (next == '%') tag = Tag::block;
      if (next == '#') tag = Tag::comment;
      if (tag) break;
    }
    if (!tag) {
      emit_text(position_, source_.size());
      advance_to(source_.size());
      return;
    }
    const char sign = begin + 2 < source_.size() ? source_[begin + 2] : '\0';
    const bool has_sign = sign == '-' || sign == '+';
    emit_text(position_, stripped_end(begin, sign, *tag));
    advance_to(begin + (has_sign ? 3 : 2));
    if (*tag == Tag::comment) {
      lex_comment();
    } else if (*tag == Tag::block && lex_raw()) {
      return;
    } else {
      lex_tag(*tag);
    }
  }

  // Where the text before a tag at `begin` ends after whitespace control.
  [[nodiscard]] std::size_t stripped_end(std::size_t begin, char sign, Tag tag) const {
    std::size_t end = begin;
    if (sign == '-') {
      while (end > position_) {
        const Character c = character_before(source_, end);
        if (!is_space(c.code_point)) break;
        end -= c.bytes;
      }
      return end;
    }
    if (sign == '+' || tag == Tag::print) return begin;
    while (end > position_ && source_[end - 1] != '\n') {
      const Character c = character_before(source_, end);
      if (!is_space(c.code_point)) return begin;
      end -= c.bytes;
    }
    const bool from_line_start = end > position_ || line_starting_;
    return from_line_start ? end : begin;
  }

  void emit_text(std::size_t begin, std::size_t end) {
    if (end > begin) push(Token::Kind::text, std::string(source_.substr(begin, end - begin)));
  }

  // Consumes the end mark of a block or comment ("%}" or "#}" at the current place, possibly
  // signed) with the white space that goes with it.
  [[nodiscard]] bool consume_end(std::string_view mark) {
    const bool minus = at("-") && source_.substr(position_ + 1, 2) == mark;
    const bool plus = at("+") && source_.substr(position_ + 1, 2) == mark;
    if (!minus && !plus && !at(mark)) return false;
    advance_to(position_ + (minus || plus ? 3 : 2));
    if (minus) {
      skip_spaces();
    } else if (!plus && at("\n")) {
      advance_to(position_ + 1);
    }
    line_starting_ = source_[position_ - 1] == '\n';
    return true;
  }

  void lex_comment() {
    const std::uint32_t line = line_;
    while (position_ < source_.size()) {
      if (consume_end("#}")) return;
      advance_to(position_ + 1);
    }
    fail_at(line, "a comment {# is never closed; add #}");
  }

  // {% raw %} ... {% endraw %}; false if the tag at the current place is something else.
  [[nodiscard]] bool lex_raw() {
    std::size_t probe = position_;
    const auto skip = [&] {
      while (probe < source_.size() && is_space(character_at(source_, probe).code_point)) {
        probe += character_at(source_, probe).bytes;
      }
    };
    skip();
    if (source_.substr(probe, 3) != "raw") return false;
    probe += 3;
    skip();
    const bool minus = source_.substr(probe, 3) == "-%}";
    if (!minus && source_.substr(probe, 2) != "%}") return false;
    const std::uint32_t line = line_;
    advance_to(probe + (minus ? 3 : 2));
    if (minus) skip_spaces();
    line_starting_ = source_[position_ - 1] == '\n';
    for (std::size_t i = position_; i + 1 < source_.size(); ++i) {
      if (source_[i] != '{' || source_[i + 1] != '%') continue;
      probe = i + 2;
      const char sign = probe < source_.size() ? source_[probe] : '\0';
      if (sign == '-' || sign == '+') ++probe;
      skip();
      if (source_.substr(probe, 6) != "endraw") continue;
      probe += 6;
      skip();
      const bool signed_end = source_.substr(probe, 1) == "-" || source_.substr(probe, 1) == "+";
      if (source_.substr(probe + (signed_end ? 1 : 0), 2) != "%}") continue;
      emit_text(position_, stripped_end(i, sign, Tag::block));
      advance_to(probe);
      return consume_end("%}");
    }
    fail_at(line, "a raw block is never closed; add {% endraw %}");
  }

  // The inside of {{ }} or {% %}.
  void lex_tag(Tag tag) {
    const std::uint32_t line = line_;
    push(tag == Tag::print ? Token::Kind::print_begin : Token::Kind::block_begin);
    std::string brackets;  // the closing brackets still expected
    for (;;) {
      skip_spaces();
      if (position_ >= source_.size()) fail_at(line, "a tag is never closed");
      if (brackets.empty() && lex_tag_end(tag)) return;
      const char c = source_[position_];
      if (is_digit_char(c)) {
        lex_number();
      } else if (is_name_start(source_, position_)) {
        lex_name();
      } else if (c == '\'' || c == '"') {
        lex_string(c);
      } else {
        lex_operator(brackets);
      }
    }
  }

  [[nodiscard]] bool lex_tag_end(Tag tag) {
    if (tag == Tag::block) {
      const std::uint32_t line = line_;
      if (!consume_end("%}")) return false;
      push(Token::Kind::block_end);
      tokens_.back().line = line;
      return true;
    }
    const bool minus = at("-}}");
    if (!minus && !at("}}")) return false;
    push(Token::Kind::print_end);
    advance_to(position_ + (minus ? 3 : 2));
    if (minus) skip_spaces();
    line_starting_ = source_[position_ - 1] == '\n';
    return true;
  }

  void lex_name() {
    std::size_t end = position_;
    while (end < source_.size() && (is_name_start(source_, end) || is_digit_char(source_[end]))) {
      end += character_at(source_, end).bytes;
    }
    push(Token::Kind::name, std::string(source_.substr(position_, end - position_)));
    advance_to(end);
  }

  // Digits with single underscores between them, starting at `at`; where they end.
  template <class IsDigit>
  [[nodiscard]] std::size_t digits_end(std::size_t from, IsDigit is_digit_of_base) const {
    std::size_t end = from;
    while (end < source_.size()) {
      if (is_digit_of_base(source_[end])) {
        ++end;
      } else if (source_[end] == '_' && end > from && end + 1 < source_.size() &&
                 is_digit_of_base(source_[end + 1])) {
        ++end;
      } else {
        break;
      }
    }
    return end;
  }

  void lex_number() {
    const std::size_t begin = position_;
    if (source_[begin] == '0' && begin + 2 < source_.size()) {
      const char mark = static_cast<char>(source_[begin + 1] | 0x20);
      const int base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
      if (base != 0) {
        const std::size_t end = digits_end(begin + 2, [&](char c) {
          return parse_int(std::string_view(&c, 1), base).has_value();
        });
        if (end > begin + 2) return push_integer(end);
      }
    }
    const std::size_t whole = digits_end(begin, is_digit_char);
    std::size_t end = whole;
    // x.0.1 is two element accesses, not the number 0.1.
    const bool after_dot = begin > 0 && source_[begin - 1] == '.';
    if (!after_dot) {
      if (end + 1 < source_.size() && source_[end] == '.' && is_digit_char(source_[end + 1])) {
        end = digits_end(end + 1, is_digit_char);
      }
      if (end + 1 < source_.size() && (source_[end] | 0x20) == 'e') {
        const bool has_sign = source_[end + 1] == '+' || source_[end + 1] == '-';
        const std::size_t from = end + (has_sign ? 2 : 1);
        const std::size_t exponent_end = digits_end(from, is_digit_char);
        if (exponent_end > from) end = exponent_end;
      }
    }
    if (end == whole) return push_integer(whole);
    push(Token::Kind::number);
    tokens_.back().number = *parse_float(source_.substr(begin, end - begin));
    advance_to(end);
  }

  void push_integer(std::size_t end) {
    const std::optional<Int> value = parse_int(source_.substr(position_, end - position_), 0);
    if (!value) {
      fail_at(line_, "cannot read the integer " +
                         std::string(source_.substr(position_,
                                                    std::min<std::size_t>(end - position_, 40))));
    }
    push(Token::Kind::number);
    tokens_.back().number = *value;
    advance_to(end);
  }

  void lex_string(char quote) {
    const std::uint32_t line = line_;
    std::size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail_at(line, "a string is never closed");
    push(Token::Kind::string,
         unescape_string(source_.substr(position_ + 1, end - position_ - 1), line_));
    advance_to(end + 1);
  }

  void lex_operator(std::string& brackets) {
    static constexpr std::array<std::string_view, 6> kDouble = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kSingle = "+-*/%~[](){}><=.:|,;";
    for (const std::string_view op : kDouble) {
      if (at(op)) {
        push(Token::Kind::op, std::string(op));
        advance_to(position_ + 2);
        return;
      }
    }
    const char c = source_[position_];
    if (kSingle.find(c) == std::string_view::npos) {
      const Character bad = character_at(source_, position_);
      fail_at(line_, "unexpected character '" +
                         replace_invalid_utf8(source_.substr(position_, bad.bytes)) + "'");
    }
    if (c == '(') brackets += ')';
    if (c == '[') brackets += ']';
    if (c == '{') brackets += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) {
        fail_at(line_,
                std::string("unexpected '") + c + "'" +
                    (brackets.empty() ? std::string()
                                      : std::string(", expected '") + brackets.back() + "'"));
      }
      brackets.pop_back();
    }
    push(Token::Kind::op, std::string(1, c));
    advance_to(position_ + 1);
  }

  std::string owned_;
  std::string_view source_;
  std::size_t position_ = 0;
  std::uint32_t line_ = 1;
  bool line_starting_ = true;  // whether the last thing consumed ended with a newline
  std::vector<Token> tokens_;
};

}  // namespace

void fail_at(std::uint32_t line, const std::string& message) {
  throw Error(ErrorCode::bad_input, "chat template, line " + std::to_string(line) + ": " + message);
}

std::vector<Token> tokenize(std::string_view source) {
  if (source.size() > kMaxSource) {
    throw Error(ErrorCode::bad_input, "chat template: " + std::to_string(source.size()) +
                                          " bytes are too many; at most " +
                                          std::to_string(kMaxSource) + " can be read");
  }
  return Lexer(source).run();
}

}  // namespace nemo::text::jinja
