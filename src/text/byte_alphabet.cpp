// Both directions of the GPT-2 byte alphabet as two small constant tables.
#include <nemo/text/byte_alphabet.hpp>
#include <nemo/text/utf8.hpp>

#include <array>

namespace nemo::text {

namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

// 256 bytes of which 188 stand for themselves: characters reach U+0100 + 67 = U+0143.
constexpr unsigned kChars = 0x144;

struct Alphabet {
  std::array<std::uint16_t, 256> to_char{};
  std::array<std::int16_t, kChars> to_byte{};  // -1: not in the alphabet
};

constexpr Alphabet make_alphabet() {
  Alphabet a;
  for (std::int16_t& byte : a.to_byte) byte = -1;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const unsigned c = stands_for_itself(byte) ? byte : next++;
    a.to_char[byte] = static_cast<std::uint16_t>(c);
    a.to_byte[c] = static_cast<std::int16_t>(byte);
  }
  return a;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

char32_t alphabet_char(std::uint8_t byte) noexcept { return kAlphabet.to_char[byte]; }

std::string to_alphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) append_utf8(out, alphabet_char(static_cast<std::uint8_t>(c)));
  return out;
}

bool append_from_alphabet(std::string& out, std::string_view text) {
  const std::size_t before = out.size();
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    const bool known = step.kind == Utf8Step::Kind::valid && step.code_point < kChars &&
                       kAlphabet.to_byte[step.code_point] >= 0;
    if (!known) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(kAlphabet.to_byte[step.code_point]));
    text.remove_prefix(step.bytes);
  }
  return true;
}

std::optional<std::string> from_alphabet(std::string_view text) {
  std::string out;
  if (!append_from_alphabet(out, text)) return std::nullopt;
  return out;
}

}  // namespace nemo::text
