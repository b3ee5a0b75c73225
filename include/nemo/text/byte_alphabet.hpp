// The GPT-2 byte alphabet: a printable character for each of the 256 byte values, so that a
// vocabulary of byte strings can be stored as text. Printable Latin-1 stands for itself, the
// remaining 68 bytes are numbered upwards from U+0100 (space is U+0120 'Ġ', newline U+010A 'Ċ').
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nemo::text {

/// The character that stands for `byte`.
[[nodiscard]] char32_t alphabet_char(std::uint8_t byte) noexcept;

/// `bytes` written in the alphabet (UTF-8).
[[nodiscard]] std::string to_alphabet(std::string_view bytes);

/// The bytes that `text` spells in the alphabet; nothing when it holds any other character.
[[nodiscard]] std::optional<std::string> from_alphabet(std::string_view text);

/// Appends the bytes that `text` spells; false (and `out` unchanged) when it is not in the
/// alphabet.
bool append_from_alphabet(std::string& out, std::string_view text);

}  // namespace nemo::text
