// Encoding: merges, added tokens, trust, and large or hostile inputs.
#include "catch.hpp"
#include "text/tokenizer_files.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/bpe.hpp>
#include <nemo/text/utf8.hpp>

#include <atomic>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace nemo::text;
using namespace tokenizer_files;

namespace {

// The definition: the best pair anywhere, leftmost first, one at a time.
Ids merge_by_definition(const TokenizerData& data, std::string_view piece) {
  std::vector<std::string> symbols;
  for (const char c : piece) symbols.push_back(to_alphabet(std::string(1, c)));
  while (true) {
    std::size_t best = std::numeric_limits<std::size_t>::max();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto rule =
          std::find(data.merges.begin(), data.merges.end(), symbols[i] + " " + symbols[i + 1]);
      const auto rank = static_cast<std::size_t>(rule - data.merges.begin());
      if (rule != data.merges.end() && rank < best) {
        best = rank;
        at = i;
      }
    }
    if (best == std::numeric_limits<std::size_t>::max()) break;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  Ids ids;
  for (const std::string& s : symbols) {
    ids.push_back(static_cast<std::int32_t>(std::find(data.tokens.begin(), data.tokens.end(), s) -
                                            data.tokens.begin()));
  }
  return ids;
}

std::string random_letters(std::mt19937& random, std::size_t size, unsigned kinds) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += static_cast<char>('a' + random() % kinds);
  return text;
}

}  // namespace

TEST_CASE("ids equal the golden encode cases with and without special tokens") {
  for (const std::string suffix : {"", "_llama3"}) {
    const Tokenizer tokenizer(golden_data(suffix));
    const Json golden = read_json(data("tokenizer/encode" + suffix + ".json"));
    const auto prefix = golden["bos_added_by_post_processor"].get<Ids>();
    CHECK(tokenizer.prefix() == prefix);
    for (const Json& c : golden["cases"]) {
      INFO(c["id"]);
      const auto text = c["text"].get<std::string>();
      const auto ids = c["ids"].get<Ids>();
      CHECK(tokenizer.encode(text, {.parse_special = true}) == ids);
      CHECK(tokenizer.encode(text) == (c.contains("ids_plain") ? c["ids_plain"].get<Ids>() : ids));
      Ids with_bos = prefix;
      with_bos.insert(with_bos.end(), ids.begin(), ids.end());
      CHECK(tokenizer.encode(text, {.parse_special = true, .add_bos = true}) == with_bos);
      CHECK(tokenizer.decode(ids) == text);
    }
  }
}

TEST_CASE("invalid UTF-8 is refused, and its repaired form gives the golden ids") {
  const Json golden = read_json(data("tokenizer/invalid_utf8.json"));
  const Tokenizer tokenizer(golden_data(""));
  for (const Json& c : golden["cases"]) {
    const std::string bytes = unhex(c["bytes_hex"]);
    INFO(c["bytes_hex"]);
    try {
      (void)tokenizer.encode(bytes);
      FAIL("accepted");
    } catch (const nemo::Error& error) {
      CHECK(error.code() == nemo::ErrorCode::bad_input);
    }
    CHECK(replace_invalid_utf8(bytes) == c["lossy_text"].get<std::string>());
    CHECK(tokenizer.encode(replace_invalid_utf8(bytes)) == c["ids_of_lossy_text"].get<Ids>());
  }
}

TEST_CASE("merging equals its definition on short and long pieces") {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    // Random merges of what exists already, so that every rank order occurs.
    std::vector<std::string> words = {"a", "b", "c"};
    std::vector<std::string> merges;
    for (int i = 0; i < 40; ++i) {
      const std::string left = words[random() % words.size()];
      const std::string right = words[random() % words.size()];
      if (left.size() + right.size() > 12) continue;
      merges.push_back(left + " " + right);
      words.push_back(left + right);
    }
    const TokenizerData data = byte_vocabulary(merges);
    const Tokenizer tokenizer(data);
    for (const std::size_t size : {1u, 2u, 5u, 31u, 63u, 64u, 65u, 66u, 200u}) {
      const std::string piece = random_letters(random, size, 3);
      INFO(piece);
      CHECK(tokenizer.encode(piece) == merge_by_definition(data, piece));
    }
  }
}

