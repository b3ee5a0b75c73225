// Splitting text into pieces: translated expressions, the five behaviours, GGUF's names, and texts
// that make naive regular expressions slow.
#include "catch.hpp"
#include "text/tokenizer_files.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/pretokenizer.hpp>

#include <string>
#include <vector>

using namespace nemo::text;
using namespace tokenizer_files;

namespace {

using Pieces = std::vector<std::string>;

Pieces split(const std::vector<SplitRule>& rules, std::string_view text) {
  const PreTokenizer pretokenizer(rules);
  PieceSplitter splitter(pretokenizer);
  Pieces pieces;
  splitter.split(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

Pieces split(const std::string& expression, SplitBehavior behavior, std::string_view text,
             bool invert = false) {
  return split({{.pattern = expression, .behavior = behavior, .invert = invert}}, text);
}

Pieces split_as(std::string_view gguf_name, std::string_view text) {
  return split(gguf_pretokenizer(gguf_name).splits, text);
}

std::string joined(const Pieces& pieces) {
  std::string all;
  for (const std::string& piece : pieces) all += piece;
  return all;
}

}  // namespace

TEST_CASE("pieces equal the golden pre-tokens of both expressions") {
  for (const std::string suffix : {"", "_llama3"}) {
    const TokenizerData tokenizer = golden_data(suffix);
    const Json golden = read_json(data("tokenizer/encode" + suffix + ".json"));
    std::size_t compared = 0;
    for (const Json& c : golden["cases"]) {
      if (!c.contains("pretokens")) continue;
      ++compared;
      INFO(c["id"]);
      CHECK(split(*tokenizer.splits, c["text"].get<std::string>()) == c["pretokens"].get<Pieces>());
    }
    CHECK(compared > 200);
  }
}

TEST_CASE("pixtral splits exactly like the Llama 3 expression of a tokenizer.json") {
  const TokenizerData tokenizer = golden_data("_llama3");
  const Json golden = read_json(data("tokenizer/encode_llama3.json"));
  for (const Json& c : golden["cases"]) {
    INFO(c["id"]);
    const auto text = c["text"].get<std::string>();
    CHECK(split_as("pixtral", text) == split(*tokenizer.splits, text));
  }
}

TEST_CASE("the five split behaviours") {
  using B = SplitBehavior;
  // huggingface/tokenizers documents them on this text and pattern.
  const std::string text = "the-final--countdown";
  CHECK(split("-", B::removed, text) == Pieces{"the", "final", "countdown"});
  CHECK(split("-", B::isolated, text) == Pieces{"the", "-", "final", "-", "-", "countdown"});
  CHECK(split("-", B::merged_with_previous, text) == Pieces{"the-", "final-", "-", "countdown"});
  CHECK(split("-", B::merged_with_next, text) == Pieces{"the", "-final", "-", "-countdown"});
  CHECK(split("-", B::contiguous, text) == Pieces{"the", "-", "final", "--", "countdown"});
  CHECK(split("-", B::merged_with_previous, "-a-") == Pieces{"-", "a-"});
  CHECK(split("-", B::merged_with_next, "-a-") == Pieces{"-a", "-"});
}

TEST_CASE("inverted rules keep the matches and treat the gaps as delimiters") {
  CHECK(split("\\w+|[^\\w\\s]+", SplitBehavior::removed, "Hey, you there!", true) ==
        Pieces{"Hey", ",", "you", "there", "!"});
  CHECK(split("[a-z]+", SplitBehavior::merged_with_previous, "ab12cd34", true) ==
        Pieces{"ab12", "cd34"});
}

TEST_CASE("empty matches split without swallowing anything") {
  CHECK(split("(?=b)", SplitBehavior::isolated, "abab") == Pieces{"a", "ba", "b"});
  CHECK(split("x*", SplitBehavior::isolated, "axxb") == Pieces{"a", "xx", "b"});
  CHECK(joined(split("", SplitBehavior::isolated, "h\xc3\xa9")) == "h\xc3\xa9");
}

TEST_CASE("literal patterns are not expressions") {
  CHECK(split({{.pattern = ".", .is_regex = false}}, "a.b") == Pieces{"a", ".", "b"});
}

TEST_CASE("rules apply one after the other") {
  const Pieces pieces = split({{.pattern = "\\p{N}"}, {.pattern = " ?\\p{L}+"}}, "ab 12cd ef");
  CHECK(pieces == Pieces{"ab", " ", "1", "2", "cd", " ef"});
}

TEST_CASE("the prefix space goes to every piece that does not start with a space") {
  const SplitRule prefix{.add_prefix_space = true};
  CHECK(split({prefix}, "a b") == Pieces{" a b"});
  CHECK(split({prefix}, " a") == Pieces{" a"});
  CHECK(split({prefix}, "\na") == Pieces{" \na"});
  CHECK(split({{.pattern = ","}, prefix}, "a,b") == Pieces{" a", " ,", " b"});
}

TEST_CASE("Oniguruma's sets are matched as Oniguruma defines them") {
  const auto matches = [](const std::string& expression, std::string_view text) {
    RegexScan scan{Regex("\\A(?:" + expression + ")\\z")};
    return scan.find(text, 0).has_value();
  };
  CHECK(matches("\\s", "\xc2\x85"));  // U+0085 is white space
  CHECK(matches("[^\\S]", "\xc2\x85"));
  CHECK_FALSE(matches("\\S", "\xc2\x85"));
  CHECK(matches("\\s", "\xe3\x80\x80"));        // U+3000
  CHECK_FALSE(matches("\\s", "\xe2\x80\x8b"));  // U+200B is none
  CHECK(matches("[\\S]", "x"));
  CHECK(matches("\\w\\w", "e\xcc\x81"));    // a combining mark belongs to a word
  CHECK(matches("[\\w]", "\xe2\x80\xbf"));  // so does a connector
  CHECK(matches("\\W", "-"));
  CHECK(matches("\\h\\H", "fg"));  // hexadecimal digits there
  CHECK(matches("\\v", "\v"));
  CHECK_FALSE(matches("\\v", "\n"));
  CHECK(matches("(?m:.)", "\n"));  // Ruby's name for dot-all
  CHECK_FALSE(matches(".", "\n"));
  CHECK(matches("a{,2}", ""));
  CHECK(matches("\\u0061", "a"));
  CHECK(matches("(?i:'S)", "'s"));
  CHECK(matches("(?i:'s)", "'\xc5\xbf"));  // long s folds to s
  CHECK(matches("[[:alpha:]]+", "\xc3\xa9t\xc3\xa9"));
  CHECK(matches("[]a]", "]"));
  CHECK(matches("\\p{^L}", "1"));
}

TEST_CASE("expressions that would be read differently are refused by name") {
  for (const char* expression :
       {"[a&&[^b]]", "[a[b]]", "\\y", "(*ACCEPT)", "(?R)", "(?C1)", "a{2}+", "\\Qa\\E", "[\\W]",
        "(?s:a)", "\\", "[a", "\\u12", "\\C", "(", "\\p{NoSuchProperty}", "\\p{L", "[b-a]"}) {
    INFO(expression);
    try {
      const Regex regex(expression);
      FAIL("accepted");
    } catch (const nemo::Error& error) {
      CHECK(error.code() == nemo::ErrorCode::unsupported);
      CHECK_THAT(error.what(), Contains("pre-tokenizer expression '" + std::string(expression)));
    }
  }
  CHECK_THROWS_AS(Regex(std::string(1u << 17, 'a')), nemo::Error);
}

TEST_CASE("an expression that backtracks exponentially gives up with an error") {
  const PreTokenizer pretokenizer({{.pattern = "(?:a|a)+\\p{Lu}"}});
  PieceSplitter splitter(pretokenizer);
  try {
    splitter.split(std::string(2000, 'a'), [](std::string_view) {});
    FAIL("no error");
  } catch (const nemo::Error& error) {
    CHECK(error.code() == nemo::ErrorCode::capacity);
  }
}

TEST_CASE("groups repeated a million times do not exhaust the matcher's stack") {
  const std::string text(1'000'000, 'a');
  CHECK(split("(?:a|b)+", SplitBehavior::isolated, text).size() == 1);
}

TEST_CASE("every GGUF name splits without losing a byte, however uniform the text") {
  const std::vector<std::string> texts = {
      std::string(1 << 20, ' '),        std::string(1 << 20, ' ') + "x", std::string(1 << 20, '\n'),
      std::string(1 << 20, 'a'),        std::string(1 << 20, 'A'),       std::string(1 << 17, '7'),
      std::string(1 << 20, '!') + "\n", std::string(1 << 19, '\t') + "7"};
  // One name for every distinct set of expressions.
  for (const char* name : {"default", "pixtral", "dbrx", "tekken", "gpt-2", "qwen2", "qwen35",
                           "gpt-4o", "seed-coder", "bailingmoe", "deepseek-coder", "deepseek-llm",
                           "deepseek-v3", "falcon", "refact", "bloom", "viking"}) {
    const PreTokenizer pretokenizer(gguf_pretokenizer(name).splits);
    PieceSplitter splitter(pretokenizer);
    for (const std::string& text : texts) {
      INFO(name << ", text of '" << text[0] << "'");
      std::size_t bytes = 0;
      splitter.split(text, [&](std::string_view piece) { bytes += piece.size(); });
      CHECK(bytes == text.size());
    }
  }
}

TEST_CASE("what the GGUF names stand for") {
  CHECK(split_as("pixtral", "It's 12345 eBay'S\n\n  x") ==
        Pieces{"It", "'s", " ", "123", "45", " eBay", "'S", "\n\n", " ", " x"});
  CHECK(split_as("tekken", "eBay 12 a/b\n") == Pieces{"e", "Bay", " ", "1", "2", " a", "/b", "\n"});
  CHECK(split_as("gpt-2", "It's 12345  x\n") == Pieces{"It", "'s", " 12345", " ", " x", "\n"});
  CHECK(split_as("refact", "a12 b") == Pieces{"a", "1", "2", " b"});
  CHECK(split_as("qwen2", "a12\n") == Pieces{"a", "1", "2", "\n"});
  CHECK(split_as("gpt-4o", "Hello'S 1234") == Pieces{"Hello'S", " ", "123", "4"});
  CHECK(split_as("deepseek-coder", "a 1\nb") == Pieces{"a", " ", "1", "\n", "b"});
  CHECK(split_as("deepseek-llm", "a  1\n ") == Pieces{"a", "  ", "1", "\n", " "});
  CHECK(split_as("", "a=b") == split_as("default", "a=b"));
  CHECK(gguf_pretokenizer("pixtral").ignore_merges);
  CHECK(gguf_pretokenizer("llama-bpe").add_bos);
  CHECK_FALSE(gguf_pretokenizer("gpt-2").add_bos);
}

TEST_CASE("all GGUF names compile and an unknown one gets the list of known ones") {
  const auto names = gguf_pretokenizer_names();
  for (const std::string_view name : names) {
    CHECK(joined(split_as(name, "It's 2024!\n ok")) == "It's 2024!\n ok");
  }
  CHECK(std::find(names.begin(), names.end(), "llama-bpe") != names.end());
  CHECK_THROWS_WITH(gguf_pretokenizer("no-such-name"),
                    Contains("'no-such-name'") && Contains("pixtral") && Contains("gpt-2"));
}
