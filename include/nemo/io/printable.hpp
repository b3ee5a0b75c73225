// Names and paths from files, made fit for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace nemo {

/// `text` in single quotes, control and non-ASCII bytes as \xNN, cut after `limit` bytes.
[[nodiscard]] inline std::string in_quotes(std::string_view text, std::size_t limit = 96) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out + (text.size() > limit ? "...'" : "'");
}

/// `text` on one line and without terminal control: ASCII control bytes become '?'.
[[nodiscard]] inline std::string one_line(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

}  // namespace nemo
