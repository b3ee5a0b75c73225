// Quantized KV caches on golden model folders, beside what mlx-lm's and turboquant-mlx's caches of
// the same bits did there: theirs round every row at once and, for TurboQuant, with other signs, so
// rows cannot be equal; what counts is how far the answers stray from the unquantized ones.
#include "catch.hpp"
#include "support/golden_folders.hpp"
#include "support/logits.hpp"

#include <nemo/engine/model.hpp>

#include <span>
#include <string>
#include <vector>

namespace {

using namespace nemo;
using namespace nemo::test;

/// Logits after each of the recorded greedy tokens, fed behind the prompt.
std::vector<float> decoded(const GoldenFolder& g, const std::string& kv) {
  LoadOptions options;
  options.context = 128;
  options.kernels = "reference";
  options.kv = kv;
  const auto session = load(g.folder.string(), options)->new_session();
  session->feed(g.ids("input_ids"));
  std::vector<float> rows;
  for (const std::int32_t id : g.ids("greedy_ids")) {
    session->feed(std::span(&id, 1));
    const auto row = session->logits();
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

/// Mean KL from the exact rows.
struct Strays {
  double theirs = 0;
  double ours = 0;
};

Strays compare(const GoldenFolder& g, const std::string& recorded, const std::string& kv) {
  if (!g.has(recorded)) return {};
  const auto exact = decoded(g, "fp32");
  return {mean_kl(exact, g.floats(recorded), g.vocab()), mean_kl(exact, decoded(g, kv), g.vocab())};
}

}  // namespace

TEST_CASE("affine KV caches stray no further than mlx-lm's of the same bits") {
  for (const GoldenFolder& g : golden_folders()) {
    for (const char* policy : {"8,64", "4,64", "4,32"}) {
      std::string recorded = std::string("kvq_b") + policy + ".decode_logits";
      recorded.replace(recorded.find(','), 1, "g");
      INFO(g.name << " " << recorded);
      const Strays kl = compare(g, recorded, std::string("affine:") + policy);
      // The same grids; only the most recent rows are still exact in ours.
      CHECK(kl.ours <= 1.1 * kl.theirs + 1e-5);
    }
  }
}

TEST_CASE("TurboQuant KV caches stray no further than turboquant-mlx's of the same bits") {
  // One model says little: other signs move other rows across the border between two experts.
  Strays sum;
  for (const GoldenFolder& g : golden_folders()) {
    for (const char* sink : {"0", "32"}) {
      const Strays kl =
          compare(g, std::string("kv_k8v3_m") + sink + ".decode_logits_teacher_forced",
                  std::string("turbo:8,3,sink=") + sink);
      sum.theirs += kl.theirs;
      sum.ours += kl.ours;
    }
  }
  CHECK(sum.ours <= sum.theirs);
}
