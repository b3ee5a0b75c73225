// nemo tokenize, end to end.
#include "catch.hpp"
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

using nemo_test::model;
using nemo_test::nemo;
using Json = nlohmann::json;

std::string joined(const Json& ids) {
  std::string text;
  for (const auto& id : ids) text += (text.empty() ? "" : ",") + std::to_string(id.get<int>());
  return text;
}

// Some cases of each golden model: starting a program for every one would take minutes.
template <class Check>
void for_cases(const Check& check) {
  std::ifstream file(NEMO_SOURCE_DIR "/tests/data/gguf/tokenizer_vectors.json");
  const Json models = Json::parse(file);
  int checked = 0;
  for (const auto& entry : models) {
    const auto path = model(entry["model"].get<std::string>());
    if (!std::filesystem::exists(path)) continue;
    int index = 0;
    for (const auto& item : entry["cases"]) {
      if (index++ % 3 != 2 || item["text"].get<std::string>().find('\0') != std::string::npos) {
        continue;
      }
      check(path, item);
      ++checked;
    }
  }
  CHECK(checked >= 5);
}

}  // namespace

TEST_CASE("tokenize prints the ids of text, with special tokens parsed unless told otherwise") {
  for_cases([](const std::string& path, const Json& item) {
    const auto text = item["text"].get<std::string>();
    CAPTURE(path, text);
    const auto parsed = nemo({"tokenize", "-m", path, "--text=" + text, "--json"});
    REQUIRE(parsed.code == 0);
    CHECK(Json::parse(parsed.out) == Json{{"ids", item["ids_special"]}});
    const auto plain =
        nemo({"tokenize", "-m", path, "--file", "-", "--no-special", "--json"}, text);
    CHECK(Json::parse(plain.out) == Json{{"ids", item["ids_plain"]}});
    const auto bos = nemo({"tokenize", "-m", path, "--bos", "--json"}, text);
    CHECK(Json::parse(bos.out) == Json{{"ids", item["ids_special_with_bos"]}});
  });
}

TEST_CASE("tokenize --decode prints the text of ids") {
  for_cases([](const std::string& path, const Json& item) {
    if (item["ids_special"].empty()) return;
    const auto out =
        nemo({"tokenize", "-m", path, "--decode", joined(item["ids_special"]), "--json"});
    REQUIRE(out.code == 0);
    std::string hex;
    const auto text = Json::parse(out.out)["text"].get<std::string>();
    for (const char c : text) {
      constexpr const char* kDigits = "0123456789abcdef";
      hex += kDigits[static_cast<unsigned char>(c) >> 4];
      hex += kDigits[static_cast<unsigned char>(c) & 15];
    }
    CHECK(hex == item["detokenized_hex"].get<std::string>());
  });
  const auto out = nemo({"tokenize", "-m", model("moe192.Q4_K_M.gguf"), "--decode", "1 2"});
  CHECK(out.out == "<s></s>\n");
}

TEST_CASE("tokenize without --json prints ids in a line, without a model file of weights too") {
  CHECK(nemo({"tokenize", "-m", model("moe192.Q4_K_M.gguf"), "--text", "<|im_end|>"}).out.size() >=
        2);
  const nemo_test::TemporaryFolder folder;
  folder.write("tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
      "merges": ["a b"]}, "added_tokens": [{"id": 3, "content": "<x>", "special": true}],
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
      "decoder": {"type": "ByteLevel"}})");
  for (const std::string& path : {folder.file("tokenizer.json"), folder.file("")}) {
    const auto out = nemo({"tokenize", "-m", path, "--text", "abba<x>"});
    CHECK(out.err.empty());
    CHECK(out.out == "2 1 0 3\n");
  }
}

TEST_CASE("tokenize says in one line what is wrong") {
  const auto fails = [](const std::vector<std::string>& args, int code, const std::string& words,
                        const std::string& input = {}) {
    const auto out = nemo(args, input);
    CAPTURE(out.err);
    CHECK(out.code == code);
    CHECK(out.out.empty());
    CHECK(out.err.starts_with("nemo: "));
    CHECK(std::count(out.err.begin(), out.err.end(), '\n') == 1);
    CHECK_THAT(out.err, Contains(words));
  };
  const auto path = model("moe192.Q4_K_M.gguf");
  fails({"tokenize", "-m", path, "--text", "\xff"}, 1, "UTF-8");
  fails({"tokenize", "-m", path, "--decode", "1,x"}, 1, "'x' is not a token id");
  fails({"tokenize", "-m", path, "--decode", "99999999"}, 1, "99999999");
  fails({"tokenize", "-m", path, "--decode", "-1"}, 1, "-1");
  fails({"tokenize", "-m", path, "--file", "/no/such/file"}, 1, "/no/such/file");
  fails({"tokenize", "-m", path, "--text", "a", "--file", "b"}, 2, "--text");
  fails({"tokenize", "-m", "/no/such/model", "--text", "a"}, 1, "/no/such/model");
  fails({"tokenize", "--bogus"}, 2, "--bogus");
  fails({"tokenize", "--two\nlines"}, 2, "--two?lines");
  fails({"tokenise"}, 2, "'tokenise'");
  fails({"--bogus"}, 2, "'--bogus'");
  fails({}, 2, "subcommand");
}
