// Hugging Face configurations of all published models, and their spellings.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/config.hpp>
#include <nemo/checkpoint/gguf_layout.hpp>
#include <nemo/checkpoint/presets.hpp>

#include <cmath>

using namespace nemo;
using Json = nlohmann::ordered_json;

namespace {

Json published(const std::string& name) {
  const auto bytes =
      test::read_bytes(std::string(NEMO_SOURCE_DIR) + "/tests/data/configs/" + name + ".json");
  return parse_config_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name);
}

std::string failure(const Json& json) {
  try {
    (void)config_from_json(json);
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

Json nano_with(const char* key, Json value) {
  Json json = published("nano-30b-a3b");
  json[key] = std::move(value);
  return json;
}

}  // namespace

TEST_CASE("parameter counts of every published configuration are exact") {
  struct Expected {
    const char* name;
    std::int64_t trunk;
    std::int64_t active;  // 0: all
    std::int64_t mtp;
    std::size_t gguf_tensors;
  };
  const auto expected = GENERATE(values<Expected>({
      {"nano-4b", 3973556832, 0, 0, 263},
      {"nano-30b-a3b", 31577940288, 3580076352, 0, 401},
      {"nano-omni-30b-a3b", 31577940288, 3580076352, 0, 401},
      {"lightning-3.5-30b-a3b", 31577940288, 3580076352, 1335325952, 401},
      {"super-120b-a12b", 120668707840, 12770237440, 2942325248, 763},
      {"ultra-550b-a55b", 549308993536, 56058843136, 11215610368, 927},
      {"puzzle-75b-a9b", 75353345024, 9337097216, 2942325248, 763},
      {"nemotron-h-4b", 4489223040, 0, 0, 311},
      {"nemotron-h-8b", 8100852736, 0, 0, 311},
      {"nemotron-h-47b", 46791554816, 0, 0, 577},
      {"nemotron-h-56b", 56324350464, 0, 0, 701},
      {"nano-9b-v2", 8888227328, 0, 0, 341},
      {"nano-12b-v2", 12310001152, 0, 0, 369},
  }));
  INFO(expected.name);
  const ModelConfig c = config_from_json(published(expected.name));
  CHECK(c.parameters() == expected.trunk);
  CHECK(c.active_parameters() == (expected.active != 0 ? expected.active : expected.trunk));
  CHECK(c.mtp_parameters() == expected.mtp);
  const auto layout = gguf_layout(c);
  CHECK(layout.size() == expected.gguf_tensors);
  std::int64_t elements = 0;
  for (const LayoutTensor& tensor : layout) elements += tensor.elements();
  CHECK(elements == expected.trunk);
}

TEST_CASE("presets are the published trunks") {
  for (const auto& [preset, name] :
       {std::pair{"nano-4b", "nano-4b"}, std::pair{"nano-30b-a3b", "nano-30b-a3b"},
        std::pair{"lightning-30b", "lightning-3.5-30b-a3b"},
        std::pair{"super-120b-a12b", "super-120b-a12b"},
        std::pair{"ultra-550b-a55b", "ultra-550b-a55b"}}) {
    const ModelConfig a = preset_config(preset);
    const ModelConfig b = config_from_json(published(name));
    CHECK(a.pattern() == b.pattern());
    CHECK(a.parameters() == b.parameters());
    CHECK(a.active_parameters() == b.active_parameters());
    CHECK(a.router.scale == b.router.scale);
    CHECK(a.mamba_state_bytes() == b.mamba_state_bytes());
  }
  CHECK(preset_config("super").name == "super-120b-a12b");
  CHECK_THROWS_WITH(preset_config("nano"), Contains("ambiguous"));
  CHECK_THROWS_WITH(preset_config("llama"), Contains("unknown architecture 'llama'"));
  CHECK_THROWS_AS(preset_config(""), Error);
  ModelConfig tiny = preset_config("tiny");
  for (const char symbol : {'M', 'E', '*', '-'}) CHECK(tiny.pattern().find(symbol) < 99);
}

TEST_CASE("experts of different sizes are read layer by layer") {
  const ModelConfig c = config_from_json(published("puzzle-75b-a9b"));
  CHECK(c.mamba.state == 96);
  std::vector<std::pair<std::int64_t, std::int64_t>> experts;
  for (const LayerConfig& l : c.layers) {
    if (l.kind == LayerKind::moe) experts.emplace_back(l.expert_ff, l.experts_used);
  }
  REQUIRE(experts.size() == 40);
  CHECK(experts[0] == std::pair<std::int64_t, std::int64_t>{1280, 4});
  CHECK(experts[11] == std::pair<std::int64_t, std::int64_t>{1536, 14});
  CHECK(experts[39] == std::pair<std::int64_t, std::int64_t>{2048, 18});
  REQUIRE(c.mtp.size() == 2);
  CHECK(c.mtp[1].expert_ff == 2688);
  CHECK(c.mtp[1].experts_used == 22);
}

TEST_CASE("the clamp of dt is off unless the file sets one") {
  CHECK(config_from_json(published("nano-30b-a3b")).mamba.dt_min == 0.0f);
  CHECK(std::isinf(config_from_json(published("nano-30b-a3b")).mamba.dt_max));
  CHECK(config_from_json(published("nano-omni-30b-a3b")).mamba.dt_max == 1e30f);
  const auto of = [](const char* limits) {
    return config_from_json(nano_with("time_step_limit", parse_config_json(limits, "f"))).mamba;
  };
  CHECK(std::isinf(of("[0.0, Infinity]").dt_max));
  CHECK(std::isinf(of("[0, \"inf\"]").dt_max));
  CHECK(of("[\"0.001\", 0.1]").dt_min == 0.001f);
  CHECK_THAT(failure(nano_with("time_step_limit", Json::array({1}))), Contains("two numbers"));
  CHECK_THAT(failure(nano_with("time_step_limit", Json::array({0, "abc"}))),
             Contains("must be a number"));
  CHECK_THAT(failure(nano_with("time_step_limit", Json::array({1, 0}))), Contains("limits of dt"));
}

TEST_CASE("text models nested in a wrapper are found") {
  const Json text = published("nano-30b-a3b");
  for (const char* key : {"llm_config", "text_config"}) {
    Json wrapper = {{"model_type", "something_omni"}};
    wrapper[key] = text;
    CHECK(config_from_json(wrapper).parameters() == 31577940288);
  }
}

TEST_CASE("older and newer spellings mean the same") {
  const auto renamed = [](const char* from, const char* to) {
    Json json = published("nano-30b-a3b");
    json[to] = json[from];
    json.erase(from);
    return config_from_json(json);
  };
  const std::int64_t all = 31577940288;
  CHECK(renamed("n_groups", "mamba_n_groups").parameters() == all);
  CHECK(renamed("conv_kernel", "mamba_d_conv").parameters() == all);
  CHECK(renamed("head_dim", "attention_head_dim").parameters() == all);
  CHECK(renamed("norm_eps", "layer_norm_epsilon").norm_eps == 1e-5f);
  // A legacy mamba_* spelling wins over the modern one, as in the reference implementation.
  CHECK(config_from_json(nano_with("mamba_d_conv", 3)).mamba.conv_kernel == 3);
  Json listed = published("lightning-3.5-30b-a3b");
  for (Json& word : listed["layers_block_type"]) {
    if (word == "mamba") word = "linear_attention";
    if (word == "attention") word = "full_attention";
  }
  CHECK(config_from_json(listed).parameters() == all);
  listed["layer_types"] = listed["layers_block_type"];
  listed.erase("layers_block_type");
  CHECK(config_from_json(listed).parameters() == all);
}

TEST_CASE("dense widths may be listed by the order of mlp layers") {
  Json json = published("nano-4b");
  json["hybrid_override_pattern"] = "M-*-";
  json["num_hidden_layers"] = nullptr;
  json["intermediate_size"] = Json::array({128, 256});
  const ModelConfig c = config_from_json(json);
  CHECK(c.layers[1].ff == 128);
  CHECK(c.layers[3].ff == 256);
  json["intermediate_size"] = Json::array({128});
  CHECK_THAT(failure(json), Contains("too few"));
}

TEST_CASE("contradictions in a configuration are refused") {
  CHECK_THAT(failure(nano_with("num_hidden_layers", 51)),
             Contains("'num_hidden_layers' is 51") && Contains("52 layers"));
  CHECK_THAT(failure(nano_with("layers_block_type", Json::array({"mamba"}))),
             Contains("describe different layers"));
  CHECK_THAT(failure(nano_with("hybrid_override_pattern", "MQ")), Contains("'Q'"));
  CHECK_THAT(failure(nano_with("model_type", "llama")), Contains("'llama' is not a Nemotron-H"));
  CHECK_THAT(failure(nano_with("mlp_hidden_act", "silu")), Contains("only 'relu2'"));
  CHECK_THAT(failure(nano_with("hidden_size", nullptr)), Contains("'hidden_size' is missing"));
  CHECK_THAT(failure(nano_with("hidden_size", "big")), Contains("must be an integer"));
  CHECK_THAT(failure(nano_with("hidden_size", 26.5)), Contains("must be an integer"));
  CHECK_THAT(failure(nano_with("hidden_size", ~0ull)), Contains("hidden size"));
  CHECK_THAT(failure(nano_with("norm_topk_prob", 1)), Contains("true or false"));
  CHECK_THAT(failure(nano_with("mamba_num_heads", 63)), Contains("does not divide"));
  CHECK_THAT(failure(nano_with("num_experts_per_tok", 129)), Contains("experts used"));
  CHECK_THAT(failure(nano_with("layer_types", Json::array({1}))), Contains("list of strings"));
  CHECK_THAT(failure(nano_with("layers_block_type", Json::array({"rnn"}))),
             Contains("unknown layer type 'rnn'"));
  CHECK_THAT(failure(Json::array()), Contains("expected an object"));
  Json no_pattern = published("nano-30b-a3b");
  no_pattern.erase("hybrid_override_pattern");
  CHECK_THAT(failure(no_pattern), Contains("'hybrid_override_pattern'"));
}

TEST_CASE("JSON as Python writes it parses, broken JSON is an error") {
  const Json json = parse_config_json(
      R"({"a": Infinity, "b": [-Infinity, NaN], "c": "NaN \" Infinity", "d": "\\"})", "f");
  CHECK(json["a"] == "Infinity");
  CHECK(json["b"][0] == "-Infinity");
  CHECK(json["b"][1] == "NaN");
  CHECK(json["c"] == "NaN \" Infinity");
  CHECK(json["d"] == "\\");
  CHECK_THROWS_WITH(parse_config_json("{\"a\": \n", "f.json"),
                    Contains("f.json: not valid JSON") && !Contains("\n"));
  CHECK_THROWS_AS(parse_config_json("", "f"), Error);
  CHECK_THROWS_WITH(parse_config_json(std::string(100000, '['), "f"), Contains("nested deeper"));
}
