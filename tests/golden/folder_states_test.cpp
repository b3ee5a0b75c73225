// What golden model folders recorded inside the network: residual streams, choices of experts and
// the states that a prompt leaves behind.
#include "catch.hpp"
#include "support/golden_folders.hpp"
#include "support/logits.hpp"

#include <nemo/cache/dense_cache.hpp>
#include <nemo/model/nemotron_h.hpp>

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace nemo;
using namespace nemo::test;
using Model = NemotronH<Fp32Cache>;

constexpr double kTolerance = 2e-3;  // as for logits

/// The network up to layer `count`, with another norm behind it.
std::shared_ptr<const ModelWeights> cut(const GoldenFolder& g, std::size_t count,
                                        std::vector<float> norm) {
  auto weights = std::const_pointer_cast<ModelWeights>(load_weights(open_checkpoint(g.folder)));
  weights->layers.resize(count);
  weights->config.layers.resize(count);
  weights->final_norm = std::move(norm);
  return weights;
}

/// Rows behind the last norm, [tokens, padded(d)].
std::vector<float> normed(Compute& compute, std::shared_ptr<const ModelWeights> weights,
                          const std::vector<std::int32_t>& ids) {
  const Model model(std::move(weights));
  auto state = model.new_state(static_cast<std::int64_t>(ids.size()));
  std::vector<float> logits(ids.size() * static_cast<std::size_t>(model.config().vocab));
  model.verify(compute, state, ids, logits.data());
  return state.undecided.hidden;
}

/// All states after the prompt.
Model::State prefilled(Compute& compute, const GoldenFolder& g,
                       const std::vector<std::int32_t>& ids) {
  const Model model(g.weights);
  auto state = model.new_state(static_cast<std::int64_t>(ids.size()));
  std::vector<float> logits(g.vocab());
  const std::int64_t last[] = {static_cast<std::int64_t>(ids.size()) - 1};
  model.forward(compute, state, ids, last, logits.data());
  return state;
}

/// [taps, channels], as recorded, from [channels, taps].
std::vector<float> taps_first(const Mamba2State& state, std::int64_t taps) {
  const auto channels = static_cast<std::int64_t>(state.conv.size()) / taps;
  std::vector<float> rows;
  for (std::int64_t t = 0; t < taps; ++t) {
    for (std::int64_t c = 0; c < channels; ++c) rows.push_back(state.conv.data()[c * taps + t]);
  }
  return rows;
}

std::vector<float> copy(const AlignedBuffer<float>& buffer) {
  return {buffer.data(), buffer.data() + buffer.size()};
}

/// Keys and values of every attention layer, [kv_heads, tokens, head_dim] each.
std::vector<std::pair<std::vector<float>, std::vector<float>>> rows_of(const Fp32Cache& cache,
                                                                       const ModelConfig& c) {
  std::vector<std::byte> bytes;
  cache.save([&bytes](const void* data, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), from, from + size);
  });
  std::size_t at = sizeof(std::uint64_t);
  std::vector<std::pair<std::vector<float>, std::vector<float>>> layers;
  for (std::int64_t i = 0; i < c.count(LayerKind::attention); ++i) {
    std::int64_t sizes[3];  // heads, channels, tokens
    std::memcpy(sizes, bytes.data() + at, sizeof sizes);
    at += sizeof sizes;
    const auto row = static_cast<std::size_t>(sizes[1] * sizes[2]);
    auto& [keys, values] = layers.emplace_back();
    for (std::int64_t head = 0; head < sizes[0]; ++head) {
      for (std::vector<float>* to : {&keys, &values}) {
        to->resize(to->size() + row);
        std::memcpy(to->data() + to->size() - row, bytes.data() + at, row * sizeof(float));
        at += row * sizeof(float);
      }
    }
  }
  return layers;
}

}  // namespace

TEST_CASE("the residual stream after every layer is the recorded one") {
  Compute compute(select_kernels("reference"), 2);
  for (const GoldenFolder& g : golden_folders()) {
    if (!g.has("hidden_f32")) continue;
    INFO(g.name);
    const ModelConfig& c = g.weights->config;
    const auto ids = g.ids("input_ids");
    const auto recorded = g.floats("hidden_f32");
    const auto d = static_cast<std::size_t>(c.hidden);
    const auto ld = static_cast<std::size_t>(padded(c.hidden));
    for (std::size_t layer = 0; layer <= c.layers.size(); ++layer) {
      INFO("after " << layer << " layers");
      // The stream itself is not shown; its rows divided by their root mean square are.
      const auto own = normed(compute, cut(g, layer, std::vector<float>(d, 1.0f)), ids);
      double worst = 0;
      for (std::size_t t = 0; t < ids.size(); ++t) {
        const float* row = recorded.data() + (layer * ids.size() + t) * d;
        double square = 0;
        for (std::size_t i = 0; i < d; ++i) square += double(row[i]) * double(row[i]);
        const double rms = std::sqrt(square / double(d) + double(c.norm_eps));
        for (std::size_t i = 0; i < d; ++i) {
          worst = std::max(worst, std::abs(double(row[i]) / rms - double(own[t * ld + i])));
        }
      }
      CHECK(worst <= kTolerance);
    }
  }
}

