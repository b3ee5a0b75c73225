// The generation loop over scripted logits.
#include "catch.hpp"
#include "engine/byte_tokenizer.hpp"
#include "engine/fake_session.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/generator.hpp>

#include <atomic>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace nemo_test;
using nemo::FinishReason;
using nemo::GenerateOptions;

// A session that says `script` after a prompt of `prompt` tokens, then repeats the last token.
FakeSession saying(const Tokens& script, std::size_t prompt, std::int64_t capacity = 1000) {
  return FakeSession(kByteVocab, capacity, [=](const Tokens& held) {
    const auto at = held.size() < prompt ? 0 : held.size() - prompt;
    return script[std::min(at, script.size() - 1)];
  });
}

Tokens bytes(std::string_view text) {
  Tokens tokens;
  for (const char c : text) tokens.push_back(byte_id(c));
  return tokens;
}

Tokens operator+(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

GenerateOptions greedy() {
  GenerateOptions options;
  options.sampling.temperature = 0.0F;
  return options;
}

const nemo::text::Tokenizer& tokenizer() {
  static const auto made = byte_tokenizer();
  return made;
}

}  // namespace

TEST_CASE("the model's end tokens end the answer and are not part of it") {
  for (const auto end : {kEndOfText, kTurnEnd}) {
    auto session = saying(bytes("hello") + Tokens{end}, 3);
    std::string streamed;
    const auto result = generate(session, tokenizer(), Tokens{100, 101, 102}, greedy(),
                                 [&](std::string_view piece) {
                                   streamed += piece;
                                   return true;
                                 });
    CHECK(result.text == "hello");
    CHECK(streamed == "hello");
    CHECK(result.tokens == bytes("hello"));
    CHECK(result.finish == FinishReason::stop);
    CHECK(result.prompt_tokens == 3);
    CHECK(result.reused_tokens == 0);
  }
  auto session = saying({150, 2, 11, 151, 12}, 1);
  auto options = greedy();
  options.end_tokens = {151};
  options.ignore_end = true;
  options.max_tokens = 4;
  CHECK(generate(session, tokenizer(), Tokens{100}, options).tokens == Tokens{150, 2, 11, 151});
  auto own = saying({150, 151}, 1);
  options.ignore_end = false;
  CHECK(generate(own, tokenizer(), Tokens{100}, options).finish == FinishReason::stop);
}

TEST_CASE("the number of tokens is limited by max_tokens and by the context") {
  auto options = greedy();
  for (const std::int64_t limit : {0, 1, 5}) {
    auto session = saying(bytes("x"), 2);
    options.max_tokens = limit;
    const auto result = generate(session, tokenizer(), Tokens{100, 100}, options);
    CHECK(result.tokens.size() == static_cast<std::size_t>(limit));
    CHECK(result.finish == FinishReason::length);
  }
  options.max_tokens = -1;
  auto session = saying(bytes("x"), 2, 10);
  const auto result = generate(session, tokenizer(), Tokens{100, 100}, options);
  CHECK(result.text == "xxxxxxxxx");  // the tenth token still fits, the last is not fed
  CHECK(result.finish == FinishReason::length);
  CHECK(session.tokens().size() == 10);
}

TEST_CASE("a prompt longer than the context is refused before anything is computed") {
  auto session = saying(bytes("x"), 0, 4);
  CHECK_THROWS_WITH(generate(session, tokenizer(), Tokens(5, 100), greedy()),
                    Contains("5 tokens") && Contains("holds 4") && Contains("--ctx-size"));
  CHECK(session.fed == 0);
  CHECK_THROWS_WITH(generate(session, tokenizer(), {}, greedy()), Contains("empty"));
  session.feed(Tokens{100, 100, 100}, {});
  CHECK_THROWS_AS(generate(session, tokenizer(), Tokens(2, 100), greedy()), nemo::Error);
  CHECK(generate(session, tokenizer(), Tokens(1, 100), greedy()).text == "x");
}

