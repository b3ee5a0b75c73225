// What tokenize, template and parse do without a model: vocabularies, template files, raw answers.
#include "catch.hpp"
#include "cli/program.hpp"
#include "support/gguf_builder.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using Json = nlohmann::json;

void fails(const std::vector<std::string>& args, int code, const std::string& words) {
  const auto out = nemo_test::nemo(args);
  CAPTURE(out.err);
  CHECK(out.code == code);
  CHECK(out.out.empty());
  CHECK(out.err.starts_with("nemo: "));
  CHECK(std::count(out.err.begin(), out.err.end(), '\n') == 1);
  CHECK_THAT(out.err, Contains(words));
}

}  // namespace

TEST_CASE("tokenize reads the vocabulary of any GGUF, whatever its architecture") {
  nemo::test::GgufBuilder gguf;
  gguf.string("general.architecture", "gpt2").string("tokenizer.ggml.model", "gpt2");
  gguf.string("tokenizer.ggml.pre", "gpt-2").strings("tokenizer.ggml.tokens", {"a", "b", "ab"});
  gguf.i32s("tokenizer.ggml.token_type", {1, 1, 1}).strings("tokenizer.ggml.merges", {"a b"});
  const nemo_test::TemporaryFolder folder;
  nemo::test::write_bytes(folder.file("vocab.gguf"), gguf.build());
  const auto out = nemo_test::nemo({"tokenize", "-m", folder.file("vocab.gguf"), "--text", "abba"});
  CHECK(out.err.empty());
  CHECK(out.out == "2 1 0\n");
}

TEST_CASE("template renders a request with a file's template, asking for an answer") {
  const nemo_test::TemporaryFolder folder;
  const auto file = folder.write("t.jinja",
                                 "{{ bos_token }}{% for m in messages %}[{{ m.role }}]"
                                 "{{ m.content }}{% endfor %}{{ tools|tojson }}{{ extra }}"
                                 "{% if add_generation_prompt %}>{% endif %}");
  const auto request = folder.write(
      "r.json",
      R"({"messages": [{"role": "user", "content": "hi\n"}], "tools": [], "extra": 2.0})");
  const auto out = nemo_test::nemo({"template", "--template", file, "--request", request});
  CHECK(out.err.empty());
  CHECK(out.out == "<s>[user]hi\n[]2.0>");
  const auto quiet = folder.write("q.json", R"({"messages": [], "add_generation_prompt": false})");
  CHECK(nemo_test::nemo({"template", "--template", file, "--request", quiet}).code == 1);  // tools
  const auto defined = folder.write(
      "d.json", R"({"messages": [], "tools": null, "extra": "", "add_generation_prompt": false})");
  CHECK(nemo_test::nemo({"template", "--template", file, "--request", defined}).out == "<s>null");
}

TEST_CASE("template uses the model's own template, thinking unless told otherwise") {
  const nemo_test::TemporaryFolder folder;
  const std::string messages = R"("messages": [{"role": "user", "content": "<|im_end|>"}])";
  const auto think = folder.write("think.json", "{" + messages + "}");
  const auto no_think = folder.write("no.json", "{" + messages + R"(, "enable_thinking": false})");
  const auto out =
      nemo_test::nemo({"template", "-m", nemo_test::tiny_model(), "--request", think}).out;
  CHECK_THAT(out, Contains("<|im_start|>user\n<|im_end|><|im_end|>\n"));
  CHECK_THAT(out, Catch::Matchers::EndsWith("<|im_start|>assistant\n<think>\n"));
  CHECK_THAT(
      nemo_test::nemo({"template", "-m", nemo_test::tiny_model(), "--request", no_think}).out,
      Catch::Matchers::EndsWith("<|im_start|>assistant\n<think></think>"));
}

TEST_CASE("parse prints the three parts of a raw answer, however it is fed") {
  const nemo_test::TemporaryFolder folder;
  const auto text = folder.write(
      "answer.txt",
      "why\n</think>\n\nso\n<tool_call>\n<function=add>\n<parameter=a>\n7\n</parameter>\n"
      "<parameter=b>\n7\n</parameter>\n</function>\n</tool_call>\n");
  const auto tools = folder.write(
      "tools.json", R"([{"type": "function", "function": {"name": "add", "parameters": {
      "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}}}])");
  for (const char* chunk : {"1", "2", "3", "1000"}) {
    const auto out = nemo_test::nemo({"parse", "--mode", "think", "--tools", tools, "--finish",
                                      "stop", "--chunk", chunk, "--text-file", text, "--json"});
    CHECK(out.err.empty());
    const Json parsed = Json::parse(out.out);
    CHECK(parsed["reasoning_content"] == "why");
    CHECK(parsed["content"] == "so");
    REQUIRE(parsed["tool_calls"].size() == 1);
    CHECK(parsed["tool_calls"][0]["name"] == "add");
    CHECK(parsed["tool_calls"][0]["arguments"] == Json{{"a", 7}, {"b", "7"}});
  }
}

TEST_CASE("template and parse say in one line what is wrong") {
  const nemo_test::TemporaryFolder folder;
  const auto no_json = folder.write("no.json", "{");
  const auto list = folder.write("list.json", "[]");
  const auto good = folder.write("good.json", R"({"messages": []})");
  const auto broken = folder.write("broken.jinja", "a\n{% if");
  const auto endless = folder.write(
      "endless.jinja",
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}");
  fails({"template", "--request", no_json}, 1, "no.json: is not JSON");
  fails({"template", "--request", list}, 1, "messages");
  fails({"template", "--template", broken, "--request", good}, 1, "line 2");
  fails({"template", "--template", endless, "--request", good}, 1, "line 1");
  fails({"template", "--template", folder.file("none"), "--request", good}, 1, "none");
  fails({"parse", "--text-file", folder.file("none")}, 1, "none");
  fails({"parse", "--text-file", good, "--tools", no_json}, 1, "no.json: is not JSON");
  fails({"parse", "--text-file", good, "--mode", "maybe"}, 2, "--mode");
  fails({"parse", "--text-file", good, "--finish", "never"}, 2, "--finish");
  fails({"parse", "--text-file", good, "--chunk", "-1"}, 2, "--chunk");
}
