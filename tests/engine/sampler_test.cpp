// The sampling chain: every filter on cases small enough to check by hand, draws by statistics.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/sampler.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

namespace {

using nemo::Sampler;
using nemo::SamplingOptions;
using Tokens = std::vector<std::int32_t>;

// Logits whose softmax is proportional to `weights`.
std::vector<float> from_weights(const std::vector<double>& weights) {
  std::vector<float> logits;
  for (const double w : weights) logits.push_back(static_cast<float>(std::log(w)));
  return logits;
}

Sampler make(SamplingOptions options, std::size_t vocab, const Tokens& end_tokens = {}) {
  if (!options.seed) options.seed = 42;
  return Sampler(options, end_tokens, static_cast<std::int64_t>(vocab));
}

SamplingOptions greedy() {
  SamplingOptions options;
  options.temperature = 0.0F;
  return options;
}

std::vector<double> frequencies(Sampler& sampler, const std::vector<float>& logits, int draws) {
  std::vector<double> share(logits.size(), 0.0);
  for (int i = 0; i < draws; ++i) {
    share[static_cast<std::size_t>(sampler.sample(logits, i))] += 1.0 / draws;
  }
  return share;
}

std::set<std::int32_t> drawn(const SamplingOptions& options, const std::vector<float>& logits) {
  auto sampler = make(options, logits.size());
  std::set<std::int32_t> seen;
  for (int i = 0; i < 3000; ++i) seen.insert(sampler.sample(logits, i));
  return seen;
}

// Six standard deviations of a share measured by 20000 draws: sqrt(p (1-p) / n) <= 0.0036.
constexpr int kDraws = 20000;
constexpr double kStatistical = 6 * 0.0036;

}  // namespace

TEST_CASE("temperature 0 takes the highest logit and the lowest id of equals") {
  auto sampler = make(greedy(), 5);
  CHECK(sampler.sample(std::vector<float>{0, 3, -1, 3, 2}, 0) == 1);
  CHECK(sampler.sample(std::vector<float>{-5, -5, -5, -5, -5}, 1) == 0);
  CHECK(sampler.sample(std::vector<float>{-9, -8, -7, -6, -6.5F}, 2) == 3);
}

TEST_CASE("draws follow the softmax of the logits over the temperature") {
  const auto logits = from_weights({0.5, 0.25, 0.125, 0.125});
  for (const float t : {0.5F, 1.0F, 2.0F}) {
    SamplingOptions options;
    options.temperature = t;
    auto sampler = make(options, logits.size());
    const auto share = frequencies(sampler, logits, kDraws);
    double total = 0.0;
    for (const float l : logits) total += std::exp(static_cast<double>(l / t));
    for (std::size_t i = 0; i < logits.size(); ++i) {
      CHECK(std::abs(share[i] - std::exp(static_cast<double>(logits[i] / t)) / total) <
            kStatistical);
    }
  }
}

TEST_CASE("a huge temperature draws evenly, a tiny one takes the best") {
  const auto logits = from_weights({0.7, 0.2, 0.1});
  SamplingOptions options;
  options.temperature = 1e30F;
  auto flat = make(options, 3);
  for (const double share : frequencies(flat, logits, kDraws)) {
    CHECK(std::abs(share - 1.0 / 3) < kStatistical);
  }
  options.temperature = std::numeric_limits<float>::denorm_min();
  CHECK(drawn(options, logits) == std::set<std::int32_t>{0});
}

TEST_CASE("top-k keeps the k best, of equals the lowest ids") {
  SamplingOptions options;
  options.top_k = 3;
  CHECK(drawn(options, {1, 5, 2, 4, 0, 3}) == std::set<std::int32_t>{1, 3, 5});
  CHECK(drawn(options, {1, 1, 1, 1, 1, 1}) == std::set<std::int32_t>{0, 1, 2});
  options.top_k = 1;
  CHECK(drawn(options, {2, 7, 7}) == std::set<std::int32_t>{1});
  options.top_k = 100;
  CHECK(drawn(options, {1, 1, 1}) == std::set<std::int32_t>{0, 1, 2});
}