TEST_CASE("generation continues from what the session holds") {
  auto session = saying(bytes("abc") + Tokens{kTurnEnd}, 3);
  session.feed(Tokens{100, 101, 102}, {});
  const auto result = generate(session, tokenizer(), {}, greedy());
  CHECK(result.text == "abc");
  CHECK(result.prompt_tokens == 3);
  CHECK(result.reused_tokens == 3);
  CHECK(Tokens(session.tokens().begin(), session.tokens().end()) ==
        Tokens{100, 101, 102} + bytes("abc"));
}

TEST_CASE("a whole prompt is continued from the part that was computed before") {
  auto* fake = new FakeSession(kByteVocab, 100, [](const Tokens& held) {
    return held.size() < 8 ? byte_id('a') : kTurnEnd;
  });
  nemo::PrefixSession session{std::unique_ptr<nemo::Session>(fake)};
  const std::vector<std::int64_t> boundaries = {3};
  auto result = generate(session, tokenizer(), bytes("12345"), boundaries, greedy());
  CHECK(result.text == "aaa");
  CHECK(result.prompt_tokens == 5);
  CHECK(result.reused_tokens == 0);
  result = generate(session, tokenizer(), bytes("12345aaab"), boundaries, greedy());
  CHECK(result.text.empty());
  CHECK(result.reused_tokens == 8);
  result = generate(session, tokenizer(), bytes("123x"), boundaries, greedy());
  CHECK(result.text == "aaaa");
  CHECK(result.reused_tokens == 3);
  CHECK_THROWS_WITH(generate(session, tokenizer(), Tokens(101, 100), boundaries, greedy()),
                    Contains("101 tokens"));
}

TEST_CASE("stop strings end the answer and never appear, in whole or in part") {
  auto options = greedy();
  options.stop = {"\nUser:", "END"};
  std::vector<std::string> pieces;
  const auto collect = [&](std::string_view piece) {
    pieces.emplace_back(piece);
    return true;
  };
  auto session = saying(bytes("fine.\nUsual\nUser: more"), 1);
  const auto result = generate(session, tokenizer(), Tokens{100}, options, collect);
  CHECK(result.text == "fine.\nUsual");
  CHECK(result.finish == FinishReason::stop_string);
  std::string all;
  for (const auto& piece : pieces) {
    CHECK(!piece.empty());
    all += piece;
  }
  CHECK(all == result.text);
  CHECK(std::find(pieces.begin(), pieces.end(), "\nUsu") != pieces.end());

  auto cut = saying(bytes("the EN"), 1);
  options.max_tokens = 6;
  CHECK(generate(cut, tokenizer(), Tokens{100}, options).text == "the EN");
  options.stop = {""};
  CHECK_THROWS_AS(generate(cut, tokenizer(), Tokens{100}, options), nemo::Error);
}

TEST_CASE("pieces are whole characters and a cut character becomes U+FFFD at the end") {
  auto session = saying(bytes("é€\xf0\x9f") + Tokens{kTurnEnd}, 1);
  std::vector<std::string> pieces;
  const auto result =
      generate(session, tokenizer(), Tokens{100}, greedy(), [&](std::string_view piece) {
        pieces.emplace_back(piece);
        return true;
      });
  CHECK(pieces == std::vector<std::string>{"é", "€", "\xef\xbf\xbd"});
  CHECK(result.text == "é€\xef\xbf\xbd");
  CHECK(result.tokens.size() == 7);
}

TEST_CASE("think tags are part of the text, other control tokens are not") {
  const Tokens script =
      Tokens{kThink} + bytes("a") + Tokens{kThinkEnd, 10} + bytes("b") + Tokens{kTurnEnd};
  auto session = saying(script, 1);
  CHECK(generate(session, tokenizer(), Tokens{100}, greedy()).text == "<think>a</think>b");
  auto options = greedy();
  options.special = nemo::text::SpecialText::skip;
  session.reset();
  CHECK(generate(session, tokenizer(), Tokens{100}, options).text == "ab");
}