TEST_CASE("routers choose the recorded experts with the recorded weights") {
  Compute compute(select_kernels("reference"), 2);
  int checked = 0;
  for (const GoldenFolder& g : golden_folders()) {
    for (std::size_t layer = 0; layer < g.weights->layers.size(); ++layer) {
      const std::string stem = "router.layer" + std::to_string(layer);
      if (!g.has(stem + ".expert_ids")) continue;
      INFO(g.name << " layer " << layer);
      const auto ids = g.ids("input_ids");
      const auto recorded_ids = g.ids(stem + ".expert_ids");
      const auto recorded_weights = g.floats(stem + ".expert_weights");
      auto input = normed(compute, cut(g, layer, g.weights->layers[layer].norm), ids);
      const auto& moe = std::get<MoeWeights>(g.weights->layers[layer].mixer);
      const auto tokens = static_cast<std::int64_t>(ids.size());
      const std::int64_t d = g.weights->config.hidden;
      Arena::Scope scope(compute.arena);
      Activations x(compute, input.data(), tokens, d, padded(d));
      const auto used = static_cast<std::size_t>(moe.router.used);
      std::vector<Route> routes(ids.size() * used);
      route(compute, moe.router, x, routes.data());
      for (std::size_t t = 0; t < ids.size(); ++t) {
        for (std::size_t i = 0; i < used; ++i) {  // recorded in any order
          const std::int32_t expert = recorded_ids[t * used + i];
          const Route* const end = routes.data() + (t + 1) * used;
          const auto* found =
              std::find_if(std::as_const(routes).data() + t * used, end,
                           [&](const Route& r) { return std::int64_t{r.expert} == expert; });
          INFO("token " << t << " expert " << expert);
          REQUIRE(found != end);
          CHECK(std::abs(found->weight - recorded_weights[t * used + i]) <= 1e-4f);
        }
      }
      ++checked;
    }
  }
  CHECK(checked > 0);
}

TEST_CASE("a prompt leaves the recorded caches and Mamba states") {
  Compute compute(select_kernels("reference"), 2);
  int checked = 0;
  for (const GoldenFolder& g : golden_folders()) {
    if (!g.has("hidden_f32")) continue;
    INFO(g.name);
    const ModelConfig& c = g.weights->config;
    const auto state = prefilled(compute, g, g.ids("input_ids"));
    const auto kv = rows_of(state.kv, c);
    const std::int64_t taps = c.mamba.conv_kernel - 1;
    std::size_t mamba = 0;
    std::size_t attention = 0;
    for (std::size_t layer = 0; layer < c.layers.size(); ++layer) {
      const std::string stem = "cache.layer" + std::to_string(layer);
      INFO("layer " << layer);
      if (c.layers[layer].kind == LayerKind::mamba) {
        const Mamba2State& own = state.mamba[mamba++];
        if (!g.has(stem + ".ssm_state")) continue;
        CHECK(max_difference(copy(own.ssm), g.floats(stem + ".ssm_state")) <= kTolerance);
        CHECK(max_difference(taps_first(own, taps), g.floats(stem + ".conv_state")) <= kTolerance);
        ++checked;
      } else if (c.layers[layer].kind == LayerKind::attention) {
        const auto& [keys, values] = kv[attention++];
        if (!g.has(stem + ".keys")) continue;
        CHECK(max_difference(keys, g.floats(stem + ".keys")) <= kTolerance);
        CHECK(max_difference(values, g.floats(stem + ".values")) <= kTolerance);
        ++checked;
      }
    }
  }
  CHECK(checked > 0);
}

TEST_CASE("600 tokens leave the recorded state in the first Mamba layer") {
  Compute compute(select_kernels("reference"), 2);
  for (const GoldenFolder& g : golden_folders()) {
    if (!g.has("long.first_mamba.ssm_state")) continue;
    INFO(g.name);
    const auto state = prefilled(compute, g, g.ids("long.input_ids"));
    const std::int64_t taps = g.weights->config.mamba.conv_kernel - 1;
    const Mamba2State& own = state.mamba.front();
    CHECK(max_difference(copy(own.ssm), g.floats("long.first_mamba.ssm_state")) <= kTolerance);
    CHECK(max_difference(taps_first(own, taps), g.floats("long.first_mamba.conv_state")) <=
          kTolerance);
  }
}
