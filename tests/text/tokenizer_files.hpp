// Where the tokenizer tests find their data, and small helpers to read it.
#pragma once

#include <nemo/text/byte_alphabet.hpp>
#include <nemo/text/tokenizer.hpp>
#include <nemo/text/tokenizer_json.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace tokenizer_files {

using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

inline std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(NEMO_SOURCE_DIR "/tests/data") / name;
}

/// The full golden data beside a developer's checkout; absent on a fresh clone.
inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(NEMO_SOURCE_DIR "/../shared/golden") / name;
}

inline std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline Json read_json(const std::filesystem::path& path) { return Json::parse(read(path)); }

/// The two golden tokenizer.json files: suffix "" (Tekken) and "_llama3".
inline nemo::text::TokenizerData golden_data(const std::string& suffix) {
  return nemo::text::load_tokenizer_json(read(data("tokenizer/tokenizer" + suffix + ".json")));
}

inline std::string unhex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

/// A vocabulary of the 256 bytes (ids 0..255, in byte order) and, from 256 on, the results of the
/// given merges ("left right" as raw text), every piece of letters or of other characters by
/// itself.
inline nemo::text::TokenizerData byte_vocabulary(const std::vector<std::string>& merges) {
  using namespace nemo::text;
  TokenizerData data;
  for (int byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(to_alphabet(std::string(1, static_cast<char>(byte))));
  }
  for (const std::string& merge : merges) {
    const std::size_t space = merge.find(' ', 1);
    const std::string left = to_alphabet(merge.substr(0, space));
    const std::string right = to_alphabet(merge.substr(space + 1));
    data.merges.push_back(left + " " + right);
    const std::string result = left + right;
    if (std::find(data.tokens.begin(), data.tokens.end(), result) == data.tokens.end()) {
      data.tokens.push_back(result);
    }
  }
  data.types.assign(data.tokens.size(), TokenType::normal);
  data.splits = {{.pattern = "\\p{L}+"}};
  return data;
}

/// Adds a token of another type and returns its id.
inline std::int32_t add_token(nemo::text::TokenizerData& data, const std::string& text,
                              nemo::text::TokenType type) {
  data.tokens.push_back(text);
  data.types.push_back(type);
  return static_cast<std::int32_t>(data.tokens.size() - 1);
}

}  // namespace tokenizer_files
