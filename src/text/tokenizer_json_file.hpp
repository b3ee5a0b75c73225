// The raw content of a tokenizer.json: the two long lists of the model go straight into vectors
// (131,072 tokens and 269,443 merges would be hundreds of thousands of JSON nodes), the rest stays
// JSON.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nemo::text::tokenizer_file {

struct TokenizerFile {
  nlohmann::json rest;  // without model.vocab and model.merges
  bool has_vocab = false;
  bool has_merges = false;
  std::vector<std::pair<std::string, std::int32_t>> vocab;  // in file order
  std::vector<std::string> merges;                          // "left right"
};

/// Throws Error{bad_file} on invalid JSON or an entry of the two lists that is malformed.
[[nodiscard]] TokenizerFile parse_tokenizer_file(std::string_view text);

/// Throws Error{bad_file} naming `file` on invalid JSON.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, const char* file);

/// Token ids beyond this are refused: no vocabulary comes near it.
inline constexpr std::uint64_t kMaxTokenId = 1u << 30;

/// A value for a one-line message, cut to a readable length, in quotes.
[[nodiscard]] std::string shown(std::string_view text);

}  // namespace nemo::text::tokenizer_file
