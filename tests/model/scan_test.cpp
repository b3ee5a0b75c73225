// The chunked scan, the recurrence and the definition in double precision agree.
#include "catch.hpp"

#include <nemo/kernels.hpp>
#include <nemo/model/mamba2.hpp>

#include <cmath>
#include <random>
#include <vector>

namespace {

using nemo::Compute;
using nemo::Mamba2Weights;

struct Problem {
  Mamba2Weights w;
  std::vector<float> xbc, dt, state;
  std::int64_t tokens = 0, ldx = 0;

  Problem(std::int64_t heads, std::int64_t head_dim, std::int64_t groups, std::int64_t state_size,
          std::int64_t count, unsigned seed)
      : tokens(count) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    w.shape.heads = heads;
    w.shape.head_dim = head_dim;
    w.shape.groups = groups;
    w.shape.state = state_size;
    w.shape.conv_kernel = 4;
    ldx = w.shape.conv_channels() + 3;  // rows need not be dense
    for (std::int64_t h = 0; h < heads; ++h) {
      w.a.push_back(-std::exp(normal(rng)));
      w.d.push_back(normal(rng));
    }
    xbc.resize(static_cast<std::size_t>(tokens * ldx));
    for (float& v : xbc) v = normal(rng);
    dt.resize(static_cast<std::size_t>(heads * tokens));
    for (float& v : dt) v = std::exp(normal(rng) - 1.0f);
    state.resize(static_cast<std::size_t>(heads * head_dim * state_size));
    for (float& v : state) v = normal(rng);
  }
  [[nodiscard]] nemo::detail::ScanInput input() const {
    return {xbc.data(), ldx, dt.data(), tokens, tokens};
  }
  [[nodiscard]] std::int64_t inner() const { return w.shape.inner(); }
};

/// y and the final state by the formula, in double.
std::pair<std::vector<double>, std::vector<double>> definition(const Problem& p) {
  const auto& s = p.w.shape;
  std::vector<double> state(p.state.begin(), p.state.end());
  std::vector<double> y(static_cast<std::size_t>(p.tokens * s.inner()));
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    const float* row = p.xbc.data() + t * p.ldx;
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t g = h / (s.heads / s.groups);
      const double dt = p.dt[static_cast<std::size_t>(h * p.tokens + t)];
      const double decay = std::exp(dt * static_cast<double>(p.w.a[static_cast<std::size_t>(h)]));
      for (std::int64_t i = 0; i < s.head_dim; ++i) {
        const double x = row[h * s.head_dim + i];
        double sum = static_cast<double>(p.w.d[static_cast<std::size_t>(h)]) * x;
        for (std::int64_t n = 0; n < s.state; ++n) {
          double& cell = state[static_cast<std::size_t>((h * s.head_dim + i) * s.state + n)];
          cell = decay * cell + dt * x * static_cast<double>(row[s.inner() + g * s.state + n]);
          sum += cell * static_cast<double>(row[s.inner() + (s.groups + g) * s.state + n]);
        }
        y[static_cast<std::size_t>(t * s.inner() + h * s.head_dim + i)] = sum;
      }
    }
  }
  return {y, state};
}

template <class A, class B>
double relative_error(const A& a, const B& b) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(error / norm);
}

/// Checks a chunked scan with floats and with what `kernels` have for prefill.
void check_chunked(const nemo::Kernels& kernels, const Problem& p, std::int64_t chunk,
                   int threads) {
  const auto [expected, expected_state] = definition(p);
  for (const bool fine : {true, false}) {
    // bf16 has 8 significant bits: C, B, the decayed C.B and dt x are off by 2^-9 of themselves.
    const double bound = fine || kernels.prefill == nullptr ? 3e-6 : 4 * 0x1p-9;
    INFO(kernels.name << " fine " << fine);
    Compute compute(kernels, threads);
    compute.fine_activations = fine;
    std::vector<float> y(static_cast<std::size_t>(p.tokens * p.inner()));
    std::vector<float> state = p.state;
    nemo::detail::scan_chunked(compute, p.w, p.input(), chunk, state.data(), y.data(), p.inner());
    CHECK(relative_error(y, expected) < bound);
    CHECK(relative_error(state, expected_state) < bound);
  }
}

}  // namespace

TEST_CASE("the recurrent scan follows the definition, with heads grouped in contiguous blocks") {
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    INFO(kernels->name);
    const Problem p(6, 24, 3, 32, 37, 1);
    Compute compute(*kernels, 2);
    std::vector<float> y(static_cast<std::size_t>(p.tokens * p.inner()));
    std::vector<float> state = p.state;
    nemo::detail::scan_recurrent(compute, p.w, p.input(), state.data(), y.data(), p.inner());
    const auto [expected, expected_state] = definition(p);
    CHECK(relative_error(y, expected) < 1e-6);
    CHECK(relative_error(state, expected_state) < 1e-6);
  }
}

TEST_CASE("the chunked scan equals the recurrence for every chunk size and a partial last chunk") {
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    for (const std::int64_t chunk : {1, 2, 7, 16, 37, 64, 128, 200}) {
      for (const std::int64_t tokens : {1, 16, 37, 130}) {
        INFO("chunk " << chunk << " tokens " << tokens);
        check_chunked(*kernels,
                      Problem(4, 20, 2, 48, tokens, static_cast<unsigned>(chunk + tokens)), chunk,
                      2);
      }
    }
  }
}

TEST_CASE("a chunked scan stays finite where exp of the running decay underflows") {
  Problem p(2, 8, 1, 16, 128, 5);
  for (float& v : p.dt) v = 20.0f;  // c reaches -2560 |a|: exp(c) is zero long before the end
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    check_chunked(*kernels, p, 64, 1);
  }
}
