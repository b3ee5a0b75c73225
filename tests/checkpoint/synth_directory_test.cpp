// Synthetic directories: the structure that each family's tools write, readable, healthy.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/checkpoint/config_writer.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/io/safetensors.hpp>
#include <nemo/model/weights.hpp>
#include <nemo/text/tokenizer.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

using namespace nemo;
namespace fs = std::filesystem;

namespace {

fs::path write(const test::TemporaryFolder& folder, const DirectoryRecipe& recipe,
               const ModelConfig& config = synth_config("tiny", 0),
               const SynthOptions& options = {}) {
  const fs::path path = folder / recipe.name;
  write_synthetic_directory(path, config, recipe, options, true);
  return path;
}
fs::path write(const test::TemporaryFolder& folder, const std::string& recipe) {
  return write(folder, find_directory_recipe(recipe));
}

/// Content of every file by name.
std::map<std::string, std::vector<std::byte>> contents(const fs::path& folder) {
  std::map<std::string, std::vector<std::byte>> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename().string()] = test::read_bytes(entry.path());
  }
  return files;
}

std::string form(const Checkpoint& checkpoint, const std::string& name) {
  return stored_form(checkpoint.tensor(name + ".weight"));
}

}  // namespace

TEST_CASE("directories of every recipe load with the sizes they were made for") {
  const test::TemporaryFolder folder("synth-folder");
  const std::string name =
      GENERATE("hf-bf16", "hf-fp8", "hf-nvfp4", "mlx-bf16", "mlx-q2g128", "mlx-q3g32", "mlx-q4",
               "mlx-q5", "mlx-q6", "mlx-q8", "mlx-mxfp4", "mlx-mxfp8", "mlx-nvfp4", "oq4e", "oq5e",
               "oq6e", "oq8", "tq1", "tq2-g32", "tq3", "tq4", "tqT", "tqTe-g32", "tq3a-tq2e-g32");
  INFO(name);
  const DirectoryRecipe recipe = find_directory_recipe(name);
  const ModelConfig tiny = synth_config("tiny", 0);
  const auto checkpoint = open_checkpoint(write(folder, recipe));
  const ModelConfig& c = checkpoint->config();
  CHECK(c.pattern() == tiny.pattern());
  CHECK(c.parameters() == tiny.parameters());
  CHECK(c.active_parameters() == tiny.active_parameters());
  CHECK(c.router.scale == tiny.router.scale);
  CHECK(c.norm_eps == tiny.norm_eps);
  for (const std::string& ignored : checkpoint->ignored()) {
    CHECK(ignored.ends_with(".input_scale"));
  }
  CHECK(checkpoint->ignored().empty() ==
        (recipe.base.code != WeightCode::fp8 && recipe.base.code != WeightCode::modelopt_nvfp4));
  CHECK(text::Tokenizer(checkpoint->tokenizer()).end_tokens() == std::vector<std::int32_t>{2, 11});
  CHECK(!checkpoint->chat_template().empty());
  CHECK(checkpoint->sampling().temperature == 1.0f);

  // Variances as in trained models: the head is made for logits with a standard deviation of 2.
  LoadOptions options;
  options.context = 128;
  const auto model = load((folder / recipe.name).string(), options);
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < 40; ++i) {
    tokens.push_back(static_cast<std::int32_t>((i * 7919 + 37) % c.vocab));
  }
  const auto session = model->new_session();
  session->feed(tokens);
  double sum = 0;
  for (const float x : session->logits()) {
    REQUIRE(std::isfinite(x));
    sum += static_cast<double>(x) * x;
  }
  const double deviation = std::sqrt(sum / static_cast<double>(session->logits().size()));
  CHECK(deviation > 1);
  CHECK(deviation < 4);
}

