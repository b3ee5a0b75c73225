// Characters as Python's str sees them: stepping through UTF-8, properties, case mapping.
#include "src/text/python_unicode.hpp"

#include "src/text/python_unicode_tables.hpp"

#include <nemo/text/utf8.hpp>

#include <algorithm>
#include <vector>

namespace nemo::text {
namespace {

constexpr char32_t kBrokenByte = 0xDC00;
constexpr char32_t kCapitalSigma = 0x3A3;

enum Property : std::uint8_t {
  kAlpha = 1,
  kDecimal = 2,
  kDigit = 4,
  kNumeric = 8,
  kPrintable = 16,
  kUpperCase = 32,
  kLowerCase = 64,
  kTitleCase = 128,
};

bool has_property(char32_t c, unsigned properties) noexcept {
  // The last entry whose start is <= c: compare with the largest key of c.
  const auto next = std::upper_bound(kProperties.begin(), kProperties.end(),
                                     static_cast<std::uint32_t>(c) << 8 | 0xffU);
  return (*std::prev(next) & properties) != 0;
}

template <std::size_t Runs, std::size_t Specials>
void append_mapped(std::string& out, char32_t c, const std::array<CaseRun, Runs>& runs,
                   const std::array<CaseSpecial, Specials>& specials) {
  for (const CaseSpecial& special : specials) {
    if (special.code_point == c) {
      out += special.text;
      return;
    }
  }
  auto run = std::upper_bound(runs.begin(), runs.end(), c,
                              [](char32_t value, const CaseRun& r) { return value < r.first; });
  // Runs of stride 2 may interleave, so the neighbour before the nearest is looked at as well.
  for (int back = 0; back < 3 && run != runs.begin(); ++back) {
    --run;
    const std::uint32_t offset = static_cast<std::uint32_t>(c) - run->first;
    if (offset % run->stride == 0 && offset / run->stride < run->count) {
      append_utf8(out, static_cast<char32_t>(static_cast<std::int32_t>(c) + run->delta));
      return;
    }
  }
  append_utf8(out, c);
}

// A capital sigma at the end of a word becomes the final form.
bool ends_word(std::string_view text, std::size_t position) {
  const Character here = character_at(text, position);
  const std::size_t after = position + here.bytes;
  if (after < text.size() && is_alpha(character_at(text, after).code_point)) return false;
  return position > 0 && is_alpha(character_before(text, position).code_point);
}

// KMP failure function: length of the longest proper border of every prefix.
std::vector<std::size_t> borders_of(std::string_view needle) {
  std::vector<std::size_t> borders(needle.size(), 0);
  for (std::size_t i = 1, length = 0; i < needle.size();) {
    if (needle[i] == needle[length]) {
      borders[i++] = ++length;
    } else if (length > 0) {
      length = borders[length - 1];
    } else {
      ++i;
    }
  }
  return borders;
}

constexpr std::size_t kShortNeedle = 16;  // below: the naive search costs at most 16 n

}  // namespace

Character character_at(std::string_view text, std::size_t position) noexcept {
  const auto byte = static_cast<unsigned char>(text[position]);
  if (byte < 0x80) return {byte, 1};
  const Utf8Step step = utf8_step(text.substr(position));
  if (step.kind == Utf8Step::Kind::valid) return {step.code_point, step.bytes};
  return {kBrokenByte + byte, 1};
}

Character character_before(std::string_view text, std::size_t position) noexcept {
  for (std::size_t bytes = 2; bytes <= 4 && bytes <= position; ++bytes) {
    const auto lead = static_cast<unsigned char>(text[position - bytes]);
    if (lead < 0xC0) continue;
    const Character found = character_at(text, position - bytes);
    if (found.bytes == bytes) return found;
    break;
  }
  return {static_cast<unsigned char>(text[position - 1]) < 0x80
              ? static_cast<char32_t>(static_cast<unsigned char>(text[position - 1]))
              : kBrokenByte + static_cast<unsigned char>(text[position - 1]),
          1};
}

std::size_t count_characters(std::string_view text) noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < text.size(); ++count) i += character_at(text, i).bytes;
  return count;
}

