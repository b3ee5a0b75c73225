// Sizes that make sense, and sizes that do not.
#include "catch.hpp"
#include "support/model_file.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/config.hpp>

using namespace nemo;

namespace {

std::string failure(const ModelConfig& config) {
  try {
    config.validate();
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("patterns are read symbol by symbol, without pipeline marks") {
  const auto kinds = parse_pattern("M|E/*-");
  REQUIRE(kinds.size() == 4);
  CHECK(kinds[0] == LayerKind::mamba);
  CHECK(kinds[1] == LayerKind::moe);
  CHECK(kinds[2] == LayerKind::attention);
  CHECK(kinds[3] == LayerKind::mlp);
  CHECK_THROWS_WITH(parse_pattern("MXM"), Contains("'X'"));
}

TEST_CASE("derived sizes follow the definitions") {
  const ModelConfig c = test::small_config();
  CHECK(c.pattern() == "ME*-");
  CHECK(c.mamba.inner() == 64);
  CHECK(c.mamba.conv_channels() == 64 + 2 * 2 * 8);
  CHECK(c.mamba.in_rows() == 64 + 96 + 4);
  CHECK(c.kv_elements_per_token() == 2 * 2 * 32);
  CHECK(c.mamba_state_bytes() == 4 * (64 * 8 + 96 * 3));
  CHECK(c.scale_of(c.layers[2]) == Approx(1.0 / std::sqrt(32.0)));
  const std::int64_t expert = 2 * 96 * 32;
  CHECK(c.parameters() - c.active_parameters() == 6 * expert);
}

TEST_CASE("contradictory and absurd sizes are refused by name") {
  const auto with = [](const auto& change) {
    ModelConfig c = test::small_config();
    change(c);
    return failure(c);
  };
  using C = ModelConfig;
  CHECK(with([](C&) {}) == "no error");
  CHECK_THAT(with([](C& c) { c.layers.clear(); }), Contains("no layers"));
  CHECK_THAT(with([](C& c) { c.layers.resize(5000); }), Contains("layers"));
  CHECK_THAT(with([](C& c) { c.vocab = 0; }), Contains("vocabulary"));
  CHECK_THAT(with([](C& c) { c.vocab = 1 << 30; }), Contains("vocabulary"));
  CHECK_THAT(with([](C& c) { c.hidden = -1; }), Contains("hidden size"));
  CHECK_THAT(with([](C& c) { c.norm_eps = 0; }), Contains("epsilon"));
  CHECK_THAT(with([](C& c) { c.norm_eps = std::nanf(""); }), Contains("epsilon"));
  CHECK_THAT(with([](C& c) { c.attention_scale = -1; }), Contains("scale"));
  CHECK_THAT(with([](C& c) { c.mamba.groups = 3; }), Contains("groups (3) does not divide"));
  CHECK_THAT(with([](C& c) { c.mamba.groups = 0; }), Contains("groups"));
  CHECK_THAT(with([](C& c) { c.mamba.heads = 0; }), Contains("Mamba heads"));
  CHECK_THAT(with([](C& c) { c.mamba.head_dim = std::int64_t{1} << 40; }), Contains("head size"));
  CHECK_THAT(with([](C& c) { c.mamba.state = 0; }), Contains("state size"));
  CHECK_THAT(with([](C& c) { c.mamba.conv_kernel = 1000; }), Contains("kernel"));
  CHECK_THAT(with([](C& c) { c.mamba.dt_max = 0; }), Contains("limits of dt"));
  CHECK_THAT(with([](C& c) { c.mamba.dt_min = std::nanf(""); }), Contains("limits of dt"));
  CHECK_THAT(with([](C& c) { c.layers[2].kv_heads = 3; }),
             Contains("key/value heads (3) does not divide") && Contains("layer 2"));
  CHECK_THAT(with([](C& c) { c.layers[2].kv_heads = 0; }), Contains("key/value heads"));
  CHECK_THAT(with([](C& c) { c.layers[2].head_dim = 1 << 20; }), Contains("head size"));
  CHECK_THAT(with([](C& c) { c.layers[3].ff = 0; }),
             Contains("feed-forward") && Contains("layer 3"));
  CHECK_THAT(with([](C& c) { c.layers[1].experts_used = 9; }), Contains("experts used is 9"));
  CHECK_THAT(with([](C& c) { c.layers[1].experts = 0; }), Contains("number of experts"));
  CHECK_THAT(with([](C& c) { c.layers[1].latent = -5; }), Contains("latent"));
  CHECK_THAT(with([](C& c) { c.router.groups = 3; }), Contains("expert groups (3)"));
  CHECK_THAT(with([](C& c) { c.router.groups_used = 5; }), Contains("groups used"));
  CHECK_THAT(with([](C& c) { c.layers[1].experts_used = 5; }), Contains("fewer experts"));
  CHECK_THAT(with([](C& c) { c.router.scale = std::nanf(""); }), Contains("scale of routed"));
  CHECK_THAT(with([](C& c) {
               c.layers[1].experts = c.layers[1].expert_ff = c.layers[1].latent = 1 << 16;
               c.layers.resize(4000, c.layers[1]);
             }),
             Contains("larger than any machine"));
}
