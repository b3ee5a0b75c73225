// Characters as Python's str sees them: stepping through UTF-8, properties, case mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nemo::text {

/// One character of a string; a byte that is not valid UTF-8 counts as one character.
struct Character {
  char32_t code_point = 0;  // 0xDC00 + byte for a broken one, as Python's surrogateescape
  std::size_t bytes = 0;
};

/// The character that starts at `position` < text.size().
[[nodiscard]] Character character_at(std::string_view text, std::size_t position) noexcept;

/// The character that ends before `position` > 0.
[[nodiscard]] Character character_before(std::string_view text, std::size_t position) noexcept;

/// len(text).
[[nodiscard]] std::size_t count_characters(std::string_view text) noexcept;

[[nodiscard]] bool is_ascii(std::string_view text) noexcept;

// Python's str.isspace, isalpha, isdecimal, ... of one character.
[[nodiscard]] bool is_space(char32_t c) noexcept;
[[nodiscard]] bool is_alpha(char32_t c) noexcept;
[[nodiscard]] bool is_decimal(char32_t c) noexcept;
[[nodiscard]] bool is_digit(char32_t c) noexcept;
[[nodiscard]] bool is_numeric(char32_t c) noexcept;
[[nodiscard]] bool is_alnum(char32_t c) noexcept;
[[nodiscard]] bool is_printable(char32_t c) noexcept;
[[nodiscard]] bool is_upper(char32_t c) noexcept;
[[nodiscard]] bool is_lower(char32_t c) noexcept;
[[nodiscard]] bool is_title(char32_t c) noexcept;

enum class CaseMapping : std::uint8_t { lower, upper, title };

/// Appends the character at `position` of `text` in another case (one to three characters).
void append_case(std::string& out, std::string_view text, std::size_t position,
                 CaseMapping mapping);

/// text.lower() or text.upper().
[[nodiscard]] std::string map_case(std::string_view text, CaseMapping mapping);

/// Byte offset of `needle` at or after `from`, or npos; linear time for every input.
[[nodiscard]] std::size_t find_text(std::string_view text, std::string_view needle,
                                    std::size_t from);

/// Byte offset of the last `needle` that ends at or before `end`, or npos; linear time.
[[nodiscard]] std::size_t rfind_text(std::string_view text, std::string_view needle,
                                     std::size_t end);

/// Length of the line break at `position` (str.splitlines knows eleven of them), 0 if there is
/// none.
[[nodiscard]] std::size_t line_break_at(std::string_view text, std::size_t position) noexcept;

}  // namespace nemo::text