TEST_CASE("top-p keeps the fewest best tokens that reach the mass") {
  const auto logits = from_weights({0.05, 0.4, 0.1, 0.3, 0.15});
  const auto kept = [&](float p) {
    SamplingOptions options;
    options.top_p = p;
    return drawn(options, logits);
  };
  CHECK(kept(0.0F) == std::set<std::int32_t>{1});
  CHECK(kept(0.39F) == std::set<std::int32_t>{1});
  CHECK(kept(0.41F) == std::set<std::int32_t>{1, 3});
  CHECK(kept(0.69F) == std::set<std::int32_t>{1, 3});
  CHECK(kept(0.71F) == std::set<std::int32_t>{1, 3, 4});
  CHECK(kept(0.94F) == std::set<std::int32_t>{1, 2, 3, 4});
  CHECK(kept(0.96F) == std::set<std::int32_t>{0, 1, 2, 3, 4});
  CHECK(kept(1.0F) == std::set<std::int32_t>{0, 1, 2, 3, 4});
}

TEST_CASE("top-p keeps the lowest ids of equals") {
  SamplingOptions options;
  options.top_p = 0.49F;
  CHECK(drawn(options, std::vector<float>(8, 0.0F)) == std::set<std::int32_t>{0, 1, 2, 3});
  options.top_p = 0.0F;
  CHECK(drawn(options, std::vector<float>(8, 0.0F)) == std::set<std::int32_t>{0});
}

TEST_CASE("min-p keeps tokens at least that likely relative to the best") {
  const auto logits = from_weights({0.4, 0.05, 0.21, 0.19, 0.15});
  SamplingOptions options;
  options.min_p = 0.5F;
  CHECK(drawn(options, logits) == std::set<std::int32_t>{0, 2});
  options.min_p = 0.3F;
  CHECK(drawn(options, logits) == std::set<std::int32_t>{0, 2, 3, 4});
  options.min_p = 1.0F;
  CHECK(drawn(options, logits) == std::set<std::int32_t>{0});
}

TEST_CASE("the filters cut at temperature 1 and in the order top-k, top-p, min-p") {
  const auto logits = from_weights({0.4, 0.3, 0.2, 0.1});
  SamplingOptions options;
  options.temperature = 5.0F;  // would flatten 0.4 : 0.1 to 1.32 : 1 if it came first
  options.min_p = 0.6F;
  CHECK(drawn(options, logits) == std::set<std::int32_t>{0, 1});
  options.min_p = 0.0F;
  options.top_k = 3;      // of 0.4 + 0.3 + 0.2 = 0.9
  options.top_p = 0.75F;  // 0.7 / 0.9 = 0.78 is enough; 0.7 of 1.0 would not be
  CHECK(drawn(options, logits) == std::set<std::int32_t>{0, 1});
  options.top_k = 0;
  CHECK(drawn(options, logits) == std::set<std::int32_t>{0, 1, 2});
  options.min_p = 0.6F;
  CHECK(drawn(options, logits) == std::set<std::int32_t>{0, 1});
}

TEST_CASE("after a filter the kept tokens share the whole probability") {
  const auto logits = from_weights({0.4, 0.1, 0.2, 0.3});
  SamplingOptions options;
  options.top_k = 2;
  auto sampler = make(options, logits.size());
  const auto share = frequencies(sampler, logits, kDraws);
  CHECK(std::abs(share[0] - 4.0 / 7) < kStatistical);
  CHECK(std::abs(share[3] - 3.0 / 7) < kStatistical);
}

TEST_CASE("selection equals a full sort on a big vocabulary") {
  nemo::Random random(3);
  std::vector<float> logits(20000);
  for (auto& l : logits) l = static_cast<float>(8.0 * random.uniform() * random.uniform());
  for (std::size_t i = 0; i < logits.size(); i += 3) logits[i] = std::floor(logits[i]);  // ties
  Tokens order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  double total = 0.0;
  for (const float l : logits) total += std::exp(static_cast<double>(l));
  for (const float p : {0.001F, 0.1F, 0.5F}) {
    double sum = 0.0;
    std::size_t count = 0;
    while (sum < static_cast<double>(p) * total) {
      sum += std::exp(static_cast<double>(logits[static_cast<std::size_t>(order[count++])]));
    }
    for (const bool by_count : {true, false}) {
      SamplingOptions options;
      options.temperature = 1e30F;  // even draws, so that every kept token appears
      if (by_count) {
        options.top_k = static_cast<std::int64_t>(count);
      } else {
        options.top_p = p;
      }
      auto sampler = make(options, logits.size());
      std::set<std::int32_t> seen;
      for (std::size_t i = 0; i < 12 * count; ++i) seen.insert(sampler.sample(logits, 0));
      const std::set<std::int32_t> head(order.begin(),
                                        order.begin() + static_cast<std::ptrdiff_t>(count));
      CHECK(std::includes(head.begin(), head.end(), seen.begin(), seen.end()));
      CHECK(seen.size() + count / 500 + 1 >= count);  // e^-12 of each kept token stays unseen
    }
  }
}

