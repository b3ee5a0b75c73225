// nemo info and nemo synth as a user runs them.
#include "catch.hpp"
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

using nemo_test::nemo;
using nemo_test::Outcome;
using nemo_test::TemporaryFolder;

namespace {

nlohmann::json info_of(const std::vector<std::string>& args) {
  std::vector<std::string> all = {"info", "--json"};
  all.insert(all.end(), args.begin(), args.end());
  const Outcome outcome = nemo(all);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return nlohmann::json::parse(outcome.out);
}

/// A failed run: nothing on standard output, one line on standard error.
std::string failure(const std::vector<std::string>& args, int code) {
  const Outcome outcome = nemo(args);
  CHECK(outcome.code == code);
  CHECK(outcome.out.empty());
  CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  return outcome.err;
}

}  // namespace

TEST_CASE("info states sizes, types and the memory plan of a file") {
  const auto json = info_of({"-m", nemo_test::model("moe256.Q2_K.gguf"), "--ctx", "1000"});
  CHECK(json["architecture"] == "nemotron_h_moe");
  CHECK(json["layers"]["pattern"] == "ME*M*E");
  CHECK(json["layers"]["moe"] == 2);
  CHECK(json["parameters"] == 3489088);
  CHECK(json["tensor_types"]["Q2_K"] == 11);
  CHECK(json["tensor_types"]["F32"] == 23);
  CHECK(json["classes"]["attention"]["types"]["Q8_0"] == 4);
  CHECK(json["tokenizer"]["tokens"] == 384);
  CHECK(json["tokenizer"]["end_ids"] == nlohmann::json({4, 2}));
  CHECK(json["chat_template_bytes"] == 10504);
  CHECK(json["mtp"]["layers"] == 0);
  const auto& memory = json["memory"];
  CHECK(memory["context"] == 1000);
  CHECK(memory["weights"] == json["tensor_bytes"]);
  CHECK(memory["kv"]["fp16"]["bytes"] == 1000 * 2 * 2 * 2 * 64 * 2);
  CHECK(memory["kv"].contains("fp32"));
  CHECK(memory["ssm_state"] == 2 * 4 * (256 * 64 + (256 + 2 * 2 * 64) * 3));

  const Outcome text = nemo({"info", "-m", nemo_test::model("moe256.Q2_K.gguf")});
  CHECK(text.code == 0);
  for (const char* part :
       {"ME*M*E", "3,489,088", "Q2_K x11", "KV fp16", "it fits", "10504 bytes"}) {
    CHECK_THAT(text.out, Contains(part));
  }
}

TEST_CASE("info plans a model from its configuration alone") {
  const std::string config = NEMO_SOURCE_DIR "/tests/data/configs/super-120b-a12b.json";
  const auto json = info_of({"-m", config, "--plan", "--type", "Q4_0", "-c", "131072"});
  CHECK(json["parameters"] == 120668707840);
  CHECK(json["active_parameters"] == 12770237440);
  CHECK(json["mtp"]["parameters"] == 2942325248);
  CHECK(json["tokenizer"].is_null());
  CHECK(json["memory"]["kv"]["fp16"]["bytes"] == 131072ll * 8192);
  CHECK(json["bits_per_weight"].get<double>() > 4.4);
  CHECK(json["bits_per_weight"].get<double>() < 4.7);
  CHECK(info_of({"-m", config})["parameters"] == 120668707840);
  CHECK(info_of({"-m", "nano-30b-a3b", "--plan"})["parameters"] == 31577940288);
  CHECK(info_of({"--arch", "nano-30b-a3b"})["parameters"] == 31577940288);
}

