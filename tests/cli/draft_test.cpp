// --draft-mtp and --draft-lookup, end to end.
#include "catch.hpp"
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace {

using nemo_test::model;
using nemo_test::nemo;
using nemo_test::tiny_model;
using Json = nlohmann::json;

Json run(std::vector<std::string> more) {
  std::vector<std::string> words = {"run", "-m", tiny_model(), "-p", "Solve: 17 + 26",
                                    "-n",  "80", "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const auto out = nemo(words);
  REQUIRE(out.code == 0);
  return Json::parse(out.out);
}

}  // namespace

TEST_CASE("run gives the same answer with drafts, and says how many were right") {
  for (const std::vector<std::string>& sampling :
       {std::vector<std::string>{"--temp", "0"}, std::vector<std::string>{"--seed", "3"}}) {
    const Json plain = run(sampling);
    CHECK(!plain.contains("drafts"));
    for (const char* flag : {"--draft-mtp", "--draft-lookup"}) {
      auto words = sampling;
      words.insert(words.end(), {flag, "3"});
      const Json drafted = run(words);
      for (const char* key : {"content", "reasoning_content", "finish_reason", "usage"}) {
        CHECK(plain[key] == drafted[key]);
      }
      const Json& d = drafted["drafts"];
      CHECK(d["accepted"].get<int>() <= d["drafted"].get<int>());
      CHECK(d["passes"].get<int>() > 0);
      if (flag == std::string("--draft-mtp")) CHECK(d["tokens_per_pass"].get<double>() > 1.5);
    }
  }
}

TEST_CASE("draft flags out of range, both at once, or without a draft head are refused") {
  const auto refused = [](const std::string& file, std::vector<std::string> more) {
    std::vector<std::string> words = {"run", "-m", file, "-p", "x", "-n", "2"};
    words.insert(words.end(), more.begin(), more.end());
    const auto out = nemo(words);
    CHECK(out.code != 0);
    return out.err;
  };
  CHECK_THAT(refused(tiny_model(), {"--draft-mtp", "7"}), Contains("--draft-mtp must be"));
  CHECK_THAT(refused(tiny_model(), {"--draft-lookup", "-1"}), Contains("--draft-lookup must be"));
  CHECK_THAT(refused(tiny_model(), {"--draft-mtp", "1", "--draft-lookup", "1"}),
             Contains("exclude each other"));
  CHECK_THAT(refused(model("moe192.Q4_K_M.gguf"), {"--raw", "--draft-mtp", "2"}),
             Contains("no draft head"));
}

TEST_CASE("bench measures decoding with drafts beside plain decoding") {
  const auto out = nemo({"bench", "-m", tiny_model(), "-p", "0", "-n", "8", "--reps", "1",
                         "--draft-mtp", "2", "--json"});
  REQUIRE(out.code == 0);
  const Json list = Json::parse(out.out);
  REQUIRE(list.size() == 2);
  CHECK(list[0]["test"] == "tg8");
  CHECK(!list[0].contains("drafts"));
  CHECK(list[1]["test"] == "tg8 mtp2");
  CHECK(list[1]["tok_s"].get<double>() > 0.0);
  CHECK(list[1]["drafts"]["drafted"].get<int>() > 0);
}
