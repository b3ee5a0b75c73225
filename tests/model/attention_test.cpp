// Tiled attention over a cache equals softmax attention written out, however it is split.
#include "catch.hpp"

#include <nemo/cache/dense_cache.hpp>
#include <nemo/model/attention.hpp>

#include <cmath>
#include <random>
#include <vector>

namespace {

struct Problem {
  std::int64_t q_heads, kv_heads, dim, total;
  std::vector<float> q, k, v;  // [total, heads*dim]

  Problem(std::int64_t heads, std::int64_t kv, std::int64_t d, std::int64_t tokens, unsigned seed)
      : q_heads(heads), kv_heads(kv), dim(d), total(tokens) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    q.resize(static_cast<std::size_t>(tokens * heads * d));
    k.resize(static_cast<std::size_t>(tokens * kv * d));
    v.resize(k.size());
    for (float& x : q) x = normal(rng);
    for (float& x : k) x = normal(rng);
    for (float& x : v) x = normal(rng);
  }

  [[nodiscard]] nemo::AttentionWeights weights() const {
    nemo::AttentionWeights w;
    w.q_heads = q_heads;
    w.kv_heads = kv_heads;
    w.head_dim = dim;
    w.scale = 1.0f / std::sqrt(static_cast<float>(dim));
    return w;
  }

  [[nodiscard]] std::vector<double> expected() const {
    std::vector<double> out(q.size());
    for (std::int64_t t = 0; t < total; ++t) {
      for (std::int64_t h = 0; h < q_heads; ++h) {
        const std::int64_t g = h / (q_heads / kv_heads);
        std::vector<double> s(static_cast<std::size_t>(t + 1));
        double max = -1e300, sum = 0;
        for (std::int64_t j = 0; j <= t; ++j) {
          double dot = 0;
          for (std::int64_t c = 0; c < dim; ++c) {
            dot += double(q[std::size_t((t * q_heads + h) * dim + c)]) *
                   double(k[std::size_t((j * kv_heads + g) * dim + c)]);
          }
          s[std::size_t(j)] = dot / std::sqrt(double(dim));
          max = std::max(max, s[std::size_t(j)]);
        }
        for (double& x : s) sum += x = std::exp(x - max);
        for (std::int64_t j = 0; j <= t; ++j) {
          for (std::int64_t c = 0; c < dim; ++c) {
            out[std::size_t((t * q_heads + h) * dim + c)] +=
                s[std::size_t(j)] / sum * double(v[std::size_t((j * kv_heads + g) * dim + c)]);
          }
        }
      }
    }
    return out;
  }

  template <class Cache>
  [[nodiscard]] std::vector<float> run(const nemo::Kernels& kernels, int threads,
                                       std::int64_t chunk, bool fine = true) const {
    nemo::Compute compute(kernels, threads);
    compute.fine_activations = fine;
    Cache cache(nemo::KvShape{{{kv_heads, dim}}, total});
    std::vector<float> out(q.size());
    const std::int64_t ldq = q_heads * dim, ldk = kv_heads * dim;
    for (std::int64_t past = 0; past < total; past += chunk) {
      const std::int64_t n = std::min(chunk, total - past);
      cache.append(kernels, 0, past, k.data() + past * ldk, v.data() + past * ldk, ldk, n);
      nemo::detail::attend(compute, cache, weights(), 0, past, n, q.data() + past * ldq, ldq,
                           out.data() + past * ldq, ldq);
    }
    return out;
  }
};

double max_difference(const std::vector<float>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double(a[i]) - b[i]));
  return worst;
}

}  // namespace

TEST_CASE("attention equals the definition for every grouping, length and chunk") {
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    for (const auto& [heads, kv] :
         {std::pair{4, 4}, std::pair{8, 2}, std::pair{16, 1}, std::pair{5, 1}}) {
      for (const std::int64_t total : {1, 2, 17, 129, 530}) {
        const Problem p(heads, kv, 32, total, static_cast<unsigned>(heads + total));
        const std::vector<double> expected = p.expected();
        for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{37}, total}) {
          if (chunk == 1 && total > 200) continue;  // a minute of scalar code, nothing new
          INFO(kernels->name << " heads " << heads << "/" << kv << " total " << total << " chunk "
                             << chunk);
          CHECK(max_difference(p.run<nemo::Fp32Cache>(*kernels, 2, chunk), expected) < 2e-6);
          CHECK(max_difference(p.run<nemo::Fp16Cache>(*kernels, 2, chunk), expected) < 4e-3);
          // Queries, keys, weights and values may be rounded to 8 bits: 2^-8 of values around 1.
          CHECK(max_difference(p.run<nemo::Fp16Cache>(*kernels, 2, chunk, false), expected) < 3e-2);
        }
      }
    }
  }
}

TEST_CASE("attention gives the same bits for every number of threads") {
  const Problem p(8, 2, 64, 1100, 3);
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    for (const std::int64_t chunk : {std::int64_t{100}, std::int64_t{1100}}) {
      for (const bool fine : {true, false}) {
        const auto one = p.run<nemo::Fp16Cache>(*kernels, 1, chunk, fine);
        CHECK(p.run<nemo::Fp16Cache>(*kernels, 2, chunk, fine) == one);
        CHECK(p.run<nemo::Fp16Cache>(*kernels, 3, chunk, fine) == one);
      }
    }
  }
}

TEST_CASE("more ranges than partials have room for give the same bits") {
  // Four tokens of 6 x 64 heads. One thread walks the ranges of each kv head; two share them, five
  // ranges at a time.
  constexpr std::int64_t kKvHeads = 6, kGroup = 64, kDim = 256, kTotal = 3100, kTokens = 4;
  constexpr std::int64_t kPartial = kTokens * kGroup * kDim;
  static_assert(kKvHeads * kPartial * (kTotal / nemo::detail::kRange) >
                nemo::detail::kPartialFloats);
  const Problem queries(kKvHeads * kGroup, kKvHeads, kDim, kTokens, 5);
  const Problem past(kKvHeads, kKvHeads, kDim, kTotal, 6);
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  nemo::Fp16Cache cache(nemo::KvShape{{{kKvHeads, kDim}}, kTotal});
  cache.append(kernels, 0, 0, past.k.data(), past.v.data(), kKvHeads * kDim, kTotal);
  const auto attend = [&](int threads) {
    nemo::Compute compute(kernels, threads);
    std::vector<float> out(queries.q.size());
    const std::int64_t ld = kKvHeads * kGroup * kDim;
    nemo::detail::attend(compute, cache, queries.weights(), 0, kTotal - kTokens, kTokens,
                         queries.q.data(), ld, out.data(), ld);
    return out;
  };
  const auto expected = attend(1);
  CHECK(attend(2) == expected);
  CHECK(attend(3) == expected);
}

TEST_CASE("attention survives scores far outside the range of exp") {
  Problem p(2, 1, 32, 200, 9);
  for (float& x : p.q) x *= 200.0f;
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    for (const float x : p.run<nemo::Fp32Cache>(*kernels, 2, 50)) REQUIRE(std::isfinite(x));
  }
}
