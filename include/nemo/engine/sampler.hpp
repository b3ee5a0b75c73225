// Picks the next token from a row of logits. The chain, in llama.cpp's order (mlx-lm's too: both
// cut the distribution at temperature 1 and apply the temperature last):
//   l_i += bias_i;  l_end = -inf while fewer than min_tokens tokens were generated
//   l_i <- l_i / r if l_i > 0 else l_i * r,  then l_i -= n_i * frequency + presence,
//          for every token i that occurs n_i > 0 times in the window (prompt tokens included)
//   temperature 0: argmax l, the lowest id on ties
//   top-k:  the k best;   top-p: the fewest best with sum p_i >= p, p = softmax(l of the k best)
//   min-p:  those with p_i >= m * max p;   draw i with probability softmax(l / temperature)
#pragma once

#include <nemo/engine/random.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace nemo {

struct LogitBias {
  std::int32_t token = 0;
  float bias = 0;  // added to the logit; -infinity forbids the token
};

struct SamplingOptions {
  float temperature = 1.0F;           // 0 or more; 0 = greedy
  std::int64_t top_k = 0;             // 0 = off
  float top_p = 1.0F;                 // 0..1; 1 = off, 0 = only the best token
  float min_p = 0.0F;                 // 0..1; 0 = off
  float repetition_penalty = 1.0F;    // above 0; 1 = off
  std::int64_t penalty_window = 64;   // last tokens that all penalties look at; 0 none, -1 all
  float presence_penalty = 0.0F;      // subtracted once from tokens in the window
  float frequency_penalty = 0.0F;     // subtracted once per occurrence in the window
  std::vector<LogitBias> logit_bias;  // several for one token add up
  std::int64_t min_tokens = 0;        // end tokens are forbidden until so many were generated
  std::optional<std::uint64_t> seed;  // none = unpredictable; Sampler::seed() tells which
};

/// Throws Error{usage} that names the flag and its range when a value is outside it. Ids of
/// logit_bias are checked against `vocab` tokens unless that is 0.
void validate(const SamplingOptions& options, std::int64_t vocab = 0);

/// The chain above with its memory of recent tokens. Same seed, same logits: same tokens.
class Sampler {
 public:
  /// `end_tokens` are what min_tokens suppresses; those outside the vocabulary are ignored.
  /// Throws as validate().
  Sampler(SamplingOptions options, std::span<const std::int32_t> end_tokens, std::int64_t vocab);

  /// Enters a token into the penalty window: each prompt token and each token kept after sample().
  void accept(std::int32_t token);

  /// The next token for `logits` [vocab], when `generated` tokens were generated before it.
  /// O(vocab) whatever the filters. Throws Error{internal} for logits that are not finite numbers,
  /// {usage} when biases leave no token.
  [[nodiscard]] std::int32_t sample(std::span<const float> logits, std::int64_t generated);

  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }

 private:
  struct Candidate {
    float logit;
    std::int32_t id;
  };

  void load(std::span<const float> logits);
  void penalize();
  void keep_top_k();
  void keep_top_p();
  void keep_min_p();
  [[nodiscard]] std::int32_t draw();
  static bool better(const Candidate& a, const Candidate& b) noexcept {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  }

  SamplingOptions options_;
  std::vector<std::int32_t> end_tokens_;
  std::int64_t vocab_;
  std::uint64_t seed_;
  Random random_;
  std::vector<std::int32_t> window_;  // ring of the last penalty_window tokens; unused when -1
  std::size_t window_next_ = 0;
  std::unordered_map<std::int32_t, std::int32_t> counts_;  // occurrences inside the window
  std::vector<float> logits_;                              // [vocab], after bias and penalties
  float best_ = 0.0F;                                      // the highest of logits_
  std::vector<float> weights_;                             // exp(logit - max), scratch
  std::vector<Candidate> candidates_;                      // by ascending id
  std::vector<Candidate> scratch_;
};

}  // namespace nemo
