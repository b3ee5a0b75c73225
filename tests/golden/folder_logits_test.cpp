// Logits of golden model folders (Hugging Face, MLX, TurboQuant-MLX layouts; recorded from mlx-lm
// with every parameter and activation in float) against ours.
#include "catch.hpp"
#include "support/golden_folders.hpp"
#include "support/logits.hpp"

#include <nemo/cache/dense_cache.hpp>
#include <nemo/engine/model_session.hpp>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

namespace {

using namespace nemo;
using namespace nemo::test;

template <KvCache Cache>
std::vector<float> logits_of(const GoldenFolder& g, const Kernels& kernels,
                             const std::vector<std::int32_t>& ids,
                             const std::vector<std::int64_t>& positions, std::int64_t chunk) {
  ModelSession<Cache> session(NemotronH<Cache>(g.weights), kernels, 2,
                              static_cast<std::int64_t>(ids.size()));
  std::vector<float> out(positions.size() * g.vocab());
  session.feed(ids, positions, out.data(), {chunk, {}});
  return out;
}

std::vector<std::int64_t> all_positions(const std::vector<std::int32_t>& ids) {
  std::vector<std::int64_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

// Float sums in another order; every recorded router margin is above 1e-3, so no expert flips.
constexpr double kTolerance = 2e-3;

}  // namespace

TEST_CASE("reference kernels reproduce the logits of every golden folder") {
  const Kernels& reference = select_kernels("reference");
  for (const GoldenFolder& g : golden_folders()) {
    INFO(g.name);
    const auto ids = g.ids("input_ids");
    for (const std::int64_t chunk : {1, 13, 512}) {
      INFO("chunk " << chunk);
      const auto own = logits_of<Fp32Cache>(g, reference, ids, all_positions(ids), chunk);
      const double worst = max_difference(own, g.floats("logits_f32"));
      CHECK(worst <= kTolerance);
    }
  }
}

TEST_CASE("reference kernels reproduce 600-token runs of golden folders") {
  const Kernels& reference = select_kernels("reference");
  for (const GoldenFolder& g : golden_folders()) {
    if (!g.has("long.input_ids")) continue;
    INFO(g.name);
    std::vector<std::int64_t> positions;
    for (const std::int32_t p : g.ids("long.positions")) positions.push_back(p);
    const auto own = logits_of<Fp32Cache>(g, reference, g.ids("long.input_ids"), positions, 256);
    CHECK(max_difference(own, g.floats("long.logits_f32")) <= kTolerance);
  }
}

TEST_CASE("the draft heads of golden folders give the recorded logits") {
  const Kernels& reference = select_kernels("reference");
  for (const GoldenFolder& g : golden_folders()) {
    if (!g.has("mtp.next_ids")) continue;
    INFO(g.name);
    ModelSession<Fp32Cache> session(NemotronH<Fp32Cache>(g.weights), reference, 2, 64);
    session.start_drafting();
    const auto ids = g.ids("input_ids");
    const auto next = g.ids("mtp.next_ids");
    std::vector<float> rows;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      session.feed(std::span(&ids[i], 1));
      const auto l = session.draft(next[i]);
      rows.insert(rows.end(), l.begin(), l.end());
    }
    CHECK(max_difference(rows, g.floats("mtp.postnorm.logits_f32")) <= kTolerance);
  }
}

TEST_CASE("greedy continuations of golden folders are the recorded ones") {
  const Kernels& reference = select_kernels("reference");
  for (const GoldenFolder& g : golden_folders()) {
    if (!g.has("greedy_ids")) continue;
    INFO(g.name);
    ModelSession<Fp32Cache> session(NemotronH<Fp32Cache>(g.weights), reference, 2, 1024);
    session.feed(g.ids("input_ids"));
    std::vector<float> rows;
    for (const std::int32_t expected : g.ids("greedy_ids")) {
      const auto l = session.logits();
      CHECK(std::max_element(l.begin(), l.end()) - l.begin() == expected);
      rows.insert(rows.end(), l.begin(), l.end());
      session.feed(std::span(&expected, 1));
    }
    CHECK(max_difference(rows, g.floats("greedy_logits_f32")) <= kTolerance);
  }
}

TEST_CASE("fast kernels stay within the error of 8-bit activations on golden folders") {
  for (const Kernels* kernels : available_kernels()) {
    if (kernels->name == "reference") continue;
    for (const GoldenFolder& g : golden_folders()) {
      const auto ids = g.ids("input_ids");
      const auto expected = g.floats("logits_f32");
      for (const std::int64_t chunk : {1, 512}) {
        const auto own = logits_of<Fp16Cache>(g, *kernels, ids, all_positions(ids), chunk);
        INFO(g.name << " " << kernels->name << " chunk " << chunk);
        CHECK(mean_kl(expected, own, g.vocab()) <= 7e-3);
        CHECK(top1_agreement(expected, own, g.vocab()) >= 0.9);
      }
    }
  }
}
