// nemo bench and nemo info --cpu, end to end: shapes, never speeds.
#include "catch.hpp"
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <set>
#include <sstream>
#include <string>

namespace {

using nemo_test::nemo;
using nemo_test::tiny_model;
using Json = nlohmann::json;

std::set<std::string> keys_of(const Json& object) {
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.insert(key);
  return keys;
}

const std::set<std::string> kAgreedKeys = {
    "test",  "depth",   "tok_s",     "tok_s_sd",           "gb_s",    "kv", "kernels",
    "order", "threads", "rss_bytes", "bandwidth_fraction", "kv_bytes"};

}  // namespace

TEST_CASE("bench prints the agreed list, and a profile only when asked") {
  const auto out = nemo({"bench", "-m", tiny_model(), "-p", "8", "-n", "2", "-d", "0,16", "--reps",
                         "2", "-t", "2", "--json"});
  REQUIRE(out.code == 0);
  const auto list = Json::parse(out.out);
  REQUIRE(list.size() == 4);
  for (const auto& r : list) {
    CHECK(keys_of(r) == kAgreedKeys);
    CHECK(r["tok_s"].get<double>() > 0);
    CHECK(r["rss_bytes"].get<double>() > 0);
    CHECK(r["threads"] == 2);
    CHECK(r["kv"] == "fp16");
  }
  CHECK(list[0]["test"] == "pp8");
  CHECK(list[3]["test"] == "tg2");
  CHECK(list[3]["depth"] == 16);

  const auto profiled = Json::parse(nemo({"bench", "-m", tiny_model(), "-p", "8", "-n", "0",
                                          "--reps", "1", "--profile", "--json"})
                                        .out);
  std::set<std::string> parts;
  for (const auto& part : profiled[0]["profile"]) parts.insert(part["part"].get<std::string>());
  CHECK(parts ==
        std::set<std::string>{"embed", "norm", "mamba", "attention", "mlp", "moe", "head"});
  CHECK_THAT(
      nemo({"bench", "-m", tiny_model(), "-p", "8", "-n", "1", "--reps", "1", "--profile"}).out,
      Contains("pp8") && Contains("tg1") && Contains("mamba"));
}

TEST_CASE("bench's lines say by themselves where they come from") {
  const auto out =
      nemo({"bench", "-m", tiny_model(), "-p", "4,8", "-n", "0", "--reps", "3", "--json-lines"});
  REQUIRE(out.code == 0);
  std::istringstream lines(out.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto json = Json::parse(line);
    CHECK_THAT(json["command"].get<std::string>(),
               Contains("nemo bench") && Contains("--json-lines"));
    CHECK_FALSE(json["machine"].get<std::string>().empty());
    CHECK(json["model"] == tiny_model());
    CHECK(json["read_gb_s"].get<double>() > 0);
    CHECK(json["tok_s_reps"].size() == 3);
  }
  CHECK(count == 2);
}

TEST_CASE("bench roofline needs no model, bench does") {
  const nemo_test::TemporaryFolder folder;  // where no embedded model lies beside the program
  const std::string program = folder.file("nemo");
  std::filesystem::copy_file(NEMO_PROGRAM, program);
  const auto roofline =
      nemo({"bench", "roofline", "--format", "F32", "--cols", "64", "--tokens", "1", "--json"}, {},
           program);
  CHECK(roofline.code == 0);
  const auto bench = nemo({"bench"}, {}, program);
  CHECK(bench.code == 2);
  CHECK(bench.err == "nemo: --model is required; see nemo bench --help\n");
}

TEST_CASE("bench roofline measures the limits and the formats asked for") {
  const auto out = nemo({"bench", "roofline", "--format", "q4_0,affine8", "--cols", "256",
                         "--tokens", "4", "-t", "2", "--json"});
  REQUIRE(out.code == 0);
  std::istringstream lines(out.out);
  std::string first;
  std::string line;
  REQUIRE(std::getline(lines, first));
  const auto limits = Json::parse(first);
  for (const char* key : {"read_gb_s", "f32_gops", "dot4_gops", "dot8_gops"}) {
    INFO(key);
    CHECK(limits[key].get<double>() > 0);
  }
  for (const char* format : {"Q4_0", "affine 8 g64"}) {
    for (const char* order : {"file", "kernel"}) {
      if (limits["kernels"] == "reference" && std::string(order) == "kernel") continue;
      REQUIRE(std::getline(lines, line));
      CHECK(Json::parse(line)["format"] == format);
      CHECK(Json::parse(line)["order"] == order);
    }
  }
  CHECK_FALSE(std::getline(lines, line));
  CHECK(nemo({"bench", "roofline", "--format", "Q9_9"}).code == 2);
  CHECK(nemo({"bench", "roofline", "--kernels", "sse9"}).code == 2);
  CHECK(nemo({"bench", "roofline", "--tokens", "0"}).code == 2);
  CHECK(nemo({"bench", "-m", tiny_model(), "--reps", "0"}).code == 2);
  CHECK(nemo({"bench", "-m", "/no/such/file"}).code == 1);
}

TEST_CASE("info --cpu says which kernels run here and why not the others") {
  const auto out = nemo({"info", "--cpu", "--json"});
  REQUIRE(out.code == 0);
  const auto json = Json::parse(out.out);
  int used = 0;
  for (const auto& table : json["tables"]) {
    if (table["used"].get<bool>()) {
      ++used;
      CHECK(table["name"] == json["kernels"]);
    }
    CHECK_FALSE(table["reason"].get<std::string>().empty());
  }
  CHECK(used == 1);
  CHECK(json["tables"][0]["name"] == "reference");
  const auto text = nemo({"info", "--cpu"}).out;
  CHECK_THAT(text, Contains("used") && Contains("reference"));
  const bool fetches = json["fetches_streams"].get<bool>();
  CHECK(fetches == (text.find("fetched ahead of use: Intel") != std::string::npos));
  if (json["cpu"].get<std::string>().find("Intel") == 0) CHECK(fetches);
  if (json["cpu"].get<std::string>().find("AMD") == 0) CHECK_FALSE(fetches);
}
