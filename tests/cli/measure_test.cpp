// nemo perplexity and nemo eval, end to end.
#include "catch.hpp"
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace {

using nemo_test::model;
using nemo_test::nemo;
using nemo_test::tiny_model;
using Json = nlohmann::json;

const std::string kGolden = model("moe192.Q4_K_M.gguf");

}  // namespace

TEST_CASE("perplexity scores the second half of each window and all of a short text") {
  const nemo_test::TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 40; ++i) text += "The quick brown fox jumps over the lazy dog. ";
  const auto file = folder.write("text", text);
  const auto out = nemo({"perplexity", "-m", kGolden, "--file", file, "--ctx", "64", "--json"});
  REQUIRE(out.code == 0);
  const auto json = Json::parse(out.out);
  CHECK(json["ctx"] == 64);
  const auto windows = json["windows"].get<int>();
  CHECK(windows > 3);
  CHECK(json["scored_tokens"] == windows * 31);
  CHECK(json["tokens"] == windows * 64);
  CHECK(json["perplexity"].get<double>() == Approx(std::exp(json["mean_nll"].get<double>())));
  CHECK(json["perplexity"].get<double>() > 1.0);
  CHECK(json["standard_error"].get<double>() > 0.0);

  const auto all = Json::parse(
      nemo({"perplexity", "-m", kGolden, "--file", "-", "--ctx", "512", "--json"}, "The quick")
          .out);
  CHECK(all["windows"] == 1);
  CHECK(all["scored_tokens"].get<int>() == all["tokens"].get<int>() - 1);
  CHECK_THAT(nemo({"perplexity", "-m", kGolden, "-f", file}).out,
             Contains("perplexity") && Contains("+-") && Contains("tokens/s"));
}

TEST_CASE("perplexity refuses what it cannot score") {
  CHECK(nemo({"perplexity", "-m", kGolden}).code == 2);
  CHECK(nemo({"perplexity", "-m", kGolden, "--file", "/no/such/file"}).code == 1);
  CHECK(nemo({"perplexity", "-m", kGolden, "--file", "-"}, "").code == 1);
  CHECK(nemo({"perplexity", "-m", kGolden, "--file", "-"}, "\xff\xfe").code == 1);
  CHECK(nemo({"perplexity", "-m", kGolden, "--file", "-", "--ctx", "2"}, "some text").code == 2);
}

TEST_CASE("eval prints accuracy and count per task in the agreed shape") {
  const auto out =
      nemo({"eval", "-m", tiny_model(), "--tasks", "arithmetic,format", "--n", "3", "--json"});
  REQUIRE(out.code == 0);
  const auto json = Json::parse(out.out);
  REQUIRE(json.size() == 1);
  REQUIRE(json["tasks"].size() == 2);
  for (const char* task : {"arithmetic", "format"}) {
    const auto& result = json["tasks"][task];
    CHECK(result.size() == 2);
    CHECK(result["n"] == 3);
    const double thirds = result["accuracy"].get<double>() * 3;
    CHECK(thirds == Approx(std::round(thirds)));
  }
  CHECK_THAT(nemo({"eval", "-m", tiny_model(), "--tasks", "format", "--n", "1"}).out,
             Contains("format") && Contains("%"));
}

TEST_CASE("eval refuses unknown tasks and counts that make no sense") {
  const auto out = nemo({"eval", "-m", "/no/such/model", "--tasks", "poetry"});
  CHECK(out.code == 2);
  CHECK_THAT(out.err, Contains("'poetry'") && Contains("arithmetic"));
  CHECK(nemo({"eval", "-m", tiny_model(), "--n", "0"}).code == 2);
  CHECK(nemo({"eval", "-m", tiny_model(), "--n", "-5"}).code == 2);
}