TEST_CASE("the repetition penalty divides positive and multiplies negative logits") {
  auto options = greedy();
  options.repetition_penalty = 2.0F;
  auto sampler = make(options, 3);
  sampler.accept(0);
  CHECK(sampler.sample(std::vector<float>{1.9F, 1.0F, 0.0F}, 0) == 1);  // 1.9 / 2 < 1
  CHECK(sampler.sample(std::vector<float>{2.1F, 1.0F, 0.0F}, 0) == 0);
  CHECK(sampler.sample(std::vector<float>{-1.0F, -1.9F, -9.0F}, 0) == 1);  // -1 * 2 < -1.9
  sampler.accept(0);  // how often does not matter
  CHECK(sampler.sample(std::vector<float>{2.1F, 1.0F, 0.0F}, 0) == 0);
}

TEST_CASE("presence counts once, frequency every time") {
  auto options = greedy();
  options.presence_penalty = 1.0F;
  auto once = make(options, 2);
  once.accept(0);
  once.accept(0);
  once.accept(0);
  CHECK(once.sample(std::vector<float>{2.1F, 1.0F}, 0) == 0);
  CHECK(once.sample(std::vector<float>{1.9F, 1.0F}, 0) == 1);
  options.presence_penalty = 0.0F;
  options.frequency_penalty = 1.0F;
  auto each = make(options, 2);
  each.accept(0);
  each.accept(0);
  each.accept(0);
  CHECK(each.sample(std::vector<float>{3.9F, 1.0F}, 0) == 1);
  CHECK(each.sample(std::vector<float>{4.1F, 1.0F}, 0) == 0);
}

TEST_CASE("penalties look at the last tokens of the window only") {
  auto options = greedy();
  options.presence_penalty = 5.0F;
  options.penalty_window = 2;
  auto sampler = make(options, 3);
  const std::vector<float> logits = {3, 2, 1};
  CHECK(sampler.sample(logits, 0) == 0);
  sampler.accept(0);
  CHECK(sampler.sample(logits, 0) == 1);
  sampler.accept(1);
  CHECK(sampler.sample(logits, 0) == 2);
  sampler.accept(2);  // 0 leaves the window
  CHECK(sampler.sample(logits, 0) == 0);
  sampler.accept(2);
  sampler.accept(2);  // only 2 is left inside
  CHECK(sampler.sample(logits, 0) == 0);
  sampler.accept(0);
  CHECK(sampler.sample(logits, 0) == 1);

  options.penalty_window = 0;
  auto off = make(options, 3);
  off.accept(0);
  CHECK(off.sample(logits, 0) == 0);
  options.penalty_window = -1;
  auto all = make(options, 3);
  all.accept(0);
  for (int i = 0; i < 1000; ++i) all.accept(2);
  CHECK(all.sample(logits, 0) == 1);
}

TEST_CASE("biases add up and minus infinity forbids a token") {
  auto options = greedy();
  options.logit_bias = {{2, 1.5F}, {2, 1.0F}};
  auto sampler = make(options, 3);
  CHECK(sampler.sample(std::vector<float>{2.4F, 0, 0}, 0) == 2);
  CHECK(sampler.sample(std::vector<float>{2.6F, 0, 0}, 0) == 0);

  SamplingOptions forbid;
  forbid.logit_bias = {{0, -std::numeric_limits<float>::infinity()}};
  CHECK(drawn(forbid, {9, 0, 0}) == std::set<std::int32_t>{1, 2});
  forbid.top_k = 2;
  forbid.presence_penalty = -3.0F;  // a reward must not bring it back
  CHECK(drawn(forbid, {9, 0, 0}) == std::set<std::int32_t>{1, 2});
}

TEST_CASE("end tokens are suppressed until min_tokens were generated") {
  auto options = greedy();
  options.min_tokens = 2;
  auto sampler = make(options, 4, {3, 1, 77, -1});
  const std::vector<float> logits = {0, 5, 1, 9};
  CHECK(sampler.sample(logits, 0) == 2);
  CHECK(sampler.sample(logits, 1) == 2);
  CHECK(sampler.sample(logits, 2) == 3);
}

