// Logits of the golden GGUF models (llama.cpp's, every tensor as float) against ours: exactly with
// the reference kernels, within the error of 8-bit activations with the fast ones.
#include "catch.hpp"
#include "support/logits.hpp"
#include "support/safetensors.hpp"

#include <nemo/cache/dense_cache.hpp>
#include <nemo/engine/model_session.hpp>
#include <nemo/model/weights.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using nemo::test::max_difference;
using nemo::test::mean_kl;
using nemo::test::top1_agreement;

/// One golden model: the file and what llama.cpp made of it.
struct Golden {
  std::string name;
  std::shared_ptr<const nemo::ModelWeights> weights;
  std::vector<std::int32_t> tokens;
  std::vector<float> logits;  // [tokens, vocab] float arithmetic
  std::vector<float> native;  // [tokens, vocab] llama.cpp's own quantized arithmetic, or empty
  std::vector<std::int32_t> greedy;  // continuation in float arithmetic
  std::size_t vocab = 0;
};

/// Every golden model at hand: the shared set when it is there, else the copies in tests/data.
std::vector<fs::path> golden_files() {
  const fs::path shared = fs::path(NEMO_SOURCE_DIR) / "../shared/golden/gguf/models";
  const fs::path own = fs::path(NEMO_SOURCE_DIR) / "tests/data/gguf";
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::exists(shared) ? shared : own)) {
    const fs::path data = fs::path(entry.path()).replace_extension(".safetensors");
    if (entry.path().extension() == ".gguf" && fs::exists(data)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Golden read_golden(const fs::path& file) {
  Golden g;
  g.name = file.filename().string();
  g.weights = nemo::load_weights(nemo::open_checkpoint(file));
  const auto data =
      nemo::test::read_safetensors(fs::path(file).replace_extension(".safetensors").string());
  g.tokens = data.at("tokens").as<std::int32_t>();
  g.logits = data.at("logits").as<float>();
  if (data.count("logits_native") != 0) g.native = data.at("logits_native").as<float>();
  if (data.count("greedy") != 0) g.greedy = data.at("greedy").as<std::int32_t>();
  g.vocab = g.logits.size() / g.tokens.size();
  return g;
}

template <nemo::KvCache Cache>
std::vector<float> logits_of(const Golden& g, const nemo::Kernels& kernels, std::int64_t chunk,
                             int threads = 2) {
  nemo::ModelSession<Cache> session(nemo::NemotronH<Cache>(g.weights), kernels, threads,
                                    static_cast<std::int64_t>(g.tokens.size()));
  std::vector<std::int64_t> positions(g.tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<float> out(g.logits.size());
  session.feed(g.tokens, positions, out.data(), {chunk, {}});
  return out;
}

}  // namespace

TEST_CASE("reference kernels reproduce the golden logits, fed at once, in chunks and one by one") {
  const nemo::Kernels& reference = nemo::select_kernels("reference");
  for (const fs::path& file : golden_files()) {
    const Golden g = read_golden(file);
    INFO(g.name);
    for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{17}, std::int64_t{512}}) {
      INFO("chunk " << chunk);
      // llama.cpp's own orders of evaluation differ by 1.3e-5 on these files.
      CHECK(max_difference(logits_of<nemo::Fp32Cache>(g, reference, chunk), g.logits) < 1e-4);
      // Half precision keys and values: 5e-3 measured in llama.cpp.
      CHECK(max_difference(logits_of<nemo::Fp16Cache>(g, reference, chunk), g.logits) < 3e-2);
    }
  }
}

TEST_CASE("greedy continuation with the reference kernels is the golden one") {
  const nemo::Kernels& reference = nemo::select_kernels("reference");
  for (const fs::path& file : golden_files()) {
    const Golden g = read_golden(file);
    INFO(g.name);
    nemo::ModelSession<nemo::Fp32Cache> session(nemo::NemotronH<nemo::Fp32Cache>(g.weights),
                                                reference, 2, 1024);
    session.feed(g.tokens);
    for (const std::int32_t expected : g.greedy) {
      const auto l = session.logits();
      const auto token =
          static_cast<std::int32_t>(std::max_element(l.begin(), l.end()) - l.begin());
      REQUIRE(token == expected);
      session.feed(std::span(&token, 1));
    }
  }
}

TEST_CASE("fast kernels stay within the error of 8-bit activations") {
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    if (kernels->name == "reference") continue;
    for (const fs::path& file : golden_files()) {
      const Golden g = read_golden(file);
      if (g.native.empty()) continue;
      const double bar = 1.1 * mean_kl(g.logits, g.native, g.vocab) + 5e-4;
      const double agreement = top1_agreement(g.logits, g.native, g.vocab) - 0.03;
      for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{512}}) {
        const auto own = logits_of<nemo::Fp16Cache>(g, *kernels, chunk);
        INFO(g.name << " " << kernels->name << " chunk " << chunk << " llama.cpp's KL "
                    << (bar - 5e-4) / 1.1);
        CHECK(mean_kl(g.logits, own, g.vocab) <= bar);
        CHECK(top1_agreement(g.logits, own, g.vocab) >= agreement - 1e-9);
      }
    }
  }
}

TEST_CASE("logits do not depend on the number of threads") {
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    for (const fs::path& file : golden_files()) {
      const Golden g = read_golden(file);
      INFO(g.name << " " << kernels->name);
      const auto one = logits_of<nemo::Fp16Cache>(g, *kernels, 40, 1);
      CHECK(logits_of<nemo::Fp16Cache>(g, *kernels, 40, 2) == one);
      CHECK(logits_of<nemo::Fp16Cache>(g, *kernels, 40, 3) == one);
    }
  }
}

TEST_CASE("a restored checkpoint continues exactly as the first time") {
  const nemo::Kernels& kernels = nemo::select_kernels();
  for (const fs::path& file : golden_files()) {
    const Golden g = read_golden(file);
    INFO(g.name);
    nemo::ModelSession<nemo::Fp16Cache> session(nemo::NemotronH<nemo::Fp16Cache>(g.weights),
                                                kernels, 2, 1024);
    const std::span<const std::int32_t> tokens(g.tokens);
    const std::size_t half = tokens.size() / 2;
    session.feed(tokens.first(half));
    const auto saved = session.save();
    session.feed(tokens.subspan(half));
    const std::vector<float> first(session.logits().begin(), session.logits().end());
    session.restore(*saved);
    CHECK(session.tokens().size() == half);
    CHECK(session.logits().empty());
    session.feed(tokens.subspan(half));
    CHECK(std::equal(first.begin(), first.end(), session.logits().begin()));
  }
}
