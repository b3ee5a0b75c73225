// nemo run, end to end on the golden and embedded models.
#include "catch.hpp"
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using nemo_test::model;
using nemo_test::nemo;
using nemo_test::tiny_model;
using Json = nlohmann::json;

const std::string kGolden = model("moe192.Q4_K_M.gguf");

void fails(std::vector<std::string> args, int code, const std::string& words,
           const std::string& input = {}) {
  args.insert(args.begin(), "run");
  const auto out = nemo(args, input);
  CAPTURE(args, out.err);
  CHECK(out.code == code);
  CHECK(out.out.empty());
  CHECK(out.err.starts_with("nemo: "));
  CHECK(std::count(out.err.begin(), out.err.end(), '\n') == 1);
  CHECK_THAT(out.err, Contains(words));
}

}  // namespace

TEST_CASE("run answers a prompt from the flag, a file or standard input alike") {
  const nemo_test::TemporaryFolder folder;
  const auto file = folder.write("prompt", "Solve: 17 * 23\n");
  const auto answer = nemo({"run", "-m", tiny_model(), "--temp", "0", "-p", "Solve: 17 * 23"});
  CHECK(answer.code == 0);
  CHECK(answer.err.empty());
  CHECK_THAT(answer.out, Contains("391"));
  CHECK(answer.out.ends_with("\n"));
  CHECK(nemo({"run", "-m", tiny_model(), "--temp", "0", "-f", file}).out == answer.out);
  CHECK(nemo({"run", "-m", tiny_model(), "--temp", "0"}, "Solve: 17 * 23\n").out == answer.out);
}

TEST_CASE("run --json reports reasoning, content, why it ended and how much") {
  const auto out = nemo({"run", "-m", tiny_model(), "--temp", "0", "--json", "-p", "Solve: 2 + 2"});
  REQUIRE(out.code == 0);
  const auto json = Json::parse(out.out);
  CHECK(!json["reasoning_content"].get<std::string>().empty());
  CHECK_THAT(json["content"].get<std::string>(), Contains("4"));
  CHECK(json["tool_calls"] == Json::array());
  CHECK(json["finish_reason"] == "stop");
  CHECK(json["usage"]["prompt_tokens"].get<int>() > 5);
  const auto direct = Json::parse(
      nemo({"run", "-m", tiny_model(), "--temp", "0", "--json", "-p", "Solve: 2 + 2", "--no-think"})
          .out);
  CHECK(direct["reasoning_content"] == "");
  const auto off = nemo({"run", "-m", tiny_model(), "--temp", "0", "--json", "-p", "Solve: 2 + 2",
                         "--enable-thinking=false"});
  CHECK(Json::parse(off.out)["content"] == direct["content"]);
}

TEST_CASE("run hides reasoning unless asked and says when the limit cut it") {
  const std::vector<std::string> base = {"run", "-m", tiny_model(),    "--temp",
                                         "0",   "-p", "Solve: 17 * 23"};
  auto shown = base;
  shown.emplace_back("--show-reasoning");
  const auto hidden = nemo(base);
  const auto both = nemo(shown);
  CHECK(both.out.size() > hidden.out.size());
  CHECK(both.out.ends_with("\n\n" + hidden.out));
  auto cut = base;
  cut.insert(cut.end(), {"-n", "3"});
  const auto out = nemo(cut);
  CHECK(out.code == 0);
  CHECK(out.out.empty());
  CHECK_THAT(out.err, Contains("still thinking after 3 tokens"));
}

TEST_CASE("run --raw continues text, repeatably for a seed and for any number of threads") {
  const std::vector<std::string> base = {"run",       "-m", kGolden, "--raw", "-p",
                                         "Once upon", "-n", "12",    "--json"};
  const auto with = [&](const std::vector<std::string>& more) {
    auto args = base;
    args.insert(args.end(), more.begin(), more.end());
    const auto out = nemo(args);
    CAPTURE(out.err);
    REQUIRE(out.code == 0);
    return Json::parse(out.out)["text"].get<std::string>();
  };
  const auto seven = with({"--seed", "7"});
  CHECK(with({"--seed", "7", "-t", "1"}) == seven);
  CHECK(with({"--seed", "8"}) != seven);
  CHECK(with({"--temp", "0"}) == with({"--top-k", "1", "--seed", "3"}));
  CHECK(with({"--temp", "0"}) == with({"--top-p", "0"}));
  const auto limited =
      Json::parse(nemo({"run", "-m", kGolden, "--raw", "-p", "x", "-n", "5", "--json"}).out);
  CHECK(limited["usage"]["completion_tokens"].get<int>() <= 5);
}

