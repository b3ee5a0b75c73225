// Splits a template into tokens, with jinja2's whitespace control.
#pragma once

#include "src/text/jinja_value.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::text::jinja {

struct Token {
  enum class Kind : std::uint8_t {
    text,         // literal text outside of tags
    print_begin,  // {{
    print_end,
    block_begin,  // {%
    block_end,
    name,
    string,  // `text` is unescaped
    number,  // in `number`
    op,      // `text` is the operator
    end,
  };
  Kind kind = Kind::end;
  std::string text;
  Value number;
  std::uint32_t line = 0;
};

/// The tokens of `source`, ended by one of kind `end`. Throws Error{bad_input} with the line.
[[nodiscard]] std::vector<Token> tokenize(std::string_view source);

/// The value of a string literal without its quotes. Throws Error{bad_input} with the line.
[[nodiscard]] std::string unescape_string(std::string_view raw, std::uint32_t line);

/// Throws Error{bad_input}: "chat template, line 3: message".
[[noreturn]] void fail_at(std::uint32_t line, const std::string& message);

}  // namespace nemo::text::jinja