TEST_CASE("info plans what a config.json says about its quantization, from a file or a folder") {
  const TemporaryFolder folder;
  auto config = nlohmann::json::parse(
      nemo_test::read_file(NEMO_SOURCE_DIR "/tests/data/configs/super-120b-a12b.json"));
  config["quantization"] = {
      {"mode", "turboquant"}, {"bits", 2}, {"attn_bits", 3}, {"mlp_bits", 2}, {"group_size", 32}};
  const std::string file = folder.write("config.json", config.dump());
  const auto json = info_of({"-m", file, "--kv", "turbo:8,3"});
  CHECK(json["recipe"] ==
        "embeddings bf16, head 2, mamba projections 2, router bf16, latent projections 2, "
        "experts 2, shared experts 2, attention 3; 2.57 bpw");
  CHECK(json["tensor_bytes"].get<double>() == Approx(38.8e9).epsilon(0.02));
  CHECK(json["memory"]["kv"]["turbo:8,3,sink=128"]["saved"].get<double>() > 5e8);
  CHECK(json["memory"]["kv"]["turbo:8,3,sink=128"]["longest_context"].is_number());
  CHECK(json["other_types"].contains("tq3a-tq2e-g32"));
  CHECK(info_of({"-m", folder.file("."), "--plan"})["tensor_bytes"] == json["tensor_bytes"]);
  CHECK(info_of({"--arch", "super-120b", "--type", "tq3a-tq2e-g32"})["tensor_bytes"] ==
        json["tensor_bytes"]);
  const Outcome text = nemo({"info", "-m", file, "-c", "1000000"});
  CHECK_THAT(text.out, Contains("saves ") && Contains("verdict") && Contains("tq3-g64"));

  config["quantization"] = {
      {"bits", 4},
      {"group_size", 64},
      {"lm_head", false},
      {"backbone.layers.1.mixer.switch_mlp.fc1", {{"bits", 3}, {"group_size", 32}}}};
  const auto mlx = info_of({"-m", folder.write("mlx.json", config.dump())});
  CHECK(mlx["classes"]["experts"]["types"]["affine 3 g32"] == 1);
  CHECK(mlx["classes"]["head"]["types"]["BF16"] == 1);
  config.erase("quantization");
  config["quantization_config"] = {{"quant_method", "modelopt"},
                                   {"quant_algo", "NVFP4"},
                                   {"exclude_modules", {"lm_head", "backbone.layers.0.*"}}};
  const auto fp4 = info_of({"-m", folder.write("fp4.json", config.dump())});
  CHECK(fp4["classes"]["mamba projections"]["types"]["BF16"] == 2);
  CHECK(fp4["classes"]["experts"]["types"]["NVFP4"] == 80);
  config["quantization_config"] = {{"bits", 7}};
  CHECK_THAT(failure({"info", "-m", folder.write("bad.json", config.dump())}, 2),
             Contains("not 7 bits"));
}

TEST_CASE("synth writes a model that info reads") {
  const TemporaryFolder folder;
  const std::string file = folder.file("m.gguf");
  const Outcome written = nemo(
      {"synth", "--arch", "tiny", "--layers", "5", "--type", "Q4_K_M", "--seed", "3", "-o", file});
  INFO(written.err);
  REQUIRE(written.code == 0);
  CHECK_THAT(written.out, Contains("5 layers ME-M*"));
  const auto json = info_of({"-m", file});
  CHECK(json["name"] == "synthetic tiny");
  CHECK(json["layers"]["pattern"] == "ME-M*");
  CHECK(json["tensor_types"].contains("Q4_K"));
  const std::string before = nemo_test::read_file(file);
  CHECK_THAT(failure({"synth", "--arch", "tiny", "-o", file}, 1), Contains("use --force"));
  CHECK(nemo_test::read_file(file) == before);
  CHECK(nemo({"synth", "--arch", "tiny", "--layers", "5", "--type", "Q4_K_M", "--seed", "3",
              "--force", "-t", "1", "-o", file})
            .code == 0);
  CHECK(nemo_test::read_file(file) == before);
}

TEST_CASE("synth writes folders whose recipe info reads back, and that generate") {
  const TemporaryFolder folder;
  const std::string out = folder.file("m");
  const std::vector<std::string> command = {
      "synth",   "--arch", "tiny", "--format", "tq", "--bits", "attn=3,experts=2",
      "--group", "32",     "-o",   out};
  REQUIRE(nemo(command).code == 0);
  const auto json = info_of({"-m", out});
  CHECK_THAT(json["recipe"].get<std::string>(),
             Contains("experts 2,") && Contains("attention 3,") && Contains("embeddings bf16"));
  CHECK(nemo({"run", "-m", out, "-p", "Hi", "-n", "4", "--no-think"}).code == 0);
  CHECK_THAT(failure(command, 1), Contains("--force"));
  const std::string other = folder.file("o");
  CHECK_THAT(failure({"synth", "--arch", "tiny", "--bits", "4", "-o", other}, 2),
             Contains("--format mlx or tq"));
  CHECK_THAT(
      failure({"synth", "--arch", "tiny", "--format", "hf", "--type", "tq3", "-o", other}, 2),
      Contains("--format tq"));
  CHECK_THAT(failure({"synth", "--arch", "tiny", "--format", "mlx", "--bits", "7", "-o", other}, 2),
             Contains("not 7 bits"));
}

TEST_CASE(
    "synth writes the draft head of whole Hugging Face folders, and wherever it is asked for") {
  const TemporaryFolder folder;
  const std::string config = NEMO_SOURCE_DIR "/tests/data/folders/super-tq3a-tq2e-g32/config.json";
  const auto layers = [&](std::vector<std::string> flags, const std::string& name) {
    const std::string out = folder.file(name);
    flags.insert(flags.begin(), {"synth", "--arch", config, "-o", out});
    const Outcome written = nemo(flags);
    INFO(written.err);
    REQUIRE(written.code == 0);
    const int count = info_of({"-m", out})["mtp"]["layers"].get<int>();
    const Outcome run =
        nemo({"run", "-m", out, "-p", "Hi", "-n", "4", "--no-think", "--draft-mtp", "2"});
    CHECK(run.code == (count > 0 ? 0 : 1));
    return count;
  };
  CHECK(layers({"--format", "hf"}, "whole") == 2);
  CHECK(layers({"--format", "hf", "--layers", "3"}, "cut") == 0);
  CHECK(layers({"--format", "hf", "--layers", "3", "--mtp"}, "asked") == 2);
  CHECK(layers({"--format", "tq", "--mtp"}, "tq") == 2);
  CHECK(layers({"--type", "Q8_0"}, "a.gguf") == 0);
  CHECK(layers({"--type", "Q8_0", "--mtp"}, "b.gguf") == 2);
  CHECK_THAT(failure({"synth", "--arch", "tiny", "--mtp", "-o", folder.file("t.gguf")}, 2),
             Contains("'tiny' has no draft head"));
}