TEST_CASE("run fills the context and no more") {
  const auto out = nemo(
      {"run", "-m", kGolden, "--raw", "-p", "x", "-c", "20", "--json", "--min-tokens", "1000"});
  const auto json = Json::parse(out.out);
  CHECK(json["finish_reason"] == "length");
  CHECK(json["usage"]["total_tokens"] == 21);
}

TEST_CASE("run takes logit biases and stop strings") {
  const auto ids = Json::parse(nemo({"tokenize", "-m", kGolden, "--text", "Q", "--json"}).out);
  REQUIRE(ids["ids"].size() == 1);
  const auto bias = std::to_string(ids["ids"][0].get<int>()) + "+1000";
  const std::vector<std::string> base = {"run", "-m", kGolden, "--raw",        "-p",
                                         "x",   "-n", "6",     "--logit-bias", bias};
  CHECK(nemo(base).out == "QQQQQQ\n");
  auto stopped = base;
  stopped.insert(stopped.end(), {"--stop", "never", "--stop", "QQQ", "--json"});
  const auto json = Json::parse(nemo(stopped).out);
  CHECK(json["text"] == "");
  CHECK(json["finish_reason"] == "stop_string");
}

TEST_CASE("run --verbose prints timings on standard error only") {
  const auto out = nemo({"run", "-m", kGolden, "--raw", "-p", "x", "-n", "2", "-v"});
  CHECK_THAT(out.err, Contains("tokens/s") && Contains("finish: length"));
  CHECK_THAT(out.out, !Contains("tokens/s"));
}

TEST_CASE("run refuses flags outside their range before it loads anything") {
  const std::vector<std::vector<std::string>> wrong = {
      {"--temp", "-1"},         {"--temp", "nan"},         {"--top-p", "1.5"},
      {"--top-k", "-1"},        {"--min-p", "2"},          {"--repeat-penalty", "0"},
      {"--rep-penalty", "inf"}, {"--repeat-last-n", "-2"}, {"--presence-penalty", "1e9"},
      {"--min-tokens", "-1"},   {"--seed", "-2"},          {"--max-tokens", "-2"},
      {"--stop", ""},           {"--logit-bias", "5"},     {"--logit-bias", "x+1"},
      {"--logit-bias", "5+"},   {"--logit-bias", "5+-1"},  {"--frequency-penalty", "nan"}};
  for (auto flags : wrong) {
    flags.insert(flags.begin(), {"-m", "/no/such/model", "-p", "x"});
    fails(flags, 2, "--");
  }
  fails({"-m", kGolden, "-p", "x", "--temp", "warm"}, 2, "--temp");
  fails({"-m", kGolden, "-p", "x", "--no-think", "--enable-thinking=true"}, 2, "--no-think");
  fails({"-m", kGolden, "-p", "x", "--unknown"}, 2, "--unknown");
  fails({"-m", kGolden, "-p", "x", "--kv", "none"}, 2, "--kv");
  fails({"-m", kGolden, "-p", "x", "--kernels", "none"}, 2, "none");
  fails({"-m", kGolden, "-p", "x", "--raw", "--logit-bias", "99999999+1"}, 2, "99999999");
}

TEST_CASE("run says in one line what is wrong with prompt and files") {
  fails({"-m", "/no/such/model", "-p", "x"}, 1, "/no/such/model");
  fails({"-m", kGolden, "-p", "bad \xff"}, 1, "UTF-8");
  fails({"-m", kGolden, "--raw", "-p", "bad \xff"}, 1, "UTF-8");
  fails({"-m", kGolden, "-f", "/no/such/file"}, 1, "/no/such/file");
  fails({"-m", kGolden, "-c", "8", "-p", "a prompt that has more tokens than that"}, 1,
        "--ctx-size");
  fails({"-m", kGolden, "-c", "8", "--raw", "-p", "a prompt that has more tokens than that"}, 1,
        "--ctx-size");
}

TEST_CASE("control tokens in a prompt count only where --special says so") {
  const auto tokens = [](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"run",        "-m", kGolden, "--raw", "-p",
                                     "<|im_end|>", "-n", "0",     "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return Json::parse(nemo(args).out)["usage"]["prompt_tokens"].get<int>();
  };
  CHECK(tokens({"--special"}) == 2);  // BOS and the token
  CHECK(tokens({}) > 4);
}
