// Checking several tokens in one pass and keeping some of them: bit by bit what single steps do.
#include "catch.hpp"

#include <nemo/cache/dense_cache.hpp>
#include <nemo/cache/policies.hpp>
#include <nemo/model/nemotron_h.hpp>

#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using namespace nemo;
using Tokens = std::vector<std::int32_t>;

struct Case {
  std::string name;
  std::shared_ptr<const ModelWeights> weights;
};

Case open(const fs::path& path) {
  return {path.filename().string(), load_weights(open_checkpoint(path.string()))};
}

/// Every small model in the repository: all weight formats that the tests have models of.
std::vector<Case> all_models() {
  const fs::path data = fs::path(NEMO_SOURCE_DIR) / "tests/data";
  std::vector<Case> cases = {open(fs::path(NEMO_SOURCE_DIR) / "models/nemo-tiny.gguf")};
  for (const auto& entry : fs::directory_iterator(data / "gguf")) {
    if (entry.path().extension() == ".gguf") cases.push_back(open(entry.path()));
  }
  for (const auto& entry : fs::directory_iterator(data / "folders")) {
    cases.push_back(open(entry.path()));
  }
  return cases;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
bool same_bits(const AlignedBuffer<float>& a, const AlignedBuffer<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <KvCache Cache>
std::vector<std::byte> bytes_of(const Cache& cache) {
  std::vector<std::byte> bytes;
  cache.save([&](const void* data, std::size_t size) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), begin, begin + size);
  });
  return bytes;
}

template <KvCache Cache>
bool same_state(const typename NemotronH<Cache>::State& a,
                const typename NemotronH<Cache>::State& b) {
  if (a.tokens != b.tokens || bytes_of(a.kv) != bytes_of(b.kv)) return false;
  for (std::size_t i = 0; i < a.mamba.size(); ++i) {
    if (!same_bits(a.mamba[i].conv, b.mamba[i].conv)) return false;
    if (!same_bits(a.mamba[i].ssm, b.mamba[i].ssm)) return false;
  }
  if (a.draft.has_value() != b.draft.has_value()) return false;
  return !a.draft || (a.draft->slots == b.draft->slots && a.draft->hidden == b.draft->hidden &&
                      bytes_of(a.draft->kv) == bytes_of(b.draft->kv));
}

Tokens random_tokens(std::mt19937& rng, std::int64_t count, std::int64_t vocab) {
  std::uniform_int_distribution<std::int32_t> id(0, static_cast<std::int32_t>(vocab) - 1);
  Tokens tokens(static_cast<std::size_t>(count));
  for (auto& t : tokens) t = id(rng);
  return tokens;
}

/// Two states of one model: one decodes token by token, the other verifies and keeps.
template <KvCache Cache>
class Pair {
 public:
  Pair(const Case& c, const Kernels& kernels, std::int64_t capacity)
      : model_(c.weights),
        compute_(kernels, 2),
        capacity_(capacity),
        plain_(model_.new_state(capacity)),
        speculative_(model_.new_state(capacity)) {
    if (!model_.can_draft()) return;
    model_.start_drafting(plain_, capacity);
    model_.start_drafting(speculative_, capacity);
  }

  [[nodiscard]] std::int64_t vocab() const { return model_.config().vocab; }
  [[nodiscard]] std::int64_t room() const { return capacity_ - plain_.tokens; }

  void prefill(const Tokens& prompt) {
    for (auto* state : {&plain_, &speculative_}) {
      std::vector<float> logits(static_cast<std::size_t>(vocab()));
      const std::int64_t last[] = {static_cast<std::int64_t>(prompt.size()) - 1};
      model_.forward(compute_, *state, prompt, last, logits.data());
    }
  }

