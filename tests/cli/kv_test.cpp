// KV cache policies on the command line: aliases, pairing, calibration, comparison.
#include "catch.hpp"
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using nemo_test::model;
using nemo_test::nemo;
using nemo_test::Outcome;
using nemo_test::read_file;
using nemo_test::TemporaryFolder;
using nemo_test::tiny_model;
using Json = nlohmann::json;

const std::string kGolden = model("moe192.Q4_K_M.gguf");
const std::string kText = "The quick brown fox jumps over the lazy dog. ";

/// The policy that `nemo perplexity` ran with.
std::string policy_of(std::vector<std::string> args, const std::string& file = kGolden) {
  std::vector<std::string> all = {"perplexity", "-m", file, "-f", "-", "--json"};
  all.insert(all.end(), args.begin(), args.end());
  const Outcome out = nemo(all, kText);
  INFO(out.err);
  REQUIRE(out.code == 0);
  return Json::parse(out.out)["kv"];
}

std::string failure(const std::vector<std::string>& args, int code) {
  const Outcome out = nemo(args, kText);
  CHECK(out.code == code);
  CHECK(out.out.empty());
  CHECK(std::count(out.err.begin(), out.err.end(), '\n') == 1);
  return out.err;
}

}  // namespace

TEST_CASE("other programs' flags name the same policies") {
  CHECK(policy_of({}) == "fp16");
  CHECK(policy_of({"--kv-k-bits", "8", "--kv-v-bits", "3", "--kv-min-tokens", "16"}) ==
        "turbo:8,3,sink=16");
  CHECK(policy_of({"--kv-k-bits", "8", "--kv-v-bits", "4"}) == "turbo:8,4,sink=128");
  CHECK(policy_of({"--rotor-bits", "4", "--group-size", "32"}) == "rotor:4,32");
  CHECK(policy_of({"--rotor-bits", "4"}) == "rotor:4,64");
  CHECK(policy_of({"--kv-bits", "4", "--kv-group-size", "32"}) == "affine:4,32");
  CHECK(policy_of({"--kv-bits", "8"}) == "affine:8,64");
}

TEST_CASE("flags that name no policy, or two, are refused") {
  const auto refused = [](std::vector<std::string> args, const char* why) {
    std::vector<std::string> all = {"perplexity", "-m", kGolden, "-f", "-"};
    all.insert(all.end(), args.begin(), args.end());
    CHECK_THAT(failure(all, 2), Contains(why));
  };
  refused({"--kv-k-bits", "8"}, "--kv-v-bits");
  refused({"--kv-min-tokens", "8"}, "--kv-v-bits");
  refused({"--group-size", "64"}, "--rotor-bits");
  refused({"--kv-group-size", "64"}, "--kv-bits");
  refused({"--kv", "fp16", "--kv-bits", "8"}, "give one");
  refused({"--rotor-bits", "4", "--kv-bits", "8"}, "give one");
  refused({"--rotor-bits", "9"}, "2 to 8");
  refused({"--rotor-bits", "4", "--group-size", "48"}, "16, 32, 64 or 128");
  refused({"--kv", "int4"}, "turbo:K,V[,sink=N]");
  refused({"--rotor-bits", "x"}, "--rotor-bits");
}

