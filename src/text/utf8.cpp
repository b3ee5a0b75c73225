// UTF-8 decoding after table 3-7 of the Unicode standard: the second byte of a character has a
// narrower range after E0, ED, F0 and F4, which excludes overlong forms, surrogates and > 10FFFF.
#include <nemo/base/error.hpp>
#include <nemo/text/utf8.hpp>

#include <array>
#include <cstdio>
#include <cstring>

namespace nemo::text {

namespace {

std::uint8_t byte_at(std::string_view text, std::size_t i) noexcept {
  return static_cast<std::uint8_t>(text[i]);
}

/// Bytes at the front of `text` that are ASCII, counted eight at a time.
std::size_t ascii_prefix(std::string_view text) noexcept {
  std::size_t n = 0;
  for (; n + 8 <= text.size(); n += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + n, 8);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (n < text.size() && byte_at(text, n) < 0x80) ++n;
  return n;
}

}  // namespace

Utf8Step utf8_step(std::string_view text) noexcept {
  using Kind = Utf8Step::Kind;
  const std::uint8_t lead = byte_at(text, 0);
  if (lead < 0x80) return {Kind::valid, 1, lead};
  std::uint8_t length = 0;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {Kind::invalid, 1, 0};
  }
  auto code_point = static_cast<char32_t>(lead & (0x7fu >> length));
  for (std::uint8_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Kind::incomplete, i, 0};
    const std::uint8_t next = byte_at(text, i);
    if (next < low || next > high) return {Kind::invalid, i, 0};
    code_point = (code_point << 6) | (next & 0x3fu);
    low = 0x80;
    high = 0xbf;
  }
  return {Kind::valid, length, code_point};
}

std::size_t find_invalid_utf8(std::string_view text) noexcept {
  std::size_t at = 0;
  while (true) {
    at += ascii_prefix(text.substr(at));
    if (at == text.size()) return std::string_view::npos;
    const Utf8Step step = utf8_step(text.substr(at));
    if (step.kind != Utf8Step::Kind::valid) return at;
    at += step.bytes;
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t bad = find_invalid_utf8(text);
    out.append(text.substr(0, bad));
    if (bad == std::string_view::npos) break;
    text.remove_prefix(bad);
    text.remove_prefix(utf8_step(text).bytes);
    out.append(kReplacement);
  }
  return out;
}

void require_utf8(std::string_view text, std::string_view what) {
  const std::size_t bad = find_invalid_utf8(text);
  if (bad == std::string_view::npos) return;
  std::array<char, 8> hex{};
  std::snprintf(hex.data(), hex.size(), "0x%02x", static_cast<unsigned>(byte_at(text, bad)));
  throw Error(ErrorCode::bad_input, std::string(what) + " is not valid UTF-8: byte " + hex.data() +
                                        " at offset " + std::to_string(bad) +
                                        "; convert it to UTF-8 first");
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&](char32_t bits) { out.push_back(static_cast<char>(bits)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3f));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

}  // namespace nemo::text