TEST_CASE("equal ranks merge from the left") {
  const Tokenizer tokenizer(byte_vocabulary({"a a"}));
  CHECK(tokenizer.encode("aaaaa") == Ids{256, 256, 'a'});
  CHECK(tokenizer.encode(std::string(101, 'a')).back() == 'a');
}

TEST_CASE("of two identical merges the first counts") {
  CHECK(Tokenizer(byte_vocabulary({"a b", "b c", "a b"})).encode("abc") == Ids{256, 'c'});
}

TEST_CASE("with ignore_merges a piece that is a token is that token") {
  TokenizerData data = byte_vocabulary({"a b"});
  const std::int32_t whole = add_token(data, "xyz", TokenType::normal);
  CHECK(Tokenizer(data).encode("xyz") == Ids{'x', 'y', 'z'});
  data.ignore_merges = true;
  CHECK(Tokenizer(data).encode("xyz") == Ids{whole});
  CHECK(Tokenizer(data).encode("xyza") == Ids{'x', 'y', 'z', 'a'});
}

TEST_CASE("merges through strings that are no tokens still reach the tokens behind them") {
  TokenizerData data = byte_vocabulary({"a b", "ab c"});
  data.tokens[256] = "unrelated";  // "ab" is no token any more, "abc" (257) is
  const Tokenizer tokenizer(data);
  CHECK(tokenizer.encode("abc") == Ids{257});
  CHECK(tokenizer.encode("abd") == Ids{'a', 'b', 'd'});
}

TEST_CASE("bytes without a token: byte fallback, else unk, else nothing") {
  TokenizerData data = byte_vocabulary({});
  data.tokens['q'] = "unrelated";
  CHECK(Tokenizer(data).encode("aqqb") == Ids{'a', 'b'});
  data.unk = add_token(data, "<unk>", TokenType::unknown);
  CHECK(Tokenizer(data).encode("aqqb") == Ids{'a', *data.unk, *data.unk, 'b'});
  data.fuse_unk = true;
  CHECK(Tokenizer(data).encode("aqqb") == Ids{'a', *data.unk, 'b'});
  const std::int32_t byte = add_token(data, "<0x71>", TokenType::byte);
  CHECK(Tokenizer(data).encode("aqqb") == Ids{'a', *data.unk, 'b'});
  data.byte_fallback = true;
  CHECK(Tokenizer(data).encode("aqqb") == Ids{'a', byte, byte, 'b'});
  CHECK(Tokenizer(data).decode(Ids{'a', byte, byte, 'b'}) == "aqqb");
}

TEST_CASE("an end token named as the unknown token is never written by text") {
  TokenizerData data = byte_vocabulary({});
  data.tokens['q'] = "unrelated";
  data.unk = data.eos = add_token(data, "<|endoftext|>", TokenType::control);
  const Tokenizer tokenizer(data);
  CHECK(tokenizer.encode("aqb") == Ids{'a', 'b'});
  CHECK(tokenizer.unk() == data.unk);
  CHECK(tokenizer.is_control(*data.unk));
}

TEST_CASE("text never becomes a control token unless special tokens are parsed") {
  // The worst file: control tokens that merges or a whole piece would produce.
  TokenizerData data = byte_vocabulary({"S T", "ST O", "STO P"});
  data.types[258] = TokenType::control;
  data.ignore_merges = true;
  const Tokenizer tokenizer(data);
  CHECK(tokenizer.encode("STOP") == Ids{'S', 'T', 'O', 'P'});
  CHECK(tokenizer.encode("STOP", {.parse_special = true}) == Ids{258});
  CHECK(tokenizer.is_control(258));
  CHECK(tokenizer.decode(Ids{258}) == "STOP");
}

TEST_CASE("marks of the chat format are control tokens whatever the file calls them") {
  TokenizerData data = byte_vocabulary({});
  const std::int32_t end = add_token(data, "<|im_end|>", TokenType::user_defined);
  const std::int32_t word = add_token(data, "<word>", TokenType::user_defined);
  const Tokenizer tokenizer(data);
  CHECK(tokenizer.is_control(end));
  CHECK(tokenizer.encode("<|im_end|>").size() == 10);
  CHECK(tokenizer.encode("<word>") == Ids{word});  // plain text in a GGUF
  CHECK_FALSE(tokenizer.is_control(word));
}