bool is_ascii(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_space(char32_t c) noexcept {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

bool is_alpha(char32_t c) noexcept { return has_property(c, kAlpha); }
bool is_decimal(char32_t c) noexcept { return has_property(c, kDecimal); }
bool is_digit(char32_t c) noexcept { return has_property(c, kDigit); }
bool is_numeric(char32_t c) noexcept { return has_property(c, kNumeric); }
bool is_alnum(char32_t c) noexcept {
  return has_property(c, kAlpha | kDecimal | kDigit | kNumeric);
}
bool is_printable(char32_t c) noexcept { return has_property(c, kPrintable); }
bool is_upper(char32_t c) noexcept { return has_property(c, kUpperCase); }
bool is_lower(char32_t c) noexcept { return has_property(c, kLowerCase); }
bool is_title(char32_t c) noexcept {
  return has_property(c, kTitleCase) && !has_property(c, kUpperCase);
}

void append_case(std::string& out, std::string_view text, std::size_t position,
                 CaseMapping mapping) {
  const Character c = character_at(text, position);
  if (c.code_point < 0x80) {
    const bool is_small = c.code_point >= 'a' && c.code_point <= 'z';
    const bool is_capital = c.code_point >= 'A' && c.code_point <= 'Z';
    const bool to_small = mapping == CaseMapping::lower;
    const bool flips = to_small ? is_capital : is_small;
    out += static_cast<char>(flips ? c.code_point ^ 0x20 : c.code_point);
  } else if (c.code_point >= kBrokenByte && c.code_point < kBrokenByte + 0x100) {
    out += text[position];
  } else if (mapping == CaseMapping::upper) {
    append_mapped(out, c.code_point, kUpper, kUpperSpecial);
  } else if (mapping == CaseMapping::title) {
    append_mapped(out, c.code_point, kTitle, kTitleSpecial);
  } else if (c.code_point == kCapitalSigma) {
    out += ends_word(text, position) ? "\xcf\x82" : "\xcf\x83";
  } else {
    append_mapped(out, c.code_point, kLower, kLowerSpecial);
  }
}

std::string map_case(std::string_view text, CaseMapping mapping) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); i += character_at(text, i).bytes) {
    append_case(out, text, i, mapping);
  }
  return out;
}

std::size_t find_text(std::string_view text, std::string_view needle, std::size_t from) {
  if (needle.size() <= kShortNeedle) return text.find(needle, from);
  const std::vector<std::size_t> borders = borders_of(needle);
  std::size_t matched = 0;
  for (std::size_t i = from; i < text.size(); ++i) {
    while (matched > 0 && text[i] != needle[matched]) matched = borders[matched - 1];
    if (text[i] == needle[matched]) ++matched;
    if (matched == needle.size()) return i + 1 - matched;
  }
  return std::string_view::npos;
}

std::size_t rfind_text(std::string_view text, std::string_view needle, std::size_t end) {
  text = text.substr(0, end);
  if (needle.size() <= kShortNeedle) return text.rfind(needle);
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const std::size_t found = find_text(reversed_text, reversed_needle, 0);
  return found == std::string_view::npos ? found : text.size() - found - needle.size();
}

std::size_t line_break_at(std::string_view text, std::size_t position) noexcept {
  const Character c = character_at(text, position);
  switch (c.code_point) {
    case '\r':
      return position + 1 < text.size() && text[position + 1] == '\n' ? 2 : 1;
    case '\n':
    case '\v':
    case '\f':
    case 0x1c:
    case 0x1d:
    case 0x1e:
    case 0x85:
    case 0x2028:
    case 0x2029:
      return c.bytes;
    default:
      return 0;
  }
}

}  // namespace nemo::text
