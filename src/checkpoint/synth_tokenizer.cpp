// The vocabulary of synthetic checkpoints: any text can be encoded, common words take few tokens.
#include "synth_tokenizer.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/byte_alphabet.hpp>

#include <algorithm>
#include <string_view>

namespace nemo {
namespace {

using text::TokenType;

constexpr std::string_view kNamed[] = {
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<SPECIAL_5>",
    "<SPECIAL_6>",
    "<SPECIAL_7>",
    "<SPECIAL_8>",
    "<SPECIAL_9>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
};
constexpr std::int64_t kNamedCount = std::size(kNamed);
// Letters by frequency, so that a short vocabulary holds the useful pairs.
constexpr std::string_view kLetters = "etaoinshrdlcumwfgypbvkjxqz";
constexpr std::int64_t kFirstByteOfRealVocabulary = 1000;

class Builder {
 public:
  explicit Builder(std::int64_t vocab) : vocab_(static_cast<std::size_t>(vocab)) {}

  [[nodiscard]] text::TokenizerData build(std::int64_t specials) {
    for (std::int64_t id = 0; id < specials; ++id) {
      const bool named = id < kNamedCount;
      token(named ? std::string(kNamed[id]) : "<SPECIAL_" + std::to_string(id) + ">",
            named && id >= 12 ? TokenType::user_defined : TokenType::control);
    }
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      token(text::to_alphabet({&c, 1}), TokenType::normal);
    }
    const std::string space = text::to_alphabet(" ");
    std::vector<std::string> pairs;
    for (const char a : kLetters) merge(space, std::string(1, a));
    for (const char a : kLetters) {
      for (const char b : kLetters) {
        pairs.push_back({a, b});
        merge(std::string(1, a), std::string(1, b));
      }
    }
    std::vector<std::string> triples;
    for (const std::string& pair : pairs) {
      for (const char c : kLetters) {
        triples.push_back(pair + c);
        merge(pair, std::string(1, c));
      }
    }
    for (const std::string& pair : pairs) merge(space, pair);
    for (const std::string& triple : triples) merge(space, triple);
    for (const std::string& a : pairs) {
      for (const std::string& b : pairs) merge(a, b);
    }
    while (data_.tokens.size() < vocab_) {
      token("[PAD" + std::to_string(data_.tokens.size()) + "]", TokenType::unused);
    }
    return std::move(data_);
  }

 private:
  void token(std::string content, TokenType type) {
    data_.tokens.push_back(std::move(content));
    data_.types.push_back(type);
  }
  void merge(const std::string& left, const std::string& right) {
    if (data_.tokens.size() >= vocab_) return;
    data_.merges.push_back(left + " " + right);
    token(left + right, TokenType::normal);
  }

  std::size_t vocab_;
  text::TokenizerData data_;
};

}  // namespace

text::TokenizerData synthetic_tokenizer(std::int64_t vocab) {
  if (vocab < kNamedCount + 256) {
    throw Error(ErrorCode::usage, "a vocabulary of " + std::to_string(vocab) +
                                      " tokens is too small for a synthetic model; at least " +
                                      std::to_string(kNamedCount + 256) + " are needed");
  }
  // In the real vocabulary the bytes follow 1000 special tokens.
  const bool roomy = vocab >= 4 * kFirstByteOfRealVocabulary;
  text::TokenizerData data = Builder(vocab).build(roomy ? kFirstByteOfRealVocabulary : kNamedCount);
  data.pre_name = "pixtral";
  data.unk = 0;
  data.bos = 1;
  data.eos = 11;
  data.pad = 0;
  data.add_bos = false;
  return data;
}

}  // namespace nemo