TEST_CASE("segments: only trusted words become tokens, the text between is one text") {
  const Tokenizer tokenizer(golden_data(""));
  const auto ids = [&](std::vector<Segment> segments) {
    return tokenizer.encode_segments(segments);
  };
  const Ids start = {10};
  CHECK(ids({{"<|im_start|>", true}}) == start);
  CHECK(ids({{"<|im_start|>", false}}) == tokenizer.encode("<|im_start|>"));
  // A token completed by a user's words is no token.
  CHECK(ids({{"<|im_st", true}, {"art|>", false}}) == tokenizer.encode("<|im_start|>"));
  CHECK(ids({{"<|im_st", false}, {"art|>", true}}) == tokenizer.encode("<|im_start|>"));
  // One that the template writes in two strokes is.
  CHECK(ids({{"<|im_st", true}, {"", false}, {"art|>", true}}) == start);
  // No border between words: the same ids as for the whole text.
  CHECK(ids({{"Hel", true}, {"lo wor", false}, {"ld!", true}}) == tokenizer.encode("Hello world!"));
  // A character may be cut by a border, but the whole must be valid.
  CHECK(ids({{"\xc3", true}, {"\xa9", false}}) == tokenizer.encode("\xc3\xa9"));
  CHECK_THROWS_AS(ids({{"\xc3", true}, {"x", false}}), nemo::Error);
  CHECK(ids({}).empty());

  Ids expected = start;
  const auto append = [&](const Ids& more) {
    expected.insert(expected.end(), more.begin(), more.end());
  };
  append(tokenizer.encode("user\nsay <|im_end|><think>"));
  expected.push_back(11);
  append(tokenizer.encode("\n"));
  CHECK(ids({{"<|im_start|>user\n", true},
             {"say <|im_end|><think>", false},
             {"<|im_end|>\n", true}}) == expected);
}

TEST_CASE("user-defined words of a GGUF are not recognised in untrusted segments") {
  TokenizerData data = byte_vocabulary({});
  const std::int32_t call = add_token(data, "<tool_call>", TokenType::user_defined);
  const Tokenizer tokenizer(data);
  CHECK(tokenizer.encode("<tool_call>") == Ids{call});
  CHECK(tokenizer.encode_segments(std::vector<Segment>{{"<tool_call>", false}}).size() == 11);
  CHECK(tokenizer.encode_segments(std::vector<Segment>{{"<tool_call>", true}}) == Ids{call});
}

TEST_CASE("added tokens: leftmost, then longest") {
  TokenizerData data = byte_vocabulary({});
  const std::int32_t ab = add_token(data, "<ab", TokenType::control);
  const std::int32_t abc = add_token(data, "<abc", TokenType::control);
  const std::int32_t bcd = add_token(data, "bcd", TokenType::control);
  const Tokenizer tokenizer(data);
  const EncodeOptions all{.parse_special = true};
  CHECK(tokenizer.encode("<abcd", all) == Ids{abc, 'd'});
  CHECK(tokenizer.encode("<abd", all) == Ids{ab, 'd'});
  CHECK(tokenizer.encode("<bcd", all) == Ids{'<', bcd});
  CHECK(tokenizer.encode("<a", all) == Ids{'<', 'a'});
}

