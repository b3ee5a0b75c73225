// Routing rules and the grouped expert products against the formula for one token at a time.
#include "catch.hpp"

#include <nemo/model/moe.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace {

using nemo::Matrix;

Matrix view(const std::vector<float>& data, std::int64_t count, std::int64_t rows,
            std::int64_t cols) {
  return {nemo::DType::f32, count, rows, cols, reinterpret_cast<const std::byte*>(data.data()), {}};
}

struct Problem {
  std::int64_t d = 48, inner = 40, shared = 56, experts, k, latent;
  std::vector<float> gate, up, down, shared_up, shared_down, f1, f2, bias;
  std::vector<float> up_bias, down_bias, shared_up_bias, shared_down_bias, f1_bias, f2_bias;

  Problem(std::int64_t e, std::int64_t used, std::int64_t l, unsigned seed, bool biased = false)
      : experts(e), k(used), latent(l) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    const std::int64_t width = latent > 0 ? latent : d;
    const auto fill = [&](std::vector<float>& v, std::int64_t n, float scale) {
      v.resize(static_cast<std::size_t>(n));
      for (float& x : v) x = scale * normal(rng);
    };
    fill(gate, experts * d, 0.3f);
    fill(up, experts * inner * width, 0.2f);
    fill(down, experts * width * inner, 0.2f);
    fill(shared_up, shared * d, 0.2f);
    fill(shared_down, d * shared, 0.2f);
    fill(f1, latent * d, 0.2f);
    fill(f2, d * latent, 0.2f);
    fill(bias, experts, 0.1f);
    if (!biased) return;
    fill(up_bias, experts * inner, 0.5f);
    fill(down_bias, experts * width, 0.5f);
    fill(shared_up_bias, shared, 0.5f);
    fill(shared_down_bias, d, 0.5f);
    fill(f1_bias, latent, 0.5f);
    if (latent > 0) fill(f2_bias, d, 0.5f);
  }

  [[nodiscard]] nemo::MoeWeights weights() const {
    nemo::MoeWeights w;
    const std::int64_t width = latent > 0 ? latent : d;
    w.router = {view(gate, 1, experts, d), bias, k, 1, 1, true, 2.5f};
    w.up = view(up, experts, inner, width);
    w.down = view(down, experts, width, inner);
    w.shared.up = view(shared_up, 1, shared, d);
    w.shared.down = view(shared_down, 1, d, shared);
    if (latent > 0) {
      w.latent_down = view(f1, 1, latent, d);
      w.latent_up = view(f2, 1, d, latent);
    }
    w.up_bias = up_bias;
    w.down_bias = down_bias;
    w.shared.up_bias = shared_up_bias;
    w.shared.down_bias = shared_down_bias;
    w.latent_down_bias = f1_bias;
    w.latent_up_bias = f2_bias;
    return w;
  }

  [[nodiscard]] static std::vector<double> product(const float* w, std::int64_t rows,
                                                   std::int64_t cols, const std::vector<double>& x,
                                                   const std::vector<float>& bias = {},
                                                   std::size_t first = 0) {
    std::vector<double> y(static_cast<std::size_t>(rows));
    for (std::size_t r = 0; r < y.size() && !bias.empty(); ++r) y[r] = double(bias[first + r]);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c)
        y[std::size_t(r)] += double(w[r * cols + c]) * x[std::size_t(c)];
    }
    return y;
  }
  [[nodiscard]] static std::vector<double> relu2(std::vector<double> x) {
    for (double& v : x) v = v > 0 ? v * v : 0;
    return x;
  }

  [[nodiscard]] std::vector<double> expected(const float* x) const {
    const std::vector<double> u(x, x + d);
    const std::vector<double> logits = product(gate.data(), experts, d, u);
    std::vector<double> p(std::size_t(experts), 0.0);
    for (std::size_t e = 0; e < p.size(); ++e) p[e] = 1 / (1 + std::exp(-logits[e]));
    std::vector<std::size_t> order(p.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
      return p[a] + double(bias[a]) > p[b] + double(bias[b]);
    });
    double sum = 0;
    for (std::int64_t i = 0; i < k; ++i) sum += p[order[std::size_t(i)]];
    const std::int64_t width = latent > 0 ? latent : d;
    const std::vector<double> v = latent > 0 ? product(f1.data(), latent, d, u, f1_bias) : u;
    std::vector<double> routed(std::size_t(width), 0.0);
    for (std::int64_t i = 0; i < k; ++i) {
      const std::size_t e = order[std::size_t(i)];
      const auto h = relu2(product(up.data() + std::int64_t(e) * inner * width, inner, width, v,
                                   up_bias, e * std::size_t(inner)));
      const auto o = product(down.data() + std::int64_t(e) * width * inner, width, inner, h,
                             down_bias, e * std::size_t(width));
      for (std::size_t c = 0; c < o.size(); ++c) routed[c] += 2.5 * p[e] / sum * o[c];
    }
    std::vector<double> out = latent > 0 ? product(f2.data(), d, latent, routed, f2_bias) : routed;
    const auto s =
        product(shared_down.data(), d, shared,
                relu2(product(shared_up.data(), shared, d, u, shared_up_bias)), shared_down_bias);
    for (std::size_t c = 0; c < out.size(); ++c) out[c] += s[c];
    return out;
  }
};