TEST_CASE("every part of a model has the bits that its recipe gives it") {
  const test::TemporaryFolder folder("synth-bits");
  DirectoryRecipe recipe = find_directory_recipe("tq3");
  set_bits(recipe, "attn=3,experts=2", 32);
  auto checkpoint = open_checkpoint(write(folder, recipe));
  CHECK(form(*checkpoint, "layers.4.mixer.q_proj") == "TurboQuant 3 g32");
  CHECK(form(*checkpoint, "layers.1.mixer.experts.up_proj") == "TurboQuant 2 g32");
  CHECK(form(*checkpoint, "layers.0.mixer.in_proj") == "TurboQuant 2 g32");
  CHECK(form(*checkpoint, "lm_head") == "TurboQuant 2 g32");
  CHECK(form(*checkpoint, "embeddings") == "BF16");
  CHECK(form(*checkpoint, "layers.1.mixer.gate") == "BF16");

  set_bits(recipe, "experts=T,embed=8,head=8,attn=4", 64);
  checkpoint = open_checkpoint(write(folder, recipe));
  CHECK(form(*checkpoint, "layers.1.mixer.experts.down_proj") == "TurboQuant T g64");
  CHECK(form(*checkpoint, "embeddings") == "affine 8 g64");
  CHECK(form(*checkpoint, "lm_head") == "affine 8 g64");
  CHECK(form(*checkpoint, "layers.4.mixer.o_proj") == "TurboQuant 4 g64");

  recipe = find_directory_recipe("mlx-q4");
  set_bits(recipe, "3,shared=6,embed=8", 128);
  checkpoint = open_checkpoint(write(folder, recipe));
  CHECK(form(*checkpoint, "layers.1.mixer.experts.up_proj") == "affine 3 g128");
  CHECK(form(*checkpoint, "layers.1.mixer.shared_experts.up_proj") == "affine 6 g128");
  CHECK(form(*checkpoint, "embeddings") == "affine 8 g128");
}

TEST_CASE("a Hugging Face directory has exactly the tensors of a published one") {
  const test::TemporaryFolder folder("synth-names");
  const Safetensors hf = Safetensors::open_folder(write(folder, "hf-bf16"));
  // 9 a Mamba layer, 5 attention, 3 mlp, 2 E + 5 a MoE layer, 3 beside the layers: ME-M*EM-.
  CHECK(hf.tensors().size() == 3 * 9 + 5 + 2 * 3 + 2 * (2 * 8 + 5) + 3);
  const auto shape = [&](const char* name) {
    const SafeTensor* tensor = hf.find(name);
    REQUIRE(tensor != nullptr);
    return tensor->shape;
  };
  using Shape = std::vector<std::int64_t>;
  CHECK(shape("backbone.embeddings.weight") == Shape{1024, 256});
  CHECK(shape("backbone.layers.0.mixer.conv1d.weight") == Shape{768, 1, 4});
  CHECK(shape("backbone.layers.0.mixer.A_log") == Shape{8});
  CHECK(shape("backbone.layers.1.mixer.experts.7.up_proj.weight") == Shape{256, 256});
  CHECK(hf.find("backbone.layers.1.mixer.gate.e_score_correction_bias")->type == SafeType::f32);
  CHECK(hf.find("lm_head.weight")->type == SafeType::bf16);

  const Safetensors mlx = Safetensors::open_folder(write(folder, "mlx-q4"));
  CHECK(mlx.find("backbone.layers.1.mixer.switch_mlp.fc1.weight")->shape == Shape{8, 256, 32});
  CHECK(mlx.find("backbone.layers.1.mixer.switch_mlp.fc2.biases")->shape == Shape{8, 256, 4});
  CHECK(mlx.find("backbone.layers.0.mixer.conv1d.weight")->shape == Shape{768, 4, 1});
  CHECK(fs::exists(folder / "mlx-q4/model.safetensors.index.json"));

  const Safetensors fp4 = Safetensors::open_folder(write(folder, "hf-nvfp4"));
  const std::string expert = "backbone.layers.1.mixer.experts.0.down_proj.";
  CHECK(fp4.find(expert + "weight")->shape == Shape{256, 128});
  CHECK(fp4.find(expert + "weight_scale")->shape == Shape{256, 16});
  CHECK(fp4.find(expert + "weight_scale")->type == SafeType::f8_e4m3);
  CHECK(fp4.find(expert + "weight_scale_2")->shape.empty());
  CHECK(fs::exists(folder / "hf-nvfp4/hf_quant_config.json"));

  const Safetensors tq = Safetensors::open_folder(write(folder, "tq3-g64"));
  CHECK(tq.find("backbone.layers.4.mixer.q_proj.weight")->shape == Shape{256, 26});
  CHECK(tq.find("backbone.layers.4.mixer.q_proj.codebook")->shape == Shape{8});
  CHECK(tq.find("backbone.layers.4.mixer.q_proj.signs")->shape == Shape{256});
}

