// UTF-8 checking and repair, and the GPT-2 byte alphabet.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/byte_alphabet.hpp>
#include <nemo/text/utf8.hpp>

#include <set>
#include <string>

using namespace nemo::text;

namespace {

std::string repeat(std::string_view text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("every code point survives encoding and reading") {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = utf8_step(text);
    if (step.kind != Utf8Step::Kind::valid || step.code_point != c || step.bytes != text.size() ||
        find_invalid_utf8(text) != std::string::npos) {
      FAIL("code point " << static_cast<std::uint32_t>(c));
    }
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const Utf8Step part = utf8_step(std::string_view(text).substr(0, cut));
      if (part.kind != Utf8Step::Kind::incomplete || part.bytes != cut) {
        FAIL("code point " << static_cast<std::uint32_t>(c) << " cut to " << cut);
      }
    }
  }
}

TEST_CASE("every maximal subpart of broken UTF-8 becomes one replacement character") {
  // The standard's own example (table 3-8) and its neighbours.
  struct Row {
    std::string bytes;
    std::size_t errors;
  };
  for (const Row& row : {Row{"\xc0\xaf", 2}, Row{"\xe0\x9f\x80", 3}, Row{"\xed\xa0\x80", 3},
                         Row{"\xf4\x91\x92\x93", 4}, Row{"\xff", 1}, Row{"\xe2\x82", 1},
                         Row{"\xf0\x9f\x98", 1}, Row{"\xf0\x9f", 1}, Row{"\xf0\x80\x80", 3},
                         Row{"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf", 4}, Row{"\xf5\x80", 2}}) {
    CHECK(replace_invalid_utf8(row.bytes) == repeat(kReplacement, row.errors));
    CHECK(replace_invalid_utf8("a" + row.bytes + "z") ==
          "a" + repeat(kReplacement, row.errors) + "z");
    CHECK(find_invalid_utf8("aaaaaaaaa" + row.bytes) == 9);
  }
  CHECK(replace_invalid_utf8("") == "");
  CHECK(replace_invalid_utf8("gr\xc3\xbc\xc3\x9f") == "gr\xc3\xbc\xc3\x9f");
}

TEST_CASE("text that is not UTF-8 is refused with the offset of the first bad byte") {
  CHECK_NOTHROW(require_utf8("fine \xe2\x82\xac", "the text"));
  CHECK_THROWS_WITH(require_utf8("ab\xff", "the text"),
                    Contains("the text is not valid UTF-8") && Contains("0xff at offset 2"));
  try {
    require_utf8("\xed\xa0\x80", "x");
    FAIL("no error");
  } catch (const nemo::Error& error) {
    CHECK(error.code() == nemo::ErrorCode::bad_input);
  }
}

TEST_CASE("the byte alphabet is a bijection between bytes and printable characters") {
  std::set<char32_t> seen;
  for (unsigned b = 0; b < 256; ++b) {
    const auto byte = static_cast<std::uint8_t>(b);
    seen.insert(alphabet_char(byte));
    CHECK(alphabet_char(byte) > 0x20);
    const std::string raw(1, static_cast<char>(byte));
    CHECK(from_alphabet(to_alphabet(raw)) == raw);
  }
  CHECK(seen.size() == 256);
  CHECK(to_alphabet(" the\n") == "\xc4\xa0the\xc4\x8a");  // GPT-2's "Ġthe" and "Ċ"
  CHECK(alphabet_char(0xad) == 0x143);                    // the last of the 68 renumbered bytes
}

TEST_CASE("text outside the byte alphabet spells no bytes") {
  CHECK_FALSE(from_alphabet(" the").has_value());          // a raw space
  CHECK_FALSE(from_alphabet("\xe6\x97\xa5").has_value());  // a character beyond U+0143
  CHECK_FALSE(from_alphabet("a\xff").has_value());         // no UTF-8 at all
  std::string out = "kept";
  CHECK_FALSE(append_from_alphabet(out, "ab "));
  CHECK(out == "kept");
}
