// Stop strings: what is let out, when, for every way to cut the text into pieces.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/random.hpp>
#include <nemo/engine/stop_strings.hpp>
#include <nemo/text/utf8.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using Strings = std::vector<std::string>;

struct Outcome {
  std::string text;
  bool stopped = false;
};

// The definition, by looking at the whole text: the first end of any stop string, longest first.
Outcome by_definition(const Strings& stops, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const auto& stop : stops) {
      const auto head = std::string_view(text).substr(0, end);
      if (head.size() >= stop.size() && head.substr(end - stop.size()) == stop) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

Outcome streamed(const Strings& stops, const Strings& pieces) {
  nemo::StopStrings filter(stops);
  Outcome out;
  for (const auto& piece : pieces) out.text += filter.push(piece);
  out.text += filter.flush();
  out.stopped = filter.stopped();
  return out;
}

Strings bytes_of(const std::string& text) {
  Strings pieces;
  for (const char c : text) pieces.emplace_back(1, c);
  return pieces;
}

}  // namespace

TEST_CASE("text that could become a stop string is held back until it is decided") {
  nemo::StopStrings filter({"###"});
  CHECK(filter.push("answer#") == "answer");
  CHECK(filter.push("#") == "");
  CHECK(filter.push("!") == "##!");
  CHECK(filter.push("x##") == "x");
  CHECK(filter.push("# and more") == "");
  CHECK(filter.stopped());
  CHECK(filter.push("nothing comes after a stop") == "");
  CHECK(filter.flush() == "");
}

TEST_CASE("held back text comes out when the stream ends without a stop string") {
  nemo::StopStrings filter({"\nUser:"});
  CHECK(filter.push("bye\nUse") == "bye");
  CHECK(filter.flush() == "\nUse");
  CHECK_FALSE(filter.stopped());
}

TEST_CASE("without stop strings text passes through at once") {
  nemo::StopStrings filter;
  CHECK(filter.push("anything") == "anything");
  CHECK(filter.flush() == "");
}

TEST_CASE("overlapping and nested stop strings follow the definition for every two-way split") {
  const std::vector<Strings> sets = {{"aab"},     {"abab"},       {"bc", "abcd"}, {"abcd", "bc"},
                                     {"b", "ab"}, {"aa", "aaaa"}, {"abc", "bca"}, {"END", "EN!"}};
  const Strings texts = {"aaab", "aaaab", "abaabab", "xabcd", "xabce", "ab",   "cab",
                         "aaa",  "ababb", "ENEND",   "EN!",   "ENx",   "xaab", "abcabc"};
  for (const auto& stops : sets) {
    for (const auto& text : texts) {
      const auto expected = by_definition(stops, text);
      for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        const auto got = streamed(stops, {text.substr(0, cut), text.substr(cut)});
        CHECK(got.text == expected.text);
        CHECK(got.stopped == expected.stopped);
      }
      CHECK(streamed(stops, bytes_of(text)).text == expected.text);
    }
  }
}

TEST_CASE("random texts and stop strings over two letters follow the definition") {
  nemo::Random random(7);
  const auto word = [&](std::uint64_t longest) {
    std::string text(1 + random.next() % longest, 'a');
    for (auto& c : text) c = random.next() % 2 == 0 ? 'a' : 'b';
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    Strings stops;
    for (std::uint64_t i = 0; i <= random.next() % 3; ++i) stops.push_back(word(6));
    const auto text = word(40);
    Strings pieces;
    for (std::size_t at = 0; at < text.size();) {
      const auto length = 1 + random.next() % 5;
      pieces.push_back(text.substr(at, length));
      at += length;
    }
    const auto expected = by_definition(stops, text);
    const auto got = streamed(stops, pieces);
    REQUIRE(got.text == expected.text);
    REQUIRE(got.stopped == expected.stopped);
  }
}

TEST_CASE("every emitted piece is whole characters even when stops share their first bytes") {
  // é = C3 A9, è = C3 A8, € = E2 82 AC, … = E2 80 A6
  nemo::StopStrings filter({"é!", "€€"});
  std::string all;
  for (const std::string piece : {"caf", "é", "s è", "€", "…", "€", "end"}) {
    const auto certain = filter.push(piece);
    CHECK(nemo::text::find_invalid_utf8(certain) == std::string_view::npos);
    all += certain;
  }
  CHECK(all + filter.flush() == "cafés è€…€end");
}

TEST_CASE("empty and broken stop strings are refused") {
  CHECK_THROWS_AS(nemo::StopStrings({""}), nemo::Error);
  CHECK_THROWS_AS(nemo::StopStrings({"ok", "\xc3"}), nemo::Error);
}