TEST_CASE("convert writes what loads, and says what it cannot keep") {
  const TemporaryFolder folder;
  const std::string mlx = folder.file("mlx");
  const std::string bf16 = folder.file("bf16");
  REQUIRE(nemo({"synth", "--arch", "tiny", "--format", "mlx", "-o", mlx}).code == 0);
  REQUIRE(nemo({"synth", "--arch", "tiny", "--format", "hf", "-o", bf16}).code == 0);
  const Outcome gguf = nemo({"convert", "-m", bf16, "-o", folder.file("m.gguf")});
  CHECK(gguf.code == 0);
  CHECK_THAT(gguf.out, Contains("unchanged"));
  CHECK(info_of({"-m", folder.file("m.gguf")})["tensor_types"].contains("BF16"));
  CHECK(nemo({"convert", "-m", mlx, "-o", folder.file("m2"), "--format", "mlx"}).code == 0);
  CHECK(info_of({"-m", folder.file("m2")})["recipe"] == info_of({"-m", mlx})["recipe"]);
  CHECK_THAT(failure({"convert", "-m", mlx, "-o", folder.file("q.gguf")}, 1),
             Contains("affine 4 g64") && Contains("nemo quantize"));
  CHECK_THAT(failure({"convert", "-m", mlx, "-o", folder.file("m3")}, 2), Contains("--format"));
  CHECK_THAT(failure({"convert", "-m", bf16, "-o", folder.file("m.gguf")}, 1), Contains("--force"));
}

TEST_CASE("info and synth refuse what they cannot do in one line") {
  const TemporaryFolder folder;
  const std::string out = folder.file("m.gguf");
  CHECK_THAT(failure({"info", "-m", folder.file("none.gguf")}, 1), Contains("No such file"));
  CHECK_THAT(failure({"info", "-m", folder.write("x", "text")}, 1), Contains("not a GGUF file"));
  CHECK_THAT(failure({"info", "-m", folder.write("x.json", "{")}, 1), Contains("not valid JSON"));
  CHECK_THAT(failure({"info", "-m", folder.file(".")}, 1), Contains("holds no config.json"));
  CHECK_THAT(failure({"info", "-m", "nano", "--plan"}, 2), Contains("ambiguous"));
  CHECK_THAT(nemo({"info"}).out, Contains("architecture"));  // of the embedded model
  CHECK_THAT(failure({"info", "-m", "x", "--ctx", "0"}, 2), Contains("--ctx"));
  CHECK_THAT(failure({"info", "-m", "x", "--bogus"}, 2), Contains("--bogus"));
  CHECK_THAT(failure({"synth", "--arch", "llama", "-o", out}, 2), Contains("'llama'"));
  CHECK_THAT(failure({"synth", "--arch", "tiny", "--type", "Q9", "-o", out}, 2), Contains("'Q9'"));
  CHECK_THAT(failure({"synth", "--arch", "tiny", "--layers", "9", "-o", out}, 2),
             Contains("1 to 8"));
  CHECK_THAT(failure({"synth", "--arch", "tiny", "--layers", "0", "-o", out}, 2),
             Contains("--layers"));
  CHECK_THAT(failure({"synth", "--arch", "tiny"}, 2), Contains("--out is required"));
  CHECK_THAT(failure({"synth", "--arch", "tiny", "-o", folder.file("no/m.gguf")}, 1),
             Contains("cannot write"));
  std::string broken = nemo_test::read_file(nemo_test::model("dense96.Q4_0.gguf"));
  broken.resize(broken.size() / 2);
  CHECK_THAT(failure({"info", "-m", folder.write("cut.gguf", broken)}, 1),
             Contains("the download is incomplete"));
}

TEST_CASE("info names the recipe of a folder") {
  const std::string folders = NEMO_SOURCE_DIR "/tests/data/folders/";
  const auto json = info_of({"-m", folders + "super-tq3a-tq2e-g32"});
  CHECK(json["container"] == "safetensors, TurboQuant-MLX");
  CHECK(json["recipe"] ==
        "embeddings bf16, mamba projections 2, router bf16, experts 2, shared experts 2, "
        "latent projections 2, attention 3, head 2; 3.02 bpw");
  CHECK(json["classes"]["attention"]["types"]["TurboQuant 3 g32"] == 4);
  CHECK(info_of({"-m", folders + "nano30b-mlx-wildmix"})["container"] ==
        "safetensors, MLX affine + MLX mxfp4");
}
