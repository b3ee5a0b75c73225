// A tokenizer for tests: Nemotron's special tokens at their real ids, then the 256 bytes from 100.
#pragma once

#include <nemo/text/byte_alphabet.hpp>
#include <nemo/text/tokenizer.hpp>

#include <cstdint>
#include <string>

namespace nemo_test {

inline constexpr std::int32_t kFirstByte = 100;
inline constexpr std::int32_t kEndOfText = 2;
inline constexpr std::int32_t kTurnEnd = 11;
inline constexpr std::int32_t kThink = 12;
inline constexpr std::int32_t kThinkEnd = 13;
inline constexpr std::int32_t kByteVocab = kFirstByte + 256;

inline std::int32_t byte_id(char c) { return kFirstByte + static_cast<unsigned char>(c); }

inline nemo::text::Tokenizer byte_tokenizer() {
  using nemo::text::TokenType;
  nemo::text::TokenizerData data;
  const auto add = [&](std::string text, TokenType type) {
    data.tokens.push_back(std::move(text));
    data.types.push_back(type);
  };
  add("<unk>", TokenType::unknown);
  for (const char* text : {"<s>", "</s>", "[INST]", "[/INST]", "[A]", "[B]", "[C]", "[D]", "[E]",
                           "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>",
                           "</tool_call>", "<tool_response>", "</tool_response>"}) {
    add(text, TokenType::control);
  }
  while (data.tokens.size() < static_cast<std::size_t>(kFirstByte)) {
    add("<SPECIAL_" + std::to_string(data.tokens.size()) + ">", TokenType::control);
  }
  for (int byte = 0; byte < 256; ++byte) {
    add(nemo::text::to_alphabet(std::string(1, static_cast<char>(byte))), TokenType::normal);
  }
  data.pre_name = "pixtral";
  data.add_bos = false;
  data.bos = 1;
  data.eos = kTurnEnd;
  return nemo::text::Tokenizer(std::move(data));
}

}  // namespace nemo_test