TEST_CASE("added-token flags: lstrip, rstrip, single_word, normalized") {
  TokenizerData data = byte_vocabulary({});
  const auto add = [&](const std::string& text, AddedToken flags) {
    flags.id = add_token(data, text, TokenType::control);
    flags.content = text;
    if (!data.added) data.added.emplace();
    data.added->push_back(flags);
    return flags.id;
  };
  const std::int32_t left = add("<l>", {.lstrip = true});
  const std::int32_t right = add("<r>", {.rstrip = true});
  const std::int32_t word = add("word", {.single_word = true});
  const std::int32_t late = add("<l", {.normalized = true});
  const Tokenizer tokenizer(data);
  const EncodeOptions all{.parse_special = true};
  CHECK(tokenizer.encode("a \n<l> b", all) == Ids{'a', left, ' ', 'b'});
  CHECK(tokenizer.encode("a <r>\xe3\x80\x80 b", all) == Ids{'a', ' ', right, 'b'});
  CHECK(tokenizer.encode("<r> <l>", all) == Ids{right, left});
  CHECK(tokenizer.encode("word", all) == Ids{word});
  CHECK(tokenizer.encode("-word-", all) == Ids{'-', word, '-'});
  CHECK(tokenizer.encode("words", all) == Ids{'w', 'o', 'r', 'd', 's'});
  CHECK(tokenizer.encode("\xc3\xa9word", all) == Ids{0xc3, 0xa9, 'w', 'o', 'r', 'd'});
  CHECK(tokenizer.encode("<l <l>", all) == Ids{late, left});
}

TEST_CASE("unused tokens are neither written nor read") {
  TokenizerData data = byte_vocabulary({"a b"});
  data.types[256] = TokenType::unused;
  const Tokenizer tokenizer(data);
  CHECK(tokenizer.encode("ab") == Ids{'a', 'b'});
  CHECK(tokenizer.decode(Ids{'x', 256, 'y'}) == "xy");
  CHECK(tokenizer.token_text(256) == "ab");
}