  /// Verifies `tokens`, keeps the first `count`; false when a bit of the logits of those differs.
  bool step(const Tokens& tokens, std::int64_t count) {
    const auto v = static_cast<std::size_t>(vocab());
    std::vector<float> checked(tokens.size() * v);
    model_.verify(compute_, speculative_, tokens, checked.data());
    checked.resize(static_cast<std::size_t>(count) * v);
    std::vector<float> single(checked.size());
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t first[] = {0};
      model_.forward(compute_, plain_, {tokens.data() + i, 1}, first, single.data() + i * vocab());
    }
    model_.keep(compute_, speculative_, count);
    return same_bits(checked, single);
  }
  /// The draft head guesses `count` tokens from here; guesses are nobody's state.
  void guess(std::int64_t count) {
    if (!speculative_.draft || speculative_.draft->hidden.empty()) return;
    std::vector<float> logits(static_cast<std::size_t>(vocab()));
    for (std::int64_t i = 0; i < count; ++i) {
      model_.draft(compute_, speculative_, static_cast<std::int32_t>(i), logits.data());
    }
  }
  [[nodiscard]] bool same() const { return same_state<Cache>(plain_, speculative_); }
  void restart() {
    plain_ = fresh();
    speculative_ = fresh();
  }

 private:
  typename NemotronH<Cache>::State fresh() const {
    auto state = model_.new_state(capacity_);
    if (model_.can_draft()) model_.start_drafting(state, capacity_);
    return state;
  }

  NemotronH<Cache> model_;
  Compute compute_;
  std::int64_t capacity_;
  typename NemotronH<Cache>::State plain_, speculative_;
};

template <KvCache Cache>
void check_sequences(const Case& c, const Kernels& kernels, int sequences) {
  INFO(c.name << ", kv " << Cache::kName << ", kernels " << kernels.name);
  std::mt19937 rng(7);
  Pair<Cache> pair(c, kernels, 160);
  int wrong_logits = 0, wrong_states = 0;
  for (int i = 0; i < sequences; ++i) {
    const auto length = static_cast<std::int64_t>(1 + rng() % 7);
    if (i == 0 || pair.room() < length) {
      pair.restart();
      pair.prefill(random_tokens(rng, static_cast<std::int64_t>(1 + rng() % 40), pair.vocab()));
    }
    const auto kept = static_cast<std::int64_t>(rng() % static_cast<std::uint32_t>(length + 1));
    if (rng() % 4 == 0) pair.guess(std::min<std::int64_t>(3, pair.room()));
    if (!pair.step(random_tokens(rng, length, pair.vocab()), kept)) ++wrong_logits;
    if (!pair.same()) ++wrong_states;
  }
  CHECK(wrong_logits == 0);
  CHECK(wrong_states == 0);
}

}  // namespace

TEST_CASE("verified tokens have the bits of single steps in every weight format") {
  for (const Case& c : all_models()) {
    check_sequences<Fp16Cache>(c, select_kernels(""), 12);
    check_sequences<Fp16Cache>(c, select_kernels("reference"), 3);
  }
}

TEST_CASE("10,000 random accept/reject sequences leave the state of plain decoding") {
  const Case small = open(fs::path(NEMO_SOURCE_DIR) / "tests/data/gguf/dense96.Q4_0.gguf");
  check_sequences<Fp16Cache>(small, select_kernels(""), 10000);
}

TEST_CASE("accept/reject sequences leave the state of plain decoding under every KV policy") {
  const Case tiny = open(fs::path(NEMO_SOURCE_DIR) / "models/nemo-tiny.gguf");
  check_sequences<Fp32Cache>(tiny, select_kernels(""), 100);
  check_sequences<Fp16Cache>(tiny, select_kernels(""), 100);
  check_sequences<TurboCache<8, 4, 32>>(tiny, select_kernels(""), 100);
  check_sequences<TurboCache<3, 3>>(tiny, select_kernels(""), 100);
  check_sequences<RotorCache<4>>(tiny, select_kernels(""), 100);
  check_sequences<RotorCache<3, 32>>(tiny, select_kernels(""), 100);
}
