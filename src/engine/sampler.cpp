// The sampling chain of sampler.hpp. Filters find a cut (the worst token kept) by selection instead
// of sorting, then keep candidates in order of id: a draw never depends on how a standard library
// happens to arrange equal elements.
#include <nemo/base/error.hpp>
#include <nemo/engine/sampler.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace nemo {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
constexpr float kMaxFloat = std::numeric_limits<float>::max();

// e^x for x <= 0 within 3 units of 2^-24, 0 below -87 (where floats turn subnormal), 1 at 0. Plain
// arithmetic without a branch, so that compilers make vector code of the loops below for the
// baseline CPU: a softmax over 131072 tokens must not cost what a layer costs. (Comparing the bits,
// whose order for x <= 0 is that of |x|, because float comparisons may trap, which forbids it.)
//   x = n ln2 + r, |r| <= ln2 / 2;  e^x = 2^n (1 + r + r^2/2 + ... + r^7/5040)
inline float exp_of_negative(float x) noexcept {
  constexpr float kRounder = 0x1.8p23F;  // adding and subtracting it rounds to an integer
  constexpr auto kLowest = std::bit_cast<std::uint32_t>(-87.0F);
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const float safe = std::bit_cast<float>(bits < kLowest ? bits : kLowest);
  const float n = (safe * 1.44269504F + kRounder) - kRounder;
  const float r = (safe - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.0F / 5040.0F;
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const float scale = std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  const std::uint32_t keep = 0U - static_cast<std::uint32_t>(bits <= kLowest);  // all ones or zero
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(p * scale) & keep);
}

[[noreturn]] void refuse(const std::string& flag, const std::string& range) {
  throw Error(ErrorCode::usage, flag + " must be " + range);
}

bool in_range(float value, float low, float high) { return value >= low && value <= high; }

}  // namespace

void validate(const SamplingOptions& o, std::int64_t vocab) {
  if (!in_range(o.temperature, 0.0F, kMaxFloat)) refuse("--temp", "a number from 0 (greedy) up");
  if (o.top_k < 0) refuse("--top-k", "0 (off) or a positive count");
  if (!in_range(o.top_p, 0.0F, 1.0F)) refuse("--top-p", "between 0 and 1 (1 = off)");
  if (!in_range(o.min_p, 0.0F, 1.0F)) refuse("--min-p", "between 0 (off) and 1");
  if (!(o.repetition_penalty > 0.0F && o.repetition_penalty <= kMaxFloat)) {
    refuse("--repeat-penalty", "a number above 0 (1 = off)");
  }
  if (o.penalty_window < -1) refuse("--repeat-last-n", "-1 (all tokens), 0 (off) or a count");
  if (!in_range(o.presence_penalty, -100.0F, 100.0F)) {
    refuse("--presence-penalty", "between -100 and 100");
  }
  if (!in_range(o.frequency_penalty, -100.0F, 100.0F)) {
    refuse("--frequency-penalty", "between -100 and 100");
  }
  if (o.min_tokens < 0) refuse("--min-tokens", "0 or more");
  for (const auto& [token, bias] : o.logit_bias) {
    if (token < 0 || (vocab > 0 && token >= vocab)) {
      refuse("--logit-bias: token id " + std::to_string(token),
             vocab > 0 ? "below the vocabulary size " + std::to_string(vocab) : "0 or more");
    }
    if (!(bias <= kMaxFloat)) {
      refuse("--logit-bias: the bias of token " + std::to_string(token), "a number or -inf");
    }
  }
}

Sampler::Sampler(SamplingOptions options, std::span<const std::int32_t> end_tokens,
                 std::int64_t vocab)
    : options_(std::move(options)),
      vocab_(vocab),
      seed_(options_.seed ? *options_.seed : random_seed()),
      random_(seed_) {
  if (vocab < 1 || vocab > std::numeric_limits<std::int32_t>::max()) {
    throw Error(ErrorCode::usage,
                "a sampler needs a vocabulary of 1 to 2^31-1 tokens, not " + std::to_string(vocab));
  }
  validate(options_, vocab);
  for (const auto token : end_tokens) {
    if (token >= 0 && token < vocab) end_tokens_.push_back(token);
  }
}

void Sampler::accept(std::int32_t token) {
  const bool used = options_.repetition_penalty != 1.0F || options_.presence_penalty != 0.0F ||
                    options_.frequency_penalty != 0.0F;
  if (!used || options_.penalty_window == 0) return;
  ++counts_[token];
  if (options_.penalty_window < 0) return;
  if (std::cmp_less(window_.size(), options_.penalty_window)) {
    window_.push_back(token);
    return;
  }
  const auto left = counts_.find(window_[window_next_]);
  if (--left->second == 0) counts_.erase(left);
  window_[window_next_] = token;
  window_next_ = (window_next_ + 1) % window_.size();
}

std::int32_t Sampler::sample(std::span<const float> logits, std::int64_t generated) {
  load(logits);
  for (const auto& [token, bias] : options_.logit_bias) {
    auto& logit = logits_[static_cast<std::size_t>(token)];
    logit = std::min(logit + bias, kMaxFloat);
  }
  if (generated < options_.min_tokens) {
    for (const auto token : end_tokens_) logits_[static_cast<std::size_t>(token)] = kForbidden;
  }
  penalize();
  const auto first_best = std::max_element(logits_.begin(), logits_.end());  // first of equals
  best_ = *first_best;
  if (best_ == kForbidden) {
    throw Error(ErrorCode::usage,
                "--logit-bias and --min-tokens forbid every token: allow at least one");
  }
  if (options_.temperature == 0.0F) return static_cast<std::int32_t>(first_best - logits_.begin());
  candidates_.clear();  // empty = the whole vocabulary
  keep_top_k();
  keep_top_p();
  keep_min_p();
  return draw();
}