TEST_CASE("a paired file brings its policy, says so, and yields to --kv") {
  const TemporaryFolder folder;
  const std::string paired = folder.file("paired.gguf");
  const Outcome out = nemo({"pair", "-m", kGolden, "--kv", "turbo:8,4,sink=4", "-o", paired});
  INFO(out.err);
  REQUIRE(out.code == 0);
  CHECK(policy_of({}, paired) == "turbo:8,4,sink=4");
  CHECK(policy_of({"--kv", "rotor:4,32"}, paired) == "rotor:4,32");
  CHECK(policy_of({"--kv-bits", "8"}, paired) == "affine:8,64");
  const Outcome run = nemo({"run", "-m", paired, "--raw", "-p", "The", "-n", "1", "--temp", "0"});
  CHECK(run.code == 0);
  CHECK_THAT(run.err, Contains("kv turbo:8,4,sink=4") && Contains("bytes per token") &&
                          Contains("nemo.kv.config"));
  CHECK(nemo({"run", "-m", kGolden, "--raw", "-p", "The", "-n", "1"}).err.empty());
  const auto info = Json::parse(nemo({"info", "-m", paired, "--json"}).out);
  CHECK_THAT(info["paired_kv"].get<std::string>(), Contains("turbo:8,4,sink=4"));

  // Another policy replaces the first; everything else is the same to the last byte.
  const std::string again = folder.file("again.gguf");
  REQUIRE(nemo({"pair", "-m", paired, "--kv", "fp16", "-o", again}).code == 0);
  CHECK(policy_of({}, again) == "fp16");
  REQUIRE(nemo({"pair", "-m", again, "--kv", "turbo:8,4,sink=4", "-o", again + "2"}).code == 0);
  CHECK((read_file(again + "2") == read_file(paired)));
  const auto logits = [&](const std::string& file, const std::string& to) {
    REQUIRE(nemo({"logits", "-m", file, "--tokens", "1,2,3,4,5", "--out", folder.file(to)}).code ==
            0);
    return read_file(folder.file(to));
  };
  CHECK((logits(again, "a.npy") == logits(kGolden, "b.npy")));

  CHECK_THAT(failure({"pair", "-m", kGolden, "--kv", "fp16", "-o", paired}, 1),
             Contains("--force"));
  CHECK_THAT(failure({"pair", "-m", kGolden, "--kv", "fp32", "-o", folder.file("x")}, 2),
             Contains("fp32"));
  CHECK_THAT(failure({"pair", "-m", paired, "--kv", "fp16", "-o", paired, "--force"}, 2),
             Contains("the model itself"));
  CHECK_THAT(failure({"pair", "-m", kGolden, "--kv", "rotor:4,128", "-o", folder.file("x")}, 1),
             Contains("does not divide"));
}

TEST_CASE("a kv_config.json beside a model file is picked up, and a wrong one is refused") {
  const TemporaryFolder folder;
  const std::string file = folder.write("m.gguf", read_file(kGolden));
  const auto info = Json::parse(nemo({"info", "-m", file, "--json"}).out);
  const std::string pattern = info["layers"]["pattern"];
  const std::string layer = std::to_string(pattern.find('*'));
  const std::string rest = ", \"bits\": 8, \"group_size\": 64}]";
  folder.write("kv_config.json", "[{\"layer_idx\": " + layer + rest);
  CHECK(policy_of({}, file) ==
        (std::count(pattern.begin(), pattern.end(), '*') == 1 ? "affine:8,64" : "kv_config.json"));
  CHECK(policy_of({"--kv", "fp16"}, file) == "fp16");
  folder.write("kv_config.json", "[{\"layer_idx\": " + std::to_string(pattern.find('M')) + rest);
  const auto refused = [&](const char* why) {
    CHECK_THAT(failure({"perplexity", "-m", file, "-f", "-"}, 1),
               Contains("kv_config.json") && Contains(why));
  };
  refused("attention layers");
  folder.write("kv_config.json", "{}");
  refused("JSON array");
  folder.write("kv_config.json",
               "[{\"layer_idx\": " + layer + ", \"bits\": 4, \"group_size\": 128}]");
  refused("128 does not divide");
  folder.write("kv_config.json", "");
  refused("JSON array");
  CHECK(policy_of({"--kv", "fp16"}, file) == "fp16");  // what is asked for ignores the pairing
}

TEST_CASE("every mistake in a kv_config.json gets one line that names the file and the mistake") {
  const TemporaryFolder folder;  // the model's attention layers are 2 and 5
  const auto refused = [&](const std::string& json, const char* why) {
    INFO(json);
    const std::string file = folder.write("kv.json", json);
    CHECK_THAT(failure({"perplexity", "-m", kGolden, "-f", "-", "--kv", file}, 1),
               Contains(file) && Contains(why));
  };
  refused(R"([{"layer_idx": 0, "bits": 8, "group_size": 64}])", "this model's are 2, 5");
  refused(R"([{"layer_idx": 99, "bits": 8, "group_size": 64}])", "this model's are 2, 5");
  refused(R"([{"layer_idx": 2, "bits": 9, "group_size": 64}])", "entry 0: bits must be 2 to 8");
  refused(R"([{"layer_idx": 2, "bits": "8", "group_size": 64}])", "whole number");
  refused(R"([{"layer_idx": 2.0, "bits": 8, "group_size": 64}])", "whole number");
  refused(R"([{"layer_idx": 2, "bits": 8}])", "group_size is missing");
  refused(R"([{"layer_idx": 2, "bits": 8, "group_size": 48}])", "16, 32, 64 or 128");
  refused(R"([{"layer_idx": 2, "bits": 8, "group_size": 128}])", "128 does not divide");
  refused(R"([{"layer_idx": 2, "bits": 8, "group_size": 64},
              {"layer_idx": 2, "bits": 4, "group_size": 64}])",
          "entry 1: layer_idx 2 is listed twice");
  refused(R"([{"layer_idx": 2, "layer_idx": 5, "bits": 8, "group_size": 64}])", "stands twice");
  refused(R"([{"layer_idx": 2, "bits": 8, "group_size": 64, "scheme": "turbo", "sink": -1}])",
          "sink is out of range");
  refused(R"({"layer_idx": 2, "bits": 8, "group_size": 64})", "JSON array");
  refused("[{\"layer_idx\": 2", "JSON array");
  refused("", "JSON array");
}