TEST_CASE("Hugging Face directories of whole models have the published number of tensors") {
  const DirectoryRecipe recipe = find_directory_recipe("hf-bf16");
  for (const auto& [arch, count] :
       {std::pair{"super-120b", 42683}, std::pair{"ultra-550b", 51023},
        std::pair{"lightning-30b", 6513}, std::pair{"nano-30b", 6243}}) {
    INFO(arch);
    const ModelConfig config = synth_config(arch, 0, true);
    std::size_t found = 0;
    for (const LayoutTensor& tensor : whole_layout(config)) {
      found +=
          directory_tensors(DirectoryKind::hf, tensor, 0, format_of(config, recipe, tensor)).size();
    }
    CHECK(found == std::size_t(count));
  }
}

TEST_CASE("draft heads are written in every container, unquantized in directories, and guess") {
  const test::TemporaryFolder folder("synth-draft");
  ModelConfig config = synth_config("tiny", 0, true);
  CHECK(config.mtp.empty());  // this one has none
  config.mtp = {config.layers[4], config.layers[1]};
  const auto check = [&](const fs::path& path) {
    INFO(path.string());
    LoadOptions options;
    options.context = 64;
    const auto model = load(path.string(), options);
    CHECK(model->config().mtp_parameters() == config.mtp_parameters());
    const auto session = model->new_session();
    session->start_drafting();
    const std::int32_t ids[] = {5, 17, 300};
    session->feed(ids);
    const auto logits = session->draft(44);
    CHECK(logits.size() == std::size_t(config.vocab));
    for (const float x : logits) REQUIRE(std::isfinite(x));
  };
  for (const char* recipe : {"hf-bf16", "hf-nvfp4", "oq4e", "tq3-g64"}) {
    const fs::path path = write(folder, find_directory_recipe(recipe), config);
    CHECK(form(*open_checkpoint(path), "mtp.layers.1.mixer.experts.up_proj") == "BF16");
    check(path);
  }
  SynthOptions options;
  options.mix = "Q4_K_M";
  write_synthetic_gguf(folder / "m.gguf", config, options);
  check(folder / "m.gguf");
}

TEST_CASE("a directory's bytes depend on the seed and on nothing else") {
  const test::TemporaryFolder folder("synth-folder-seed");
  const DirectoryRecipe recipe = find_directory_recipe("oq4e");
  const auto with = [&](std::uint64_t seed, int threads) {
    SynthOptions options;
    options.seed = seed;
    options.threads = threads;
    return contents(write(folder, recipe, synth_config("tiny", 3), options));
  };
  const auto one = with(1, 1);
  CHECK(one == with(1, 4));
  CHECK(one != with(2, 1));
}

TEST_CASE("a directory appears complete or not at all, and replaces only models") {
  const test::TemporaryFolder folder("synth-folder-atomic");
  const DirectoryRecipe recipe = find_directory_recipe("mlx-q4");
  const ModelConfig tiny = synth_config("tiny", 1);
  SynthOptions options;
  options.progress = [](std::uint64_t, std::uint64_t) { return false; };
  CHECK_THROWS_WITH(write(folder, recipe, tiny, options), Contains("cancelled"));
  CHECK(fs::is_empty(folder / ""));
  write(folder, recipe, tiny);
  CHECK_THROWS_WITH(write_synthetic_directory(folder / "mlx-q4", tiny, recipe, {}, false),
                    Contains("exists"));
  write(folder, recipe, tiny);  // replaces
  fs::remove(folder / "mlx-q4/config.json");
  CHECK_THROWS_WITH(write(folder, recipe, tiny), Contains("other things than a model"));
  CHECK(fs::exists(folder / "mlx-q4/model.safetensors"));
  CHECK_THROWS_WITH(write_synthetic_directory(folder / "no/where", tiny, recipe, {}, false),
                    Contains("cannot write"));
}

