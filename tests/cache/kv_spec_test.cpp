// What people write after --kv and in kv_config.json, right and wrong.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/cache/kv_spec.hpp>

#include <string>
#include <vector>

namespace {

using nemo::KvFormat;

/// M * - M * with 2 kv heads of 64 channels.
nemo::ModelConfig model() {
  nemo::ModelConfig config;
  for (const nemo::LayerKind kind :
       {nemo::LayerKind::mamba, nemo::LayerKind::attention, nemo::LayerKind::mlp,
        nemo::LayerKind::mamba, nemo::LayerKind::attention}) {
    nemo::LayerConfig layer;
    layer.kind = kind;
    if (kind == nemo::LayerKind::attention) {
      layer.q_heads = 8;
      layer.kv_heads = 2;
      layer.head_dim = 64;
    }
    config.layers.push_back(layer);
  }
  return config;
}

std::string message(const std::string& text) {
  try {
    (void)nemo::parse_kv_format(text);
  } catch (const nemo::Error& e) {
    CHECK(e.code() == nemo::ErrorCode::usage);
    return e.what();
  }
  return "";
}

std::string config_message(const std::string& json) {
  try {
    (void)nemo::parse_kv_config(json, model(), "kv.json");
  } catch (const nemo::Error& e) {
    CHECK(e.code() == nemo::ErrorCode::bad_file);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("policy strings give the formats they name, and print back the same") {
  CHECK(nemo::parse_kv_format("fp16") == KvFormat::fp16());
  CHECK(nemo::parse_kv_format("turbo:8,4") == KvFormat::turbo(8, 4, 128));
  CHECK(nemo::parse_kv_format("turbo:8,3,sink=0") == KvFormat::turbo(8, 3, 0));
  CHECK(nemo::parse_kv_format("rotor:4") == KvFormat::rotor(4, 64));
  CHECK(nemo::parse_kv_format("rotor:8,32,v=4,sink=4") == KvFormat::rotor(8, 32, 4, 4));
  CHECK(nemo::parse_kv_format("affine:8") == KvFormat::affine(8, 64));
  CHECK(nemo::parse_kv_format("rotor:3,128,preset=iso-full").rotation ==
        nemo::KvRotation::iso_full);
  for (const char* text :
       {"fp16", "turbo:8,4,sink=128", "rotor:4,64", "rotor:8,32,v=4,sink=4",
        "rotor:3,128,preset=iso-full", "affine:4,32", "affine:8,64,v=4,sink=4"}) {
    CHECK(nemo::parse_kv_format(text).name() == text);
  }
}

TEST_CASE("what is no policy is refused with what there is") {
  for (const char* text : {"",
                           "turbo",
                           "turbo:",
                           "turbo:8",
                           "turbo:8,4,2",
                           "turbo:8,x",
                           "turbo:8,4,sink=",
                           "turbo:1,4",
                           "turbo:8,9",
                           "turbo:8,4,sink=-1",
                           "turbo:8,4,sink=1,sink=2",
                           "turbo:8,4,v=3",
                           "rotor:4,48",
                           "rotor:4,64,preset=none",
                           "rotor:4,64,preset=turbo",
                           "affine:4,64,preset=iso",
                           "fp16:1",
                           "fp8",
                           "rotor:4,64,",
                           "turbo:99999999999,4",
                           "affine:16",
                           "turbo:sink=4,8,4",
                           "turbo:8,4,sink=99999999"}) {
    INFO(text);
    CHECK(message(text).find("turbo:K,V[,sink=N]") != std::string::npos);
  }
}

TEST_CASE("kv_config.json counts all layers, or the cached ones when that is what fits") {
  const std::string rest = R"(, "bits": 8, "group_size": 64})";
  const auto backbone = nemo::parse_kv_config(
      "[{\"layer_idx\": 1" + rest + ", {\"layer_idx\": 4, \"bits\": 4, \"group_size\": 32}]",
      model(), "kv.json");
  REQUIRE(backbone.size() == 2);
  CHECK(backbone[0] == KvFormat::affine(8, 64));
  CHECK(backbone[1] == KvFormat::affine(4, 32));
  // Cached layers are M * M *: slots 1 and 3; 3 is no attention layer of the backbone.
  const auto cached = nemo::parse_kv_config("[{\"layer_idx\": 3" + rest + "]", model(), "kv.json");
  CHECK(cached[0] == KvFormat::fp16());
  CHECK(cached[1] == KvFormat::affine(8, 64));
  CHECK(nemo::parse_kv_config("[]", model(), "kv.json") ==
        std::vector<KvFormat>(2, KvFormat::fp16()));
}

TEST_CASE("our extra keys mix schemes per layer") {
  const auto formats = nemo::parse_kv_config(
      R"([{"layer_idx": 1, "bits": 8, "group_size": 64, "scheme": "turbo", "v_bits": 3, "sink": 4},
          {"layer_idx": 4, "bits": 4, "group_size": 64, "scheme": "rotor", "group_size_v": 32}])",
      model(), "kv.json");
  CHECK(formats[0] == KvFormat::turbo(8, 3, 4));
  KvFormat rotor = KvFormat::rotor(4, 64);
  rotor.value_group = 32;
  CHECK(formats[1] == rotor);
}

TEST_CASE("a wrong kv_config.json says which entry and why") {
  const auto has = [](const std::string& json, const char* part) {
    INFO(json);
    CHECK(config_message(json).find(part) != std::string::npos);
  };
  has("", "JSON array");
  has("{}", "JSON array");
  has("[1]", "entry 0");
  has(R"([{"layer_idx": 1, "bits": 8}])", "group_size is missing");
  has(R"([{"bits": 8, "group_size": 64}])", "layer_idx is missing");
  has(R"([{"layer_idx": 1, "group_size": 64}])", "bits is missing");
  has(R"([{"layer_idx": 1, "bits": "8", "group_size": 64}])", "whole number");
  has(R"([{"layer_idx": 1, "bits": 8.5, "group_size": 64}])", "whole number");
  has(R"([{"layer_idx": -1, "bits": 8, "group_size": 64}])", "out of range");
  has(R"([{"layer_idx": 99999999999999999999, "bits": 8, "group_size": 64}])", "layer_idx");
  has(R"([{"layer_idx": 18446744073709551615, "bits": 8, "group_size": 64}])", "out of range");
  has(R"([{"layer_idx": 1, "bits": 9, "group_size": 64}])", "2 to 8");
  has(R"([{"layer_idx": 1, "bits": 8, "group_size": 48}])", "16, 32, 64 or 128");
  has(R"([{"layer_idx": 1, "bits": 8, "group_size": 64}, {"layer_idx": 1, "bits": 4, "group_size": 64}])",
      "twice");
  has(R"([{"layer_idx": 2, "bits": 8, "group_size": 64}])", "model's are 1, 4");
  has(R"([{"layer_idx": 7, "bits": 8, "group_size": 64}])", "model's are 1, 4");
  has(R"([{"layer_idx": 1, "bits": 8, "group_size": 64, "scheme": "mx"}])", "none of affine");
  has(R"([{"layer_idx": 1, "bits": 8, "group_size": 64, "schema": "turbo"}])", "unknown key");
  has(R"([{"layer_idx": 1, "bits": 8, "bits": 4, "group_size": 64}])", "'bits' stands twice");
  has(R"([{"layer_idx": 1, "bits": 99, "group_size": 64, "scheme": "fp16"}])", "2 to 8, or 16");
  has(R"([{"layer_idx": 1, "bits": 16, "group_size": 64}])", "2 to 8");
  has(R"([{"layer_idx": 1, "bits": 8, "group_size": 7, "scheme": "turbo"}])", "16, 32, 64 or 128");
  has("[" + std::string(2 << 20, ' ') + "]", "too large");
}

TEST_CASE("a policy is checked against the model's heads before anything is loaded") {
  CHECK(nemo::resolve_kv("rotor:4,64", model()).formats.size() == 2);
  CHECK(nemo::resolve_kv("fp16", model()).dense());
  CHECK(nemo::resolve_kv("fp32", model()).dense());
  CHECK_FALSE(nemo::resolve_kv("turbo:8,4", model()).dense());
  CHECK_THROWS_AS(nemo::resolve_kv("rotor:4,128", model()), nemo::Error);
  CHECK_THROWS_AS(nemo::resolve_kv("/no/such/kv_config.json", model()), nemo::Error);
}