TEST_CASE("the callback and the flag cancel between tokens") {
  auto session = saying(bytes("abcdef"), 1);
  const auto by_callback = generate(session, tokenizer(), Tokens{100}, greedy(),
                                    [](std::string_view piece) { return piece != "c"; });
  CHECK(by_callback.finish == FinishReason::cancelled);
  CHECK(by_callback.text == "abc");

  std::atomic<bool> cancel = false;
  auto options = greedy();
  options.cancel = &cancel;
  session.reset();
  const auto by_flag =
      generate(session, tokenizer(), Tokens{100}, options, [&](std::string_view piece) {
        cancel = piece == "d";
        return true;
      });
  CHECK(by_flag.finish == FinishReason::cancelled);
  CHECK(by_flag.text == "abcd");
  session.reset();
  CHECK(generate(session, tokenizer(), Tokens{100}, options).tokens.empty());
  CHECK(session.fed == 7);  // 3 + 4, nothing after a flag that was set before
}

TEST_CASE("cancelling inside the prompt stops after the chunk") {
  std::atomic<bool> cancel = false;
  auto options = greedy();
  options.cancel = &cancel;
  options.feed.chunk_tokens = 10;
  options.feed.progress = [&](std::uint64_t done, std::uint64_t total) {
    CHECK(total == 35);
    if (done == 20) cancel = true;
    return true;
  };
  auto session = saying(bytes("x"), 35);
  auto result = generate(session, tokenizer(), Tokens(35, 100), options);
  CHECK(result.finish == FinishReason::cancelled);
  CHECK(session.tokens().size() == 20);
  cancel = false;
  session.reset();
  options.feed.progress = [](std::uint64_t done, std::uint64_t) { return done < 10; };
  result = generate(session, tokenizer(), Tokens(35, 100), options);
  CHECK(result.finish == FinishReason::cancelled);
  CHECK(session.tokens().size() == 10);
}

TEST_CASE("min_tokens postpones the end and penalties see the prompt") {
  auto session = FakeSession(kByteVocab, 100, [](const Tokens&) { return kTurnEnd; });
  auto options = greedy();
  options.sampling.min_tokens = 3;
  const auto result = generate(session, tokenizer(), Tokens{100}, options);
  CHECK(result.finish == FinishReason::stop);
  CHECK(result.tokens == Tokens{0, 0, 0});

  auto repeating = FakeSession(kByteVocab, 100, [](const Tokens&) { return byte_id('a'); });
  options.sampling.min_tokens = 0;
  options.sampling.presence_penalty = 20.0F;
  options.max_tokens = 1;
  CHECK(generate(repeating, tokenizer(), bytes("a"), options).tokens == Tokens{0});
  repeating.reset();
  CHECK(generate(repeating, tokenizer(), bytes("b"), options).tokens == bytes("a"));
}

TEST_CASE("the seed repeats a generation, also one that was drawn unseeded") {
  auto session = FakeSession(kByteVocab, 100, [](const Tokens&) { return 200; });
  GenerateOptions options;
  options.sampling.temperature = 20.0F;
  options.max_tokens = 20;
  options.ignore_end = true;
  const auto first = generate(session, tokenizer(), Tokens{100}, options);
  options.sampling.seed = first.seed;
  session.reset();
  CHECK(generate(session, tokenizer(), Tokens{100}, options).tokens == first.tokens);
  options.sampling.seed = first.seed + 1;
  session.reset();
  CHECK(generate(session, tokenizer(), Tokens{100}, options).tokens != first.tokens);
}

TEST_CASE("wrong options are refused before the prompt is computed") {
  auto session = saying(bytes("x"), 1);
  GenerateOptions options;
  options.max_tokens = -2;
  CHECK_THROWS_WITH(generate(session, tokenizer(), Tokens{100}, options), Contains("--max-tokens"));
  options.max_tokens = 1;
  options.sampling.top_p = 2.0F;
  CHECK_THROWS_WITH(generate(session, tokenizer(), Tokens{100}, options), Contains("--top-p"));
  options.sampling.top_p = 1.0F;
  options.sampling.logit_bias = {{kByteVocab, 1.0F}};
  CHECK_THROWS_WITH(generate(session, tokenizer(), Tokens{100}, options), Contains("--logit-bias"));
  CHECK(session.fed == 0);
}

TEST_CASE("logits that are not numbers end generation with an error") {
  auto session = saying(bytes("x"), 1);
  session.peak = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(generate(session, tokenizer(), Tokens{100}, greedy()),
                    Contains("not a finite number"));
}