TEST_CASE("a scale that is not a number is found wherever it lies") {
  const test::TemporaryFolder folder("synth-nan");
  ModelConfig c = synth_config("tiny", 1);
  c.vocab = 70000;  // scales of the embeddings: more than a MiB
  const fs::path path = write(folder, find_directory_recipe("mlx-q2g32"), c);
  CHECK_NOTHROW(load_weights(open_checkpoint(path)));
  const fs::path file = path / "model.safetensors";
  const auto bytes = test::read_bytes(file);
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  const auto json = nlohmann::json::parse(text, text + header);
  for (const char* plane : {"scales", "biases"}) {
    const auto name = std::string("backbone.embeddings.") + plane;
    auto damaged = bytes;
    const auto end = 8 + header + json[name]["data_offsets"][1].get<std::uint64_t>();
    damaged[end - 1] = std::byte{0x7f};
    damaged[end - 2] = std::byte{0xc0};
    test::write_bytes(file, damaged);
    CHECK_THROWS_WITH(load_weights(open_checkpoint(path)),
                      Contains("'backbone.embeddings.weight' are not finite"));
  }
}

TEST_CASE("configurations of all published families survive being written") {
  const std::string data = std::string(NEMO_SOURCE_DIR) + "/tests/data/configs/";
  for (const auto& entry : fs::directory_iterator(data)) {
    INFO(entry.path());
    const ModelConfig c = synth_config(entry.path().string(), 0);
    const ModelConfig back = config_from_json(config_to_json(c));
    CHECK(back.pattern() == c.pattern());
    CHECK(back.parameters() == c.parameters());
    CHECK(back.active_parameters() == c.active_parameters());
    CHECK(back.mtp_parameters() == c.mtp_parameters());
    CHECK(back.norm_eps == c.norm_eps);
    CHECK(back.context_length == c.context_length);
    CHECK(back.mamba.dt_min == c.mamba.dt_min);
    CHECK(back.mamba.dt_max == c.mamba.dt_max);
    CHECK(back.mamba_state_bytes() == c.mamba_state_bytes());
    CHECK(back.router.scale == c.router.scale);
    CHECK(back.tied_head == c.tied_head);
  }
}

TEST_CASE("recipes that nobody can store are refused by name") {
  for (const char* name : {"mlx-q7", "mlx-q4g48", "mlx-", "oq3e", "oq4", "tq5", "tq3-g20", "tq3a",
                           "hf-int4", "mlx-q4g64x", "tq"}) {
    INFO(name);
    CHECK_THROWS_AS(find_directory_recipe(name), Error);
  }
  CHECK_THROWS_WITH(find_directory_recipe("mlx-qq"), Contains("known are hf-bf16"));
  DirectoryRecipe recipe = find_directory_recipe("mlx-q4");
  CHECK_THROWS_WITH(set_bits(recipe, "router=4", 0), Contains("unknown part 'router'"));
  CHECK_THROWS_WITH(set_bits(recipe, "7", 0), Contains("not 7 bits"));
  CHECK_THROWS_WITH(set_bits(recipe, "4", 48), Contains("groups of 48"));
  CHECK_THROWS_AS(set_bits(recipe, "attn=", 0), Error);
  recipe = find_directory_recipe("hf-fp8");
  CHECK_THROWS_WITH(set_bits(recipe, "4", 0), Contains("has neither"));
  CHECK(!names_directory_recipe("TQ1_0"));
  CHECK(!names_directory_recipe("Q4_K_M"));
  CHECK(names_directory_recipe("TQ3a-TQ2e-g32"));
}

TEST_CASE("bits per weight of the published recipes") {
  const auto bits = [](const char* arch, const char* recipe) {
    const ModelConfig c = synth_config(arch, 0);
    return 8.0 * static_cast<double>(planned_directory_bytes(c, find_directory_recipe(recipe))) /
           static_cast<double>(c.parameters());
  };
  // The cards of the oQ repositories, which leave out what is never quantized: 4.70, 5.64 and 6.57.
  CHECK(bits("nano-30b-a3b", "oq4e") == Approx(4.70).margin(0.015));
  CHECK(bits("nano-30b-a3b", "oq5e") == Approx(5.64).margin(0.01));
  CHECK(bits("nano-30b-a3b", "oq6e") == Approx(6.57).margin(0.01));
  // "36 GB".
  const ModelConfig super = synth_config("super-120b", 0);
  const auto bytes = planned_directory_bytes(super, find_directory_recipe("tq3a-tq2e-g32"));
  CHECK(static_cast<double>(bytes) == Approx(36e9).epsilon(0.08));
}