void Sampler::load(std::span<const float> logits) {
  if (std::cmp_not_equal(logits.size(), vocab_)) {
    throw Error(ErrorCode::internal, "the model gave " + std::to_string(logits.size()) +
                                         " logits for a vocabulary of " + std::to_string(vocab_));
  }
  logits_.assign(logits.begin(), logits.end());
  bool bad = false;
  for (const float l : logits_) bad |= !(std::fabs(l) <= kMaxFloat);
  if (!bad) return;
  const auto first =
      std::find_if_not(logits_.begin(), logits_.end(), [](float l) { return std::isfinite(l); });
  throw Error(ErrorCode::internal,
              "the model computed a logit that is not a finite number (token " +
                  std::to_string(first - logits_.begin()) +
                  "): its weights are damaged or a kernel is wrong, try --kernels reference");
}

void Sampler::penalize() {
  const float r = options_.repetition_penalty;
  for (const auto& [token, count] : counts_) {
    if (token < 0 || token >= vocab_) continue;
    auto& logit = logits_[static_cast<std::size_t>(token)];
    if (logit == kForbidden) continue;
    logit = logit > 0.0F ? logit / r : logit * r;
    logit -= static_cast<float>(count) * options_.frequency_penalty + options_.presence_penalty;
    logit = std::clamp(logit, -kMaxFloat, kMaxFloat);
  }
}

void Sampler::keep_top_k() {
  const auto k = static_cast<std::size_t>(std::min(options_.top_k, vocab_));
  if (k == 0 || k == logits_.size()) return;
  // A buffer of twice k, halved whenever it is full: after the first thousand logits hardly one
  // still beats the worst kept, so this is one predictable pass.
  const std::size_t room = 2 * k + 64;
  float worst = kForbidden;
  const auto kth = [&] { return scratch_.begin() + static_cast<std::ptrdiff_t>(k - 1); };
  scratch_.clear();
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    if (!(logits_[i] > worst)) continue;  // equal: the lower id, seen earlier, is better
    scratch_.push_back({logits_[i], static_cast<std::int32_t>(i)});
    if (scratch_.size() < room) continue;
    std::nth_element(scratch_.begin(), kth(), scratch_.end(), better);
    worst = scratch_[k - 1].logit;
    scratch_.resize(k);
  }
  if (scratch_.size() > k) {
    std::nth_element(scratch_.begin(), kth(), scratch_.end(), better);
    scratch_.resize(k);
  }
  candidates_ = scratch_;
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

void Sampler::keep_top_p() {
  const double p = options_.top_p;
  if (options_.top_p >= 1.0F) return;
  const float best = best_;
  double total = 0.0;
  if (candidates_.empty()) {
    weights_ = logits_;
    for (float& w : weights_) w = exp_of_negative(w - best);
    for (const float w : weights_) total += w;
    // All tokens lighter than (1-p) total / vocab together weigh less than the part that top-p
    // drops, so the selection never needs to see them: usually 99 % of the vocabulary.
    const double light = (1.0 - p) * total / static_cast<double>(vocab_);
    for (std::size_t i = 0; i < logits_.size(); ++i) {
      if (weights_[i] >= light) {
        candidates_.push_back({logits_[i], static_cast<std::int32_t>(i)});
      }
    }
  } else {
    for (const auto& c : candidates_) total += exp_of_negative(c.logit - best);
  }

  // Weighted quickselect: the cut, the worst token needed, lies in [low, high).
  scratch_ = candidates_;
  auto low = scratch_.begin();
  auto high = scratch_.end();
  double needed = p * total;
  while (high - low > 32) {
    const auto middle = low + (high - low) / 2;
    std::nth_element(low, middle, high, better);
    double upper = 0.0;
    for (auto c = low; c != middle; ++c) upper += exp_of_negative(c->logit - best);
    if (upper >= needed) {
      high = middle;
    } else {
      needed -= upper;
      low = middle;
    }
  }
  std::sort(low, high, better);
  auto cut = low;
  for (double sum = exp_of_negative(cut->logit - best); sum < needed && cut + 1 != high;) {
    ++cut;
    sum += exp_of_negative(cut->logit - best);
  }
  std::erase_if(candidates_, [&](const Candidate& c) { return better(*cut, c); });
}

void Sampler::keep_min_p() {
  if (options_.min_p <= 0.0F) return;
  const float lowest = best_ + std::log(options_.min_p);
  if (!candidates_.empty()) {
    std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < lowest; });
    return;
  }
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    if (logits_[i] >= lowest) candidates_.push_back({logits_[i], static_cast<std::int32_t>(i)});
  }
}

std::int32_t Sampler::draw() {
  const bool all = candidates_.empty();
  if (all) {
    weights_ = logits_;
  } else {
    weights_.resize(candidates_.size());
    std::transform(candidates_.begin(), candidates_.end(), weights_.begin(),
                   [](const Candidate& c) { return c.logit; });
  }
  const float best = best_;
  const float t = options_.temperature;
  for (float& w : weights_) w = exp_of_negative((w - best) / t);
  double total = 0.0;
  for (const float w : weights_) total += w;
  double left = random_.uniform() * total;
  std::size_t picked = 0;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0.0F) continue;
    picked = i;  // the last that can be drawn stands in when rounding leaves a rest
    left -= weights_[i];
    if (left < 0.0) break;
  }
  return all ? static_cast<std::int32_t>(picked) : candidates_[picked].id;
}

}  // namespace nemo