TEST_CASE("a paired file whose keys disagree with its model is refused, by run, info and eval") {
  const TemporaryFolder folder;
  const std::string paired = folder.file("paired.gguf"), means = folder.file("means.gguf");
  REQUIRE(nemo({"calibrate-kv", "-m", kGolden, "--text", "-", "-o", means}, kText).code == 0);
  REQUIRE(
      nemo({"pair", "-m", kGolden, "--kv", "turbo:8,4,sink=4", "--kv-means", means, "-o", paired})
          .code == 0);
  const std::string good = read_file(paired);
  const auto refused = [&](const std::string& from, const std::string& to, const char* why) {
    INFO(from << " -> " << to);
    REQUIRE(from.size() == to.size());
    std::string bytes = good;
    const std::size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    bytes.replace(at, to.size(), to);
    const std::string file = folder.write("bad.gguf", bytes);
    CHECK_THAT(failure({"run", "-m", file, "--raw", "-p", "a", "-n", "1"}, 1), Contains(why));
    CHECK_THAT(failure({"info", "-m", file}, 1), Contains(why));
    CHECK_THAT(failure({"eval", "-m", file, "--n", "1"}, 1), Contains(why));
  };
  refused(R"("layer_idx": 2)", R"("layer_idx": 3)", "this model's are 2, 5");
  refused(R"("scheme": "turbo")", R"("scheme": "burbo")", "none of affine");
  refused(R"("bits": 8)", R"("bits": 9)", "2 to 8");
  refused("nemo.kv.2.k.mean", "nemo.kv.3.k.mean", "another model");
  refused("nemo.kv.5.v.mean", "nemo.kv.6.v.mean", "another model");
}

TEST_CASE("measured means are stored, paired, and refused for another model") {
  const TemporaryFolder folder;
  const std::string means = folder.file("means.gguf");
  const Outcome out = nemo({"calibrate-kv", "-m", kGolden, "--text", "-", "-o", means}, kText);
  INFO(out.err);
  REQUIRE(out.code == 0);
  CHECK(policy_of({"--kv", "turbo:8,4", "--kv-means", means}) == "turbo:8,4,sink=128");
  const std::string paired = folder.file("paired.gguf");
  REQUIRE(
      nemo({"pair", "-m", kGolden, "--kv", "rotor:4,32", "--kv-means", means, "-o", paired}).code ==
      0);
  const auto info = Json::parse(nemo({"info", "-m", paired, "--json"}).out);
  CHECK_THAT(info["paired_kv"].get<std::string>(), Contains("rotor:4,32, centered"));
  CHECK(policy_of({"--kv", "fp16"}, paired) == "fp16");
  CHECK_THAT(failure({"perplexity", "-m", tiny_model(), "-f", "-", "--kv", "turbo:8,4",
                      "--kv-means", means},
                     1),
             Contains("means.gguf"));
  CHECK_THAT(
      failure({"perplexity", "-m", kGolden, "-f", "-", "--kv", "turbo:8,4", "--kv-means", kGolden},
              1),
      Contains("calibrate-kv"));
  CHECK_THAT(failure({"calibrate-kv", "-m", kGolden, "--text", folder.write("empty", ""), "-o",
                      folder.file("x")},
                     1),
             Contains("no tokens"));
}

