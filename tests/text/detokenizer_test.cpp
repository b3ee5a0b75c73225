// Streaming decode: nothing broken, nothing lost, nothing earlier than it is certain.
#include "catch.hpp"
#include "text/tokenizer_files.hpp"

#include <nemo/text/detokenizer.hpp>
#include <nemo/text/utf8.hpp>

#include <random>
#include <string>
#include <vector>

using namespace nemo::text;
using namespace tokenizer_files;

TEST_CASE("decoded text and every delta equal the golden decode cases") {
  for (const std::string suffix : {"", "_llama3"}) {
    const Tokenizer tokenizer(golden_data(suffix));
    const Json golden = read_json(data("tokenizer/decode" + suffix + ".json"));
    CHECK(golden["cases"].size() > 100);
    for (const Json& c : golden["cases"]) {
      INFO(c["id"]);
      const auto ids = c["ids"].get<Ids>();
      CHECK(tokenizer.decode(ids) == c["text"].get<std::string>());
      CHECK(tokenizer.decode(ids, SpecialText::skip) == c["text_skip_special"].get<std::string>());

      StreamDecoder stream(tokenizer);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        CHECK(stream.push(ids[i]) == c["deltas"][i].get<std::string>());
      }
      CHECK(stream.flush() == c["tail"].get<std::string>());

      StreamDecoder skipping(tokenizer, SpecialText::skip);
      std::string text;
      for (const std::int32_t id : ids) text += skipping.push(id);
      CHECK(text + skipping.flush() == c["text_skip_special"].get<std::string>());
    }
  }
}

TEST_CASE("random bytes in random chunks give the same text as all at once, always valid UTF-8") {
  std::mt19937 random(1);
  // Bytes that make or nearly make characters.
  const std::string alphabet = "a\x80\xbf\xc2\xc3\xe0\xa0\xed\xe2\x82\xac\xf0\x9f\x98\xf4\x8f\xff";
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes;
    for (auto n = random() % 12; n > 0; --n) bytes += alphabet[random() % alphabet.size()];
    Utf8Stream stream;
    std::string text;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t n = 1 + random() % 3;
      const std::string piece = stream.push(std::string_view(bytes).substr(at, n));
      if (find_invalid_utf8(piece) != std::string::npos) FAIL("broken piece");
      text += piece;
      at += n;
    }
    text += stream.flush();
    if (text != replace_invalid_utf8(bytes)) FAIL("round " << round);
  }
}

TEST_CASE("a hidden token does not cut a character in two") {
  TokenizerData data = byte_vocabulary({});
  const std::int32_t mark = add_token(data, "<mark>", TokenType::control);
  const Tokenizer tokenizer(data);
  StreamDecoder hiding(tokenizer, SpecialText::skip);
  CHECK(hiding.push(0xc3) == "");
  CHECK(hiding.push(mark) == "");
  CHECK(hiding.push(0xa9) == "\xc3\xa9");
  StreamDecoder showing(tokenizer);
  CHECK(showing.push(0xc3) == "");
  CHECK(showing.push(mark) == "\xef\xbf\xbd<mark>");
  CHECK(showing.flush() == "");
}

TEST_CASE("a parser sees the tags even when all other special tokens are hidden") {
  const Tokenizer tokenizer(golden_data(""));
  const Ids ids = tokenizer.encode("<|im_start|><think>a</think>b<tool_call><|im_end|>",
                                   {.parse_special = true});
  REQUIRE(ids.size() == 7);
  CHECK(tokenizer.decode(ids, SpecialText::tags_only) == "<think>a</think>b<tool_call>");
  CHECK(tokenizer.decode(ids, SpecialText::skip) == "ab");
}

TEST_CASE("ids outside the vocabulary: an error for decode, nothing for a stream") {
  const Tokenizer tokenizer(golden_data(""));
  const Ids ids = {197, tokenizer.vocab_size()};
  CHECK_THROWS_WITH(tokenizer.decode(ids), Contains("4362") && Contains("outside the vocabulary"));
  CHECK_THROWS(tokenizer.decode(Ids{-1}));
  StreamDecoder stream(tokenizer);
  CHECK(stream.push(tokenizer.vocab_size()) == "");
  CHECK(stream.push(-1) == "");
  CHECK(stream.push(197) == "a");
}

TEST_CASE("the end of a stream shows what was cut off") {
  const Tokenizer tokenizer(byte_vocabulary({}));
  StreamDecoder stream(tokenizer);
  CHECK(stream.push(0xf0) == "");
  CHECK(stream.push(0x9f) == "");
  CHECK(stream.flush() == "\xef\xbf\xbd");
  CHECK(stream.push('x') == "x");
}
