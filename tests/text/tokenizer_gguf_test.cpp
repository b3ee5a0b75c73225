// Tokenizers of GGUF files against the ids llama.cpp gives.
#include "catch.hpp"
#include "text/tokenizer_files.hpp"

#include <nemo/checkpoint/gguf_checkpoint.hpp>

#include <sstream>
#include <string>
#include <vector>

using namespace nemo::text;
using namespace tokenizer_files;

namespace {

Tokenizer open(const std::filesystem::path& path) {
  return Tokenizer(nemo::tokenizer_from_gguf(nemo::Gguf::open(path.string())));
}

void check_vectors(const Tokenizer& tokenizer, const Json& cases) {
  for (const Json& c : cases) {
    const auto text = c["text"].get<std::string>();
    INFO(text);
    const auto ids = c["ids_special"].get<Ids>();
    CHECK(tokenizer.encode(text) == c["ids_plain"].get<Ids>());
    CHECK(tokenizer.encode(text, {.parse_special = true}) == ids);
    CHECK(tokenizer.encode(text, {.parse_special = true, .add_bos = true}) ==
          c["ids_special_with_bos"].get<Ids>());
    std::string bytes;
    for (const std::int32_t id : ids) bytes += tokenizer.token_bytes(id);
    CHECK(bytes == unhex(c["bytes_hex"]));
    CHECK(tokenizer.decode(ids) == text);
  }
}

/// All files share the tokenizer of their model name: moe256.Q2_K.gguf that of moe256.Q4_K_M.gguf.
std::filesystem::path same_model(const std::string& file) {
  const std::string stem = file.substr(0, file.find('.') + 1);
  for (const auto& entry : std::filesystem::directory_iterator(data("gguf"))) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(stem) && entry.path().extension() == ".gguf") return entry.path();
  }
  throw std::runtime_error("no GGUF of " + file);
}

std::vector<std::string> split_at(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) return parts;
    begin = end + separator.size();
  }
}

}  // namespace

TEST_CASE("GGUF tokenizer vectors: plain, special, with BOS, bytes") {
  for (const Json& entry : read_json(data("gguf/tokenizer_vectors.json"))) {
    const auto file = entry["model"].get<std::string>();
    INFO(file);
    check_vectors(open(same_model(file)), entry["cases"]);
    const std::filesystem::path original = golden("gguf/models/" + file);
    if (std::filesystem::exists(original)) check_vectors(open(original), entry["cases"]);
  }
}

TEST_CASE("the vocabulary files of gpt-2, deepseek-coder and refact") {
  for (const std::string name : {"gpt-2", "deepseek-coder", "refact"}) {
    const std::filesystem::path file = golden("vocab/ggml-vocab-" + name + ".gguf");
    if (!std::filesystem::exists(file)) continue;  // too large to keep in the repository
    const Tokenizer tokenizer = open(file);
    const auto texts = split_at(read(file.string() + ".inp"), "\n__ggml_vocab_test__\n");
    std::istringstream lines(read(file.string() + ".out"));
    CHECK(texts.size() == 47);
    for (const std::string& text : texts) {
      std::string line;
      std::getline(lines, line);
      std::istringstream numbers(line);
      Ids ids;
      for (std::int32_t id = 0; numbers >> id;) ids.push_back(id);
      INFO(name << ": " << text);
      CHECK(tokenizer.encode(text) == ids);
      CHECK(tokenizer.decode(ids) == text);
    }
  }
}

TEST_CASE("end tokens of a GGUF that names only one of them") {
  const Tokenizer tokenizer = open(same_model("moe256.Q4_K_M.gguf"));
  CHECK(tokenizer.end_tokens() == Ids{*tokenizer.find("</s>"), *tokenizer.find("<|im_end|>")});
}
