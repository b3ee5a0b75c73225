// Perplexity against values worked out by hand over scripted logits.
#include "catch.hpp"
#include "engine/fake_session.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/perplexity.hpp>

#include <cmath>
#include <limits>

namespace {

using nemo_test::FakeSession;
using nemo_test::Tokens;

constexpr std::int64_t kVocab = 8;

// Predicts one more than the last token, with a logit 10 above the seven others.
FakeSession counting(std::int64_t capacity) {
  return FakeSession(kVocab, capacity,
                     [](const Tokens& held) { return (held.back() + 1) % kVocab; });
}

const double kHit = std::log(1.0 + 7.0 * std::exp(-10.0));
const double kMiss = kHit + 10.0;

}  // namespace

TEST_CASE("a text shorter than the window is scored after its first token") {
  auto session = counting(100);
  nemo::PerplexityOptions options;
  options.window = 100;
  const auto result = perplexity(session, Tokens{0, 1, 2, 7}, kVocab, options);
  CHECK(result.scored_tokens == 3);
  CHECK(result.windows == 1);
  CHECK(result.mean_nll == Approx((2 * kHit + kMiss) / 3));
  CHECK(result.perplexity == Approx(std::exp((2 * kHit + kMiss) / 3)));
  const double mean = (2 * kHit + kMiss) / 3;
  const double variance = (2 * kHit * kHit + kMiss * kMiss) / 3 - mean * mean;
  CHECK(result.standard_error == Approx(result.perplexity * std::sqrt(variance / 2)));
}

TEST_CASE("of every full window the second half is scored, the rest of the text is dropped") {
  auto session = counting(6);
  nemo::PerplexityOptions options;
  options.window = 6;
  // windows: 0 1 2 3 | 4 5 and 0 0 0 0 | 2 1; logits after positions 3 and 4 are scored
  const Tokens text = {0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 2, 1, 7, 7};
  const auto result = perplexity(session, text, kVocab, options);
  CHECK(result.windows == 2);
  CHECK(result.scored_tokens == 4);
  CHECK(result.tokens == 12);
  CHECK(result.mean_nll == Approx((2 * kHit + 2 * kMiss) / 4));
}

TEST_CASE("BOS takes the place of the first token of each window") {
  auto session = counting(4);
  nemo::PerplexityOptions options;
  options.window = 4;
  options.bos = 5;
  (void)perplexity(session, Tokens{0, 1, 2, 3}, kVocab, options);
  CHECK(session.tokens()[0] == 5);
  CHECK(session.tokens()[1] == 1);
}

TEST_CASE("progress covers all windows and can cancel") {
  auto session = counting(4);
  nemo::PerplexityOptions options;
  options.window = 4;
  std::uint64_t last = 0;
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    CHECK(total == 8);
    CHECK(done > last);
    last = done;
    return true;
  };
  (void)perplexity(session, Tokens{0, 1, 2, 3, 4, 5, 6, 7}, kVocab, options);
  CHECK(last == 7);
}

TEST_CASE("texts and windows that cannot be scored are refused") {
  auto session = counting(10);
  nemo::PerplexityOptions options;
  options.window = 10;
  CHECK_THROWS_WITH(perplexity(session, Tokens{1}, kVocab, options), Contains("at least 2"));
  options.window = 11;
  CHECK_THROWS_WITH(perplexity(session, Tokens{1, 2}, kVocab, options), Contains("--ctx 11"));
  options.window = 3;
  CHECK_THROWS_WITH(perplexity(session, Tokens{1, 2}, kVocab, options), Contains("--ctx"));
  options.window = 10;
  session.peak = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(perplexity(session, Tokens{1, 2}, kVocab, options), Contains("not finite"));
}