std::vector<float> run(const nemo::Kernels& kernels, const nemo::MoeWeights& w,
                       const std::vector<float>& x, std::int64_t tokens, std::int64_t d,
                       int threads) {
  nemo::Compute compute(kernels, threads);
  std::vector<float> out(static_cast<std::size_t>(tokens * d));
  nemo::Activations rows(compute, x.data(), tokens, d, d);
  nemo::moe(compute, w, rows, out.data(), d);
  return out;
}

std::vector<float> random_rows(std::int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = normal(rng);
  return x;
}

}  // namespace

TEST_CASE("grouped experts equal the formula, with and without latent projections and biases") {
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    for (const std::int64_t latent : {0, 32}) {
      for (const auto& [tokens, biased] :
           {std::pair{1, false}, std::pair{3, false}, std::pair{40, false}, std::pair{1, true},
            std::pair{9, true}}) {
        INFO(kernels->name << " latent " << latent << " tokens " << tokens << " biased " << biased);
        const Problem p(10, 3, latent, 7, biased);
        const auto x = random_rows(tokens * p.d, 8);
        const auto out = run(*kernels, p.weights(), x, tokens, p.d, 2);
        CHECK(run(*kernels, p.weights(), x, tokens, p.d, 1) == out);
        for (std::int64_t t = 0; t < tokens; ++t) {
          const auto expected = p.expected(x.data() + t * p.d);
          for (std::int64_t c = 0; c < p.d; ++c) {
            REQUIRE(double(out[std::size_t(t * p.d + c)]) ==
                    Approx(expected[std::size_t(c)]).epsilon(1e-4).margin(1e-4));
          }
        }
      }
    }
  }
}

TEST_CASE("permuting experts together with gate rows and bias leaves the output unchanged") {
  const Problem p(8, 2, 0, 11);
  Problem q = p;
  for (std::int64_t e = 0; e < p.experts; ++e) {
    const std::int64_t from = p.experts - 1 - e;
    const auto move = [&](const std::vector<float>& a, std::vector<float>& b, std::int64_t n) {
      std::copy_n(a.begin() + from * n, n, b.begin() + e * n);
    };
    move(p.gate, q.gate, p.d);
    move(p.bias, q.bias, 1);
    move(p.up, q.up, p.inner * p.d);
    move(p.down, q.down, p.d * p.inner);
  }
  const auto x = random_rows(5 * p.d, 12);
  const nemo::Kernels& kernels = nemo::select_kernels("reference");
  CHECK(run(kernels, p.weights(), x, 5, p.d, 2) == run(kernels, q.weights(), x, 5, p.d, 2));
}

TEST_CASE("the router's bias picks experts but does not weight them, ties go to the lowest index") {
  nemo::RouterWeights w;
  w.gate = {nemo::DType::f32, 1, 4, 1, nullptr, {}};
  w.bias = {0.0f, 0.0f, 0.9f, 0.0f};
  w.used = 2;
  w.scale = 5.0f;
  const float logits[] = {0.0f, 0.0f, -1.0f, 0.0f};
  float scratch[8];
  nemo::Route out[2];
  nemo::detail::select_experts(w, logits, scratch, out);
  CHECK(out[0].expert == 2);
  CHECK(out[1].expert == 0);
  const double p2 = 1 / (1 + std::exp(1.0));
  CHECK(double(out[0].weight) == Approx(5.0 * p2 / (p2 + 0.5)));
  CHECK(double(out[1].weight) == Approx(5.0 * 0.5 / (p2 + 0.5)));
  w.normalise = false;
  nemo::detail::select_experts(w, logits, scratch, out);
  CHECK(double(out[1].weight) == Approx(2.5));
}

TEST_CASE("a group limit keeps the groups with the best two experts together") {
  nemo::RouterWeights w;
  w.gate = {nemo::DType::f32, 1, 6, 1, nullptr, {}};
  w.used = 2;
  w.groups = 3;
  w.groups_used = 1;
  w.scale = 1.0f;
  // The best single expert (0) is in a group whose second is poor; group 1 wins as a pair.
  const float logits[] = {2.0f, -5.0f, 1.0f, 0.9f, 0.0f, 0.0f};
  float scratch[12];
  nemo::Route out[2];
  nemo::detail::select_experts(w, logits, scratch, out);
  CHECK(out[0].expert == 2);
  CHECK(out[1].expert == 3);
}

TEST_CASE("a router fed NaN still names experts that exist") {
  nemo::RouterWeights w;
  w.gate = {nemo::DType::f32, 1, 3, 1, nullptr, {}};
  w.used = 2;
  const float nan = std::nanf("");
  const float logits[] = {nan, nan, nan};
  float scratch[6];
  nemo::Route out[2];
  nemo::detail::select_experts(w, logits, scratch, out);
  for (const nemo::Route& r : out) CHECK((r.expert >= 0 && r.expert < 3));
}