TEST_CASE("eval kv compares policies in the agreed shape and draws them") {
  const TemporaryFolder folder;
  const std::string plot = folder.file("p.svg");
  const Outcome out = nemo({"eval", "kv", "-m", tiny_model(), "--kv", "turbo:8,4,sink=4", "--kv",
                            "rotor:2,64,sink=0", "--windows", "4", "--tasks", "format", "--n", "2",
                            "--json", "--plot", plot});
  INFO(out.err);
  REQUIRE(out.code == 0);
  const auto list = Json::parse(out.out);
  REQUIRE(list.size() == 3);
  CHECK(list[0]["kv"] == "fp16");
  CHECK(list[1]["kv"] == "turbo:8,4,sink=4");
  CHECK(list[2]["kv"] == "rotor:2,64,sink=0");
  // nemo-tiny: two attention layers of two kv heads of 128.
  CHECK(list[0]["bytes_per_token"] == 2048);
  CHECK(list[1]["bytes_per_token"] == 792);
  CHECK(list[2]["bytes_per_token"] == 288);
  for (const auto& row : list) {
    for (const char* key : {"kl_mean", "kl_p99", "top1", "perplexity"}) {
      CHECK(row[key].is_number());
    }
    CHECK(row.size() == 7);  // these four, kv, bytes_per_token and tasks: scripts read this form
    CHECK(row["tasks"].size() == 1);
    CHECK(row["tasks"]["format"].is_number());
  }
  CHECK(list[0]["kl_mean"] == 0.0);
  CHECK(list[0]["top1"] == 1.0);
  CHECK(list[1]["kl_mean"].get<double>() > 0.0);
  CHECK(list[2]["kl_mean"].get<double>() > list[1]["kl_mean"].get<double>());
  CHECK(list[2]["kl_p99"].get<double>() > list[2]["kl_mean"].get<double>());
  CHECK_THAT(read_file(plot), Catch::Matchers::StartsWith("<svg") && Contains("turbo:8,4,sink=4"));

  std::string text;
  for (int i = 0; i < 30; ++i) text += kText;
  const Outcome table = nemo({"eval", "kv", "-m", kGolden, "--kv", "affine:4,32", "--text", "-",
                              "--window", "64", "--tasks", "none"},
                             text);
  INFO(table.err);
  CHECK(table.code == 0);
  CHECK_THAT(table.out, Contains("mean KL") && Contains("affine:4,32") && Contains("fp16"));
}

TEST_CASE("eval kv refuses what it cannot compare") {
  CHECK_THAT(failure({"eval", "kv", "-m", tiny_model(), "--kv", "int8"}, 2), Contains("'int8'"));
  CHECK_THAT(failure({"eval", "kv", "-m", tiny_model(), "--tasks", "poetry"}, 2),
             Contains("'poetry'"));
  CHECK_THAT(failure({"eval", "kv", "-m", tiny_model(), "--text", "/no/such/file"}, 1),
             Contains("/no/such/file"));
  const TemporaryFolder folder;
  CHECK_THAT(failure({"eval", "kv", "-m", tiny_model(), "--text", folder.write("e", ""), "--tasks",
                      "none"},
                     1),
             Contains("too few tokens"));
}

TEST_CASE("the memory plan of a long context is what a session at that depth holds") {
  // Nano-30B's layers and attention heads, everything else tiny; docs/KV.md goes on to 2^20 tokens.
  const TemporaryFolder folder;
  const std::string file = folder.file("long.gguf");
  const Outcome made =
      nemo({"synth", "--arch", NEMO_SOURCE_DIR "/tests/data/configs/nano-30b-attention.json",
            "--type", "Q8_0", "-o", file});
  INFO(made.err);
  REQUIRE(made.code == 0);
  const auto planned = [&](const char* context) {
    const auto info = Json::parse(nemo({"info", "-m", file, "--json", "-c", context}).out);
    return info["memory"]["kv"]["turbo:8,3,sink=128"]["bytes"].get<double>();
  };
  const double plan = planned("32768");
  const Outcome out = nemo({"bench", "-m", file, "--kv", "turbo:8,3", "-c", "32800", "-p", "0",
                            "-n", "1", "-d", "32767", "--reps", "1", "--json"});
  INFO(out.err);
  REQUIRE(out.code == 0);
  const double held = Json::parse(out.out)[0]["kv_bytes"];
  CHECK(held == Approx(plan).epsilon(0.03));
  // 6 layers of 364 bytes a token, and 128 first tokens in half precision.
  CHECK(plan == 6 * ((32768 - 128) * 364.0 + 128 * 1024));
  CHECK(planned("1048576") <= 2.4e9);
}

TEST_CASE("bench measures several policies and the memory of each") {
  const Outcome out = nemo({"bench", "-m", kGolden, "--kv", "fp16", "--kv", "turbo:8,4,sink=0",
                            "-p", "0", "-n", "2", "-d", "0,512", "--reps", "1", "--json"});
  INFO(out.err);
  REQUIRE(out.code == 0);
  const auto list = Json::parse(out.out);
  REQUIRE(list.size() == 4);
  CHECK(list[0]["kv"] == "fp16");
  CHECK(list[3]["kv"] == "turbo:8,4,sink=0");
  CHECK(list[1]["depth"] == 512);
  CHECK(list[1]["kv_bytes"].get<double>() > 2 * list[3]["kv_bytes"].get<double>() * 0.5);
  CHECK(list[3]["kv_bytes"].get<double>() > 0);
}
