// nemo pack and --repack as a user runs them.
#include "catch.hpp"
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

using nemo_test::nemo;
using nemo_test::Outcome;
using nemo_test::TemporaryFolder;
using nemo_test::tiny_model;
using Json = nlohmann::json;

namespace {

/// The order of the best kernels of this machine, "rows8"; "file" when they have none of their own.
std::string machine_order() {
  return Json::parse(nemo({"info", "-m", tiny_model(), "--json"}).out)["order"]["kernel_order"];
}

std::string failure(const std::vector<std::string>& args, int code) {
  const Outcome outcome = nemo(args);
  CHECK(outcome.code == code);
  CHECK(outcome.out.empty());
  CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  return outcome.err;
}

Json bench(std::vector<std::string> args) {
  for (const char* more : {"-p", "8", "-n", "2", "--reps", "1", "--json"}) args.emplace_back(more);
  const Outcome outcome = nemo(args);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return Json::parse(outcome.out);
}

}  // namespace

TEST_CASE("pack writes a file that answers as its source, verifies, and is described by info") {
  const std::string order = machine_order();
  if (order == "file") return;
  const TemporaryFolder folder;
  const std::string file = folder.file("tiny.nemo");
  const Outcome made = nemo({"pack", "-m", tiny_model(), "-o", file});
  INFO(made.err);
  REQUIRE(made.code == 0);
  CHECK_THAT(made.out, Contains("in kernel order " + order));
  CHECK_THAT(nemo({"pack", "--verify", file}).out, Contains("every checksum is right"));

  const std::vector<std::string> question = {"-p", "Solve: 17 * 23", "-n", "40", "--temp",
                                             "0",  "--no-think"};
  const auto answer = [&](std::vector<std::string> args) {
    args.insert(args.begin(), "run");
    args.insert(args.end(), question.begin(), question.end());
    const Outcome outcome = nemo(args);
    INFO(outcome.err);
    CHECK(outcome.code == 0);
    CHECK(outcome.err.empty());
    return outcome.out;
  };
  const std::string expected = answer({"-m", tiny_model(), "--repack", "off"});
  CHECK(!expected.empty());
  CHECK(answer({"-m", file}) == expected);
  CHECK(answer({"-m", file, "-t", "1", "--draft-lookup", "4"}) == expected);
  CHECK(answer({"-m", file, "--draft-mtp", "2"}) == expected);
  CHECK(answer({"-m", tiny_model(), "--repack", "on", "--draft-mtp", "2"}) == expected);

  const Json info = Json::parse(nemo({"info", "-m", file, "--json"}).out);
  CHECK(info["order"]["file"] == order);
  CHECK(info["order"]["source"] == "nemo-tiny.gguf");
  CHECK(info["order"]["matrices"].get<int>() > 0);
  CHECK(info["ignored_tensors"].empty());
  CHECK_THAT(nemo({"info", "-m", file}).out,
             Contains("pack, order " + order) && Contains("from nemo-tiny.gguf"));
  const Json source = Json::parse(nemo({"info", "-m", tiny_model(), "--json"}).out);
  CHECK(source["order"]["file"] == "file");
  CHECK(source["order"]["repack"] == true);
  CHECK(source["order"]["bytes"].get<std::int64_t>() > 0);
  CHECK(source["memory"]["weights"] == info["memory"]["weights"]);
  CHECK_THAT(nemo({"info", "-m", tiny_model()}).out, Contains("loading copies"));
}

TEST_CASE("bench says in which order the weights lay") {
  const std::string order = machine_order();
  CHECK(bench({"bench", "-m", tiny_model(), "--repack", "off"})[0]["order"] == "file");
  CHECK(bench({"bench", "-m", tiny_model(), "--kernels", "reference"})[0]["order"] == "file");
  if (order == "file") return;
  const TemporaryFolder folder;
  const std::string file = folder.file("m.nemo");
  REQUIRE(nemo({"pack", "-m", tiny_model(), "-o", file}).code == 0);
  CHECK(bench({"bench", "-m", file})[0]["order"] == order + " (pack)");
  CHECK(bench({"bench", "-m", tiny_model()})[0]["order"] == order + " (copy)");
}

TEST_CASE("pack and --repack refuse what makes no sense in one line") {
  const TemporaryFolder folder;
  const std::string out = folder.file("m.nemo");
  CHECK_THAT(failure({"pack", "-m", tiny_model()}, 2), Contains("-o FILE.nemo"));
  CHECK_THAT(failure({"pack", "-m", tiny_model(), "-o", out, "--verify", out}, 2),
             Contains("--verify"));
  CHECK_THAT(failure({"pack", "-m", tiny_model(), "-o", out, "--kernels", "reference"}, 2),
             Contains("reference"));
  CHECK_THAT(failure({"pack", "-m", tiny_model(), "-o", out, "--kernels", "x"}, 2),
             Contains("'x'"));
  CHECK_THAT(failure({"pack", "--verify", tiny_model()}, 1), Contains("not a pack"));
  CHECK_THAT(failure({"pack", "-m", folder.file("gone.gguf"), "-o", out}, 1),
             Contains("gone.gguf"));
  CHECK_THAT(failure({"run", "-m", tiny_model(), "-p", "x", "--repack", "maybe"}, 2),
             Contains("--repack"));
  CHECK(!std::filesystem::exists(out));
  const std::string order = machine_order();
  if (order == "file") return;
  REQUIRE(nemo({"pack", "-m", tiny_model(), "-o", out}).code == 0);
  CHECK_THAT(failure({"pack", "-m", tiny_model(), "-o", out}, 1), Contains("--force"));
  CHECK(nemo({"pack", "-m", tiny_model(), "-o", out, "--force"}).code == 0);
  CHECK_THAT(failure({"run", "-m", out, "-p", "x", "--kernels", "reference"}, 1),
             Contains("nemo-tiny.gguf"));
  CHECK_THAT(failure({"pair", "-m", out, "--kv", "turbo:8,4", "-o", folder.file("p.gguf")}, 1),
             Contains("is a pack"));
}