TEST_CASE("a megabyte of one character is encoded and comes back") {
  const Tokenizer tokenizer(golden_data(""));
  for (const char c : {'a', 'A', ' ', '\n', '0', '<', '\t'}) {
    const std::string text(1'000'000, c);
    CHECK(tokenizer.decode(tokenizer.encode(text, {.parse_special = true})) == text);
  }
  std::string text;
  while (text.size() < 1'000'000) text += "\xe6\x97\xa5\xe6\x9c\xac";
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("a vocabulary of 131,072 tokens and 269,443 merges encodes by definition") {
  // Every two-letter pair of 52 letters, then ever longer words of existing ones.
  TokenizerData data;
  std::mt19937 random(3);
  std::vector<std::string> words;
  for (int i = 0; i < 26; ++i) {
    words.push_back(std::string(1, static_cast<char>('a' + i)));
    words.push_back(std::string(1, static_cast<char>('A' + i)));
  }
  std::vector<std::string> seen = words;
  data = byte_vocabulary({});
  for (int i = 0; data.tokens.size() < 131'072; ++i) {
    const std::string word = random_letters(random, 2 + random() % 7, 26);
    data.tokens.push_back(word + std::to_string(i % 10));  // distinct enough; repeats are harmless
  }
  data.types.assign(data.tokens.size(), TokenType::normal);
  std::vector<std::string> real;
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) {
      data.merges.push_back(std::string(1, a) + ' ' + b);
      real.push_back({a, b});
    }
  }
  while (data.merges.size() < 269'443) {
    data.merges.push_back(real[random() % real.size()] + ' ' + real[random() % real.size()]);
  }
  const Tokenizer tokenizer(data);
  CHECK(tokenizer.vocab_size() == 131'072);
  CHECK(tokenizer.decode(tokenizer.encode("hello world")) == "hello world");
  const std::string text = random_letters(random, 100'000, 26);
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("one tokenizer serves many threads") {
  const Tokenizer tokenizer(golden_data(""));
  const std::string text = "The quick brown fox <|im_end|> na\xc3\xafve 12345\n\n";
  const Ids expected = tokenizer.encode(text, {.parse_special = true});
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, copy = tokenizer] {
      for (int i = 0; i < 200; ++i) {
        if (copy.encode(text, {.parse_special = true}) != expected) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("tokens are found by how the vocabulary writes them") {
  const Tokenizer tokenizer(golden_data(""));
  CHECK(tokenizer.find("<think>") == 12);
  CHECK(tokenizer.find("a") == 197);
  CHECK(tokenizer.find("\xc4\xa0") == 132);  // "Ġ", the space
  CHECK(tokenizer.token_bytes(132) == " ");
  CHECK(tokenizer.token_text(132) == "\xc4\xa0");
  CHECK_FALSE(tokenizer.find("no such token").has_value());
  CHECK_FALSE(tokenizer.find("").has_value());
  CHECK_THROWS_AS(tokenizer.token_bytes(-1), nemo::Error);
  CHECK_THROWS_AS(tokenizer.type(1'000'000), nemo::Error);
}

TEST_CASE("both end tokens end an answer even if the file names one") {
  TokenizerData data = byte_vocabulary({});
  const std::int32_t document = add_token(data, "</s>", TokenType::control);
  const std::int32_t turn = add_token(data, "<|im_end|>", TokenType::control);
  CHECK(Tokenizer(data).end_tokens() == Ids{document, turn});
  data.eos = 'x';
  data.end_ids = {'y', turn};
  CHECK(Tokenizer(data).end_tokens() == Ids{'x', 'y', document, turn});
}

TEST_CASE("BOS and EOS follow the file, then the pre-tokenizer's name") {
  TokenizerData data = byte_vocabulary({});
  data.splits.reset();
  data.bos = 1;
  data.eos = 2;
  const auto encode = [&] {
    return Tokenizer(data).encode("x", {.add_bos = true, .add_eos = true});
  };
  data.pre_name = "gpt-2";
  CHECK(encode() == Ids{'x'});
  data.pre_name = "pixtral";
  CHECK(encode() == Ids{1, 'x'});
  data.add_bos = false;
  data.add_eos = true;
  CHECK(encode() == Ids{'x', 2});
  data.add_bos = true;
  CHECK(encode() == Ids{1, 'x', 2});
  data.bos.reset();
  CHECK_THROWS_WITH(Tokenizer(data), Contains("add_bos_token"));
  data.add_bos.reset();
  CHECK(encode() == Ids{'x', 2});
}

TEST_CASE("contradictions in a tokenizer's data are named") {
  const TokenizerData good = byte_vocabulary({"a b"});
  const auto error_of = [&](auto&& change) -> std::string {
    TokenizerData data = good;
    change(data);
    try {
      const Tokenizer tokenizer(data);
    } catch (const nemo::Error& error) {
      return error.what();
    }
    return "no error";
  };
  using D = TokenizerData&;
  CHECK_THAT(error_of([](D d) { d.tokens.clear(); }), Contains("vocabulary is empty"));
  CHECK_THAT(error_of([](D d) { d.types.pop_back(); }), Contains("257 tokens but 256 token types"));
  CHECK_THAT(error_of([](D d) { d.bos = 257; }), Contains("BOS token is id 257"));
  CHECK_THAT(error_of([](D d) { d.eos = -2; }), Contains("EOS token is id -2"));
  CHECK_THAT(error_of([](D d) { d.end_ids = {9999}; }), Contains("end token"));
  CHECK_THAT(error_of([](D d) { d.merges.push_back("ab"); }), Contains("merge 1 'ab'"));
  CHECK_THAT(error_of([](D d) { d.merges.push_back("a "); }), Contains("merge 1"));
  CHECK_THAT(error_of([](D d) { d.merges.push_back(""); }), Contains("merge 1"));
  CHECK_THAT(error_of([](D d) { d.merges.push_back("a \xe6\x97\xa5"); }), Contains("alphabet"));
  CHECK_THAT(error_of([](D d) { d.added = {{.id = 300, .content = "x"}}; }),
             Contains("added token is id 300"));
  CHECK_THAT(error_of([](D d) { d.splits.reset(), d.pre_name = "nonsense"; }),
             Contains("nonsense") && Contains("pixtral"));
  CHECK_THAT(error_of([](D d) { d.merges.push_back("x y"), d.merges_in_vocab = true; }),
             Contains("merge 1 'x y'") && Contains("vocabulary"));
  CHECK(error_of([](D) {}) == "no error");
}

TEST_CASE("names of byte tokens") {
  CHECK(byte_of_token("<0x41>") == 0x41);
  CHECK(byte_of_token("<0xfF>") == 0xff);
  for (const char* text : {"<0x4>", "<0x4g>", "<0x411>", "0x41", "", "<1x41>", "<0x41]"}) {
    CHECK_FALSE(byte_of_token(text).has_value());
  }
}
