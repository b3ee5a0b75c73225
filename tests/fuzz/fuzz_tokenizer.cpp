// Fuzzes the tokenizer: the first byte of the input chooses what the rest is.
#include "fuzz/fuzz_targets.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/detokenizer.hpp>
#include <nemo/text/pretokenizer.hpp>
#include <nemo/text/tokenizer.hpp>
#include <nemo/text/tokenizer_json.hpp>
#include <nemo/text/utf8.hpp>

#include <array>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

namespace {

using namespace nemo::text;
using Ids = std::vector<std::int32_t>;

Tokenizer load(const char* name) {
  std::ifstream file(std::string(NEMO_SOURCE_DIR "/tests/data/tokenizer/") + name,
                     std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return Tokenizer(load_tokenizer_json(text));
}

const std::array<Tokenizer, 2>& tokenizers() {
  static const std::array<Tokenizer, 2> loaded = {load("tokenizer.json"),
                                                  load("tokenizer_llama3.json")};
  return loaded;
}

std::string stream_decode(const Tokenizer& tokenizer, const Ids& ids, SpecialText special) {
  StreamDecoder decoder(tokenizer, special);
  std::string text;
  for (const std::int32_t id : ids) {
    const std::string piece = decoder.push(id);
    fuzz_require(find_invalid_utf8(piece) == std::string::npos, "every delta is valid UTF-8");
    text += piece;
  }
  return text + decoder.flush();
}

/// Text: encoding gives it back, and without special tokens no control token.
void fuzz_text(const Tokenizer& tokenizer, std::string_view text) {
  const bool valid = find_invalid_utf8(text) == std::string_view::npos;
  try {
    const Ids plain = tokenizer.encode(text);
    fuzz_require(valid, "invalid UTF-8 is refused");
    for (const std::int32_t id : plain) {
      fuzz_require(!tokenizer.is_control(id), "plain text gives no control token");
    }
    fuzz_require(tokenizer.decode(plain) == text, "plain text comes back");
    const Ids parsed = tokenizer.encode(text, {.parse_special = true});
    fuzz_require(tokenizer.decode(parsed) == text, "text with special tokens comes back");
    fuzz_require(stream_decode(tokenizer, parsed, SpecialText::keep) == text, "so does a stream");
  } catch (const nemo::Error&) {
    fuzz_require(!valid, "valid UTF-8 is accepted");
  }
}

/// Segments: lengths and trust in the first bytes, then the text.
void fuzz_segments(const Tokenizer& tokenizer, std::string_view input) {
  constexpr std::size_t kHead = 8;
  if (input.size() < kHead) return;
  const std::string_view text = input.substr(kHead);
  std::vector<Segment> segments;
  std::vector<Segment> untrusted;
  std::size_t at = 0;
  for (std::size_t i = 0; i < kHead && at < text.size(); ++i) {
    const auto code = static_cast<std::uint8_t>(input[i]);
    const std::string_view part = text.substr(at, i + 1 == kHead ? text.size() : code / 2);
    segments.push_back({part, code % 2 == 1});
    untrusted.push_back({part, false});
    at += part.size();
  }
  const std::string_view whole = text.substr(0, at);
  if (find_invalid_utf8(whole) != std::string_view::npos) return;
  fuzz_require(tokenizer.decode(tokenizer.encode_segments(segments)) == whole,
               "segments come back");
  fuzz_require(tokenizer.encode_segments(untrusted) == tokenizer.encode(whole),
               "borders between untrusted segments do not matter");
}

/// Ids: any sequence decodes to valid UTF-8, at once as in a stream.
void fuzz_ids(const Tokenizer& tokenizer, std::string_view input) {
  Ids ids;
  for (std::size_t i = 0; i + 1 < input.size(); i += 2) {
    const auto value =
        static_cast<std::uint8_t>(input[i]) * 256 + static_cast<std::uint8_t>(input[i + 1]);
    ids.push_back(value % tokenizer.vocab_size());
  }
  for (const SpecialText special : {SpecialText::keep, SpecialText::skip, SpecialText::tags_only}) {
    const std::string text = tokenizer.decode(ids, special);
    fuzz_require(find_invalid_utf8(text) == std::string::npos, "decoded text is valid UTF-8");
    fuzz_require(stream_decode(tokenizer, ids, special) == text, "a stream decodes to the same");
  }
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  const std::string valid = replace_invalid_utf8(text);
  for (const bool special : {false, true}) {
    const Ids ids =
        tokenizer.encode(valid, {.parse_special = special, .add_bos = special, .add_eos = special});
    fuzz_require(stream_decode(tokenizer, ids, SpecialText::keep) == tokenizer.decode(ids),
                 "a stream decodes to the same");
    for (const std::int32_t id : special ? Ids{} : ids) {
      fuzz_require(tokenizer.type(id) != TokenType::control, "plain text gives no control token");
    }
  }
}

/// A tokenizer.json, used if it is one.
void fuzz_json(std::string_view input) {
  try {
    use(Tokenizer(load_tokenizer_json(input)),
        "The quick <s> fox\n\n 123 \xc3\xa9" + std::string(input.substr(0, 64)));
  } catch (const nemo::Error&) {
  }
}

/// Lines: pre-tokenizer name, then "t" type token or "m" merge, then anything else is text.
void fuzz_gguf_data(std::string_view input) {
  TokenizerData data;
  std::string text;
  bool first = true;
  while (!input.empty()) {
    const std::size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (std::exchange(first, false)) {
      data.pre_name = line;
    } else if (line.size() >= 2 && line[0] == 't') {
      data.types.push_back(static_cast<TokenType>(1 + static_cast<std::uint8_t>(line[1]) % 6));
      data.tokens.emplace_back(line.substr(2));
    } else if (line.starts_with("m")) {
      data.merges.emplace_back(line.substr(1));
    } else {
      text.append(line).push_back('\n');
    }
  }
  data.byte_fallback = true;
  try {
    use(Tokenizer(data), text);
  } catch (const nemo::Error&) {
  }
}

/// An expression of at most one line, then text to split with it.
void fuzz_expression(std::string_view input) {
  // Short: an expression may take quadratic time without being wrong.
  constexpr std::size_t kMaxExpression = 128;
  constexpr std::size_t kMaxText = 256;
  const std::size_t end = input.find('\n');
  if (end == std::string_view::npos || end > kMaxExpression) return;
  const std::string text = replace_invalid_utf8(input.substr(end + 1, kMaxText));
  for (int behavior = 0; behavior < 5; ++behavior) {
    const auto kind = static_cast<SplitBehavior>(behavior);
    try {
      const PreTokenizer pretokenizer(
          {{.pattern = std::string(input.substr(0, end)), .behavior = kind}});
      PieceSplitter splitter(pretokenizer);
      std::string joined;
      splitter.split(text, [&](std::string_view piece) {
        fuzz_require(!piece.empty(), "no piece is empty");
        joined += piece;
      });
      fuzz_require(kind == SplitBehavior::removed || joined == text, "pieces make up the text");
    } catch (const nemo::Error&) {
    }
  }
}

}  // namespace

int nemo_fuzz_tokenizer(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
      for (const Tokenizer& tokenizer : tokenizers()) fuzz_text(tokenizer, input);
      break;
    case 1:
      for (const Tokenizer& tokenizer : tokenizers()) fuzz_segments(tokenizer, input);
      break;
    case 2:
      for (const Tokenizer& tokenizer : tokenizers()) fuzz_ids(tokenizer, input);
      break;
    case 3:
      fuzz_json(input);
      break;
    case 4:
      fuzz_gguf_data(input);
      break;
    default:
      fuzz_expression(input);
      break;
  }
  return 0;
}

#ifdef NEMO_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return nemo_fuzz_tokenizer(data, size);
}
#endif