TEST_CASE("the same seed draws the same tokens, another seed others") {
  const auto logits = from_weights(std::vector<double>(50, 1.0));
  const auto run = [&](std::uint64_t seed) {
    SamplingOptions options;
    options.seed = seed;
    Sampler sampler(options, {}, 50);
    Tokens tokens;
    for (int i = 0; i < 40; ++i) tokens.push_back(sampler.sample(logits, i));
    return tokens;
  };
  CHECK(run(1) == run(1));
  CHECK(run(1) != run(2));
  const Sampler unseeded({}, {}, 50);
  CHECK(unseeded.seed() != Sampler({}, {}, 50).seed());
}

TEST_CASE("the generator gives xoshiro256** numbers on every platform") {
  nemo::Random random(0);  // reference values: the published C code seeded by splitmix64(0)
  CHECK(random.next() == 11091344671253066420U);
  CHECK(random.next() == 13793997310169335082U);
  CHECK(random.next() == 1900383378846508768U);
  for (int i = 0; i < 1000; ++i) {
    const double u = random.uniform();
    CHECK((u >= 0.0 && u < 1.0));
  }
}

TEST_CASE("logits that are not finite numbers are an error, not an answer") {
  auto sampler = make(greedy(), 3);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    try {
      (void)sampler.sample(std::vector<float>{0, bad, 1}, 0);
      FAIL("no error");
    } catch (const nemo::Error& e) {
      CHECK(e.code() == nemo::ErrorCode::internal);
      CHECK_THAT(e.what(), Contains("token 1"));
    }
  }
  CHECK_THROWS_AS(sampler.sample(std::vector<float>{0, 1}, 0), nemo::Error);
}

TEST_CASE("extreme but legal options keep every draw inside the vocabulary") {
  SamplingOptions options;
  options.repetition_penalty = std::numeric_limits<float>::min();
  options.frequency_penalty = 100.0F;
  options.presence_penalty = -100.0F;
  options.logit_bias = {{0, std::numeric_limits<float>::max()}, {1, -1e38F}};
  options.top_p = 0.5F;
  options.min_p = 1e-30F;
  auto sampler = make(options, 4);
  const float big = std::numeric_limits<float>::max();
  for (int i = 0; i < 200; ++i) {
    const auto token = sampler.sample(std::vector<float>{big, -big, 0, big}, i);
    CHECK((token >= 0 && token < 4));
    sampler.accept(token);
  }
}

TEST_CASE("values outside their range are refused by the flag's name") {
  const auto message = [](auto change) -> std::string {
    SamplingOptions options;
    change(options);
    try {
      validate(options, 100);
    } catch (const nemo::Error& e) {
      return e.code() == nemo::ErrorCode::usage ? e.what() : "wrong code";
    }
    return "accepted";
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(message([](auto&) {}) == "accepted");
  CHECK_THAT(message([](auto& o) { o.temperature = -0.1F; }), Contains("--temp"));
  CHECK_THAT(message([&](auto& o) { o.temperature = nan; }), Contains("--temp"));
  CHECK_THAT(message([](auto& o) { o.top_k = -1; }), Contains("--top-k"));
  CHECK_THAT(message([](auto& o) { o.top_p = 1.1F; }), Contains("--top-p"));
  CHECK_THAT(message([&](auto& o) { o.top_p = nan; }), Contains("--top-p"));
  CHECK_THAT(message([](auto& o) { o.min_p = -0.1F; }), Contains("--min-p"));
  CHECK_THAT(message([](auto& o) { o.repetition_penalty = 0.0F; }), Contains("--repeat-penalty"));
  CHECK_THAT(message([](auto& o) { o.penalty_window = -2; }), Contains("--repeat-last-n"));
  CHECK_THAT(message([&](auto& o) { o.presence_penalty = nan; }), Contains("--presence-penalty"));
  CHECK_THAT(message([&](auto& o) { o.frequency_penalty = 1e30F; }),
             Contains("--frequency-penalty"));
  CHECK_THAT(message([](auto& o) { o.min_tokens = -1; }), Contains("--min-tokens"));
  CHECK_THAT(message([](auto& o) { o.logit_bias = {{100, 1.0F}}; }), Contains("--logit-bias"));
  CHECK_THAT(message([&](auto& o) { o.logit_bias = {{1, nan}}; }), Contains("--logit-bias"));
}

TEST_CASE("forbidding every token is an error") {
  auto options = greedy();
  const float never = -std::numeric_limits<float>::infinity();
  options.logit_bias = {{0, never}, {1, never}};
  auto sampler = make(options, 2);
  CHECK_THROWS_AS(sampler.sample(std::vector<float>{0, 1}, 0), nemo::Error);
}
