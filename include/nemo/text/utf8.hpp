// UTF-8 as bytes: checking, repairing and walking it, with the one rule for broken input that the
// Unicode standard recommends: every maximal subpart of an ill-formed sequence counts as one error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nemo::text {

/// U+FFFD, what a broken sequence is shown as.
inline constexpr std::string_view kReplacement = "\xef\xbf\xbd";

/// The character at the front of some bytes.
struct Utf8Step {
  enum class Kind : std::uint8_t {
    valid,       // `bytes` bytes encode `code_point`
    incomplete,  // all `bytes` bytes to the end are the start of a character
    invalid,     // the first `bytes` bytes can never become a character (a maximal subpart)
  };
  Kind kind = Kind::invalid;
  std::uint8_t bytes = 0;  // 1..4
  char32_t code_point = 0;
};

/// Reads one character from the front of `text`, which must not be empty.
[[nodiscard]] Utf8Step utf8_step(std::string_view text) noexcept;

/// Byte offset of the first ill-formed or cut sequence, or npos when `text` is valid UTF-8.
[[nodiscard]] std::size_t find_invalid_utf8(std::string_view text) noexcept;

/// `text` with every maximal subpart of an ill-formed sequence replaced by U+FFFD.
[[nodiscard]] std::string replace_invalid_utf8(std::string_view text);

/// Throws Error{bad_input} naming `what`, the byte and its offset unless `text` is valid UTF-8.
void require_utf8(std::string_view text, std::string_view what);

/// Appends the UTF-8 form of a code point below 0x110000.
void append_utf8(std::string& out, char32_t code_point);

}  // namespace nemo::text
