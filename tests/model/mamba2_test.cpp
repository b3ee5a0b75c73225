// The whole Mamba-2 mixer: biases of its projections.
#include "catch.hpp"

#include <nemo/kernels.hpp>
#include <nemo/model/mamba2.hpp>

#include <algorithm>
#include <random>
#include <vector>

namespace {

using namespace nemo;

std::vector<float> normals(std::int64_t n, float size, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, size);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = normal(rng);
  return x;
}

Matrix view(const std::vector<float>& data, std::int64_t rows, std::int64_t cols) {
  return {DType::f32, 1, rows, cols, reinterpret_cast<const std::byte*>(data.data()), {}, {}};
}

}  // namespace

TEST_CASE("biases of Mamba's projections act as a constant input and a constant output") {
  constexpr std::int64_t kTokens = 21, kWidth = 40;
  Mamba2Weights w;
  w.shape.heads = 4;
  w.shape.head_dim = 12;
  w.shape.groups = 2;
  w.shape.state = 16;
  w.shape.conv_kernel = 4;
  const std::int64_t rows = w.shape.in_rows(), inner = w.shape.inner();
  const auto in = normals(rows * kWidth, 0.2f, 1), out_proj = normals(kWidth * inner, 0.2f, 2);
  w.in_proj = view(in, rows, kWidth);
  w.out_proj = view(out_proj, kWidth, inner);
  w.in_bias = normals(rows, 1, 3);
  w.out_bias = normals(kWidth, 1, 4);
  w.conv = normals(w.shape.conv_channels() * 4, 0.5f, 5);
  w.a = {-1, -2, -0.5f, -3};
  w.d = {1, 0.5f, 2, 1};
  w.dt_bias = {0, -1, 1, 0.3f};
  w.norm.assign(static_cast<std::size_t>(inner), 1.0f);
  w.norm_eps = 1e-5f;
  const auto x = normals(kTokens * kWidth, 1, 6);

  // The same network: the bias as the column of an input that is always 1.
  std::vector<float> wide_in, wide_x;
  for (std::int64_t r = 0; r < rows; ++r) {
    wide_in.insert(wide_in.end(), in.begin() + r * kWidth, in.begin() + (r + 1) * kWidth);
    wide_in.push_back(w.in_bias[static_cast<std::size_t>(r)]);
  }
  for (std::int64_t t = 0; t < kTokens; ++t) {
    wide_x.insert(wide_x.end(), x.begin() + t * kWidth, x.begin() + (t + 1) * kWidth);
    wide_x.push_back(1.0f);
  }
  Mamba2Weights wide = w;
  wide.in_proj = view(wide_in, rows, kWidth + 1);
  wide.in_bias.clear();
  wide.out_bias.clear();

  for (const Kernels* kernels : available_kernels()) {
    Compute compute(*kernels, 2);
    compute.fine_activations = true;  // one token after another and chunks agree as floats do
    Activations input(compute, x.data(), kTokens, kWidth, kWidth);
    Activations wide_input(compute, wide_x.data(), kTokens, kWidth + 1, kWidth + 1);
    std::vector<float> own(kTokens * kWidth), ahead(own.size()), expected(own.size());
    Mamba2State state(w.shape), wide_state(w.shape);
    Mamba2Replay replay;
    mamba2(compute, w, input, std::as_const(state), ahead.data(), kWidth, replay);
    mamba2(compute, w, input, state, own.data(), kWidth);
    mamba2(compute, wide, wide_input, wide_state, expected.data(), kWidth);
    for (std::size_t i = 0; i < own.size(); ++i) {
      const float bias = w.out_bias[i % kWidth];
      CHECK(own[i] == Approx(expected[i] + bias).margin(2e-5));
      CHECK(ahead[i] == Approx(expected[i] + bias).margin(2e-5));
    }
  }
}
