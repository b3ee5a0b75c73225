// The reference kernels against the same formulas written independently in double precision.
#include "catch.hpp"

#include <nemo/base/aligned.hpp>
#include <nemo/kernels.hpp>

#include <Eigen/Dense>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace nemo;

namespace {

using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using VectorF = Eigen::VectorXf;
using VectorD = Eigen::VectorXd;
using Index = Eigen::Index;

const Kernels& reference() { return select_kernels("reference"); }

MatrixF random_matrix(Index rows, Index cols, unsigned seed, float spread = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  return MatrixF::NullaryExpr(rows, cols, [&] { return normal(random); });
}

std::vector<Half> to_halves(const MatrixF& x) {
  std::vector<Half> out(static_cast<std::size_t>(x.size()));
  reference().half_from_float(x.data(), x.size(), out.data());
  return out;
}

/// What the halves of x say, in double.
MatrixD through_half(const MatrixF& x) {
  return x.unaryExpr([](float v) { return static_cast<double>(to_float(to_half(v))); });
}

/// One rounding of the result and one of each term: a few 2^-24 of the sum of magnitudes.
bool close(const MatrixF& actual, const MatrixD& expected, const MatrixD& magnitude) {
  return (((actual.cast<double>() - expected).array().abs()) <= 3e-7 * magnitude.array() + 1e-30)
      .all();
}

double silu(double x) { return x / (1.0 + std::exp(-x)); }

}  // namespace

TEST_CASE("matrix products equal Eigen's in double, with and without accumulation") {
  for (const auto& [m, n, k] :
       {std::array<Index, 3>{1, 1, 1}, {3, 5, 7}, {17, 33, 129}, {4, 130, 64}, {2, 3, 0}}) {
    const MatrixF a = random_matrix(m, k, 1);
    const MatrixF b = random_matrix(n, k, 2);
    const MatrixF start = random_matrix(m, n + 2, 3);  // ldc > n: neighbours must survive
    const MatrixF at = a.transpose();
    const MatrixF bt = b.transpose();
    const MatrixD product = a.cast<double>() * b.cast<double>().transpose();
    const MatrixD size = a.cast<double>().cwiseAbs() * b.cast<double>().cwiseAbs().transpose();
    for (const bool accumulate : {false, true}) {
      const MatrixD first = start.leftCols(n).cast<double>();
      const MatrixD expected = accumulate ? MatrixD(first + product) : product;
      const MatrixD magnitude = accumulate ? MatrixD(first.cwiseAbs() + size) : size;
      MatrixF c = start;
      reference().gemm_nt(m, n, k, a.data(), k, b.data(), k, c.data(), n + 2, accumulate);
      CHECK(close(c.leftCols(n), expected, magnitude));
      CHECK(c.rightCols(2) == start.rightCols(2));
      c = start;
      reference().gemm_nn(m, n, k, a.data(), k, bt.data(), n, c.data(), n + 2, accumulate);
      CHECK(close(c.leftCols(n), expected, magnitude));
      CHECK(c.rightCols(2) == start.rightCols(2));
      c = start;
      reference().gemm_tn(m, n, k, at.data(), m, bt.data(), n, c.data(), n + 2, accumulate);
      CHECK(close(c.leftCols(n), expected, magnitude));
      CHECK(c.rightCols(2) == start.rightCols(2));
    }
  }
}

TEST_CASE("elementwise kernels do what their comment says") {
  const Index n = 37;
  const VectorF x = random_matrix(n, 1, 4);
  const VectorF y0 = random_matrix(n, 1, 5);
  VectorF y = y0;
  reference().add(x.data(), n, y.data());
  CHECK(y == y0 + x);
  y = y0;
  reference().axpy(0.375f, x.data(), n, y.data());
  CHECK((y - (y0 + 0.375f * x)).cwiseAbs().maxCoeff() <= 3e-7f);
  y = y0;
  reference().scale(-1.25f, n, y.data());
  CHECK(y == -1.25f * y0);
  y = y0;
  reference().relu2(y.data(), n);
  CHECK(y == y0.cwiseMax(0.0f).cwiseAbs2());
  CHECK(reference().max(x.data(), n) == x.maxCoeff());
  CHECK(reference().max(x.data(), 0) == -std::numeric_limits<float>::infinity());
}

TEST_CASE("rms_norm divides by the root mean square, in place too") {
  for (const Index n : {1, 7, 2688}) {
    const VectorF x = random_matrix(n, 1, 6, 3.0f);
    const VectorF w = random_matrix(n, 1, 7);
    const double rms = std::sqrt(x.cast<double>().squaredNorm() / static_cast<double>(n) + 1e-5);
    const VectorD expected = w.cast<double>().cwiseProduct(x.cast<double>()) / rms;
    VectorF y(n);
    reference().rms_norm(x.data(), w.data(), n, 1e-5f, y.data());
    CHECK(close(y, expected, expected.cwiseAbs()));
    VectorF in_place = x;
    reference().rms_norm(in_place.data(), w.data(), n, 1e-5f, in_place.data());
    CHECK(in_place == y);
  }
  const VectorF zero = VectorF::Zero(8);
  VectorF y = VectorF::Ones(8);
  reference().rms_norm(zero.data(), zero.data(), 8, 1e-5f, y.data());
  CHECK(y == zero);
}

TEST_CASE("gated_group_norm gates first and normalises each group by itself") {
  const Index groups = 4;
  const Index width = 24;
  const MatrixF y = random_matrix(groups, width, 8);
  const MatrixF z = random_matrix(groups, width, 9, 4.0f);
  const MatrixF w = random_matrix(groups, width, 10);
  MatrixD expected(groups, width);
  for (Index g = 0; g < groups; ++g) {
    const VectorD gated = y.row(g).cast<double>().cwiseProduct(
        z.row(g).cast<double>().unaryExpr([](double v) { return silu(v); }));
    const double rms = std::sqrt(gated.squaredNorm() / static_cast<double>(width) + 1e-5);
    expected.row(g) = gated.transpose().cwiseProduct(w.row(g).cast<double>()) / rms;
  }
  MatrixF out(groups, width);
  reference().gated_group_norm(y.data(), z.data(), w.data(), groups, width, 1e-5f, out.data());
  CHECK(close(out, expected, 2 * expected.cwiseAbs()));
  MatrixF in_place = y;
  reference().gated_group_norm(in_place.data(), z.data(), w.data(), groups, width, 1e-5f,
                               in_place.data());
  CHECK(in_place == out);
}

TEST_CASE("exp_sum gives shifted exponentials and their sum") {
  const VectorF x = random_matrix(100, 1, 11, 10.0f);
  const float shift = x.maxCoeff();
  VectorF y(100);
  const float sum = reference().exp_sum(x.data(), 100, shift, y.data());
  const VectorD expected =
      (x.array() - shift).cast<double>().unaryExpr([](double v) { return std::exp(v); });
  CHECK(close(y, expected, expected));
  CHECK(std::abs(sum - expected.sum()) <= 3e-7 * expected.sum());
  CHECK(reference().exp_sum(x.data(), 0, 0.0f, y.data()) == 0.0f);
  const float masked = -std::numeric_limits<float>::infinity();
  CHECK(reference().exp_sum(&masked, 1, shift, y.data()) == 0.0f);
}

TEST_CASE("conv_silu is a causal convolution that continues across any split of the tokens") {
  const Index tokens = 13;
  const Index channels = 6;
  const Index ldu = 8;
  for (const Index taps : {1, 2, 4}) {
    const MatrixF u = random_matrix(tokens, ldu, 12);
    const MatrixF w = random_matrix(channels, taps, 13);
    const VectorF bias = random_matrix(channels, 1, 14);
    const MatrixF past = random_matrix(channels, taps - 1, 15);
    for (const bool with_bias : {true, false}) {
      MatrixD expected(tokens, channels);
      for (Index t = 0; t < tokens; ++t) {
        for (Index c = 0; c < channels; ++c) {
          double sum = with_bias ? static_cast<double>(bias(c)) : 0.0;
          for (Index j = 0; j < taps; ++j) {
            const Index at = t - (taps - 1) + j;
            const float input = at >= 0 ? u(at, c) : past(c, taps - 1 + at);
            sum += static_cast<double>(w(c, j)) * static_cast<double>(input);
          }
          expected(t, c) = silu(sum);
        }
      }
      MatrixF whole;
      for (const Index step : {tokens, Index{1}, Index{2}, Index{5}}) {
        MatrixF history = past;
        MatrixF out(tokens, channels);
        for (Index t = 0; t < tokens; t += step) {
          const Index count = std::min(step, tokens - t);
          // Channels in two calls as well.
          for (const auto& [c0, c1] : {std::pair<Index, Index>{0, 2}, {2, channels}}) {
            reference().conv_silu(u.data() + t * ldu, ldu, count, c0, c1, w.data(),
                                  with_bias ? bias.data() : nullptr, taps, history.data(),
                                  out.data() + t * channels, channels);
          }
        }
        CHECK(close(out, expected, MatrixD::Constant(tokens, channels, 4.0)));
        for (Index c = 0; c < channels; ++c) {
          for (Index i = 0; i < taps - 1; ++i) {
            CHECK(history(c, i) == u(tokens - (taps - 1) + i, c));
          }
        }
        if (step == tokens) whole = out;
        CHECK(out == whole);
      }
    }
  }
}

TEST_CASE("ssm_step decays the state, adds the outer product and reads it out") {
  const Index head_dim = 5;
  const Index state_size = 19;
  MatrixF state = random_matrix(head_dim, state_size, 16);
  const MatrixF before = state;
  const VectorF x = random_matrix(head_dim, 1, 17);
  const VectorF b = random_matrix(state_size, 1, 18);
  const VectorF c = random_matrix(state_size, 1, 19);
  const double dt = 0.25;
  const double decay = 0.75;
  const double d = 1.5;
  const MatrixD update = dt * x.cast<double>() * b.cast<double>().transpose();
  const MatrixD expected = decay * before.cast<double>() + update;
  const VectorD expected_y = expected * c.cast<double>() + d * x.cast<double>();
  VectorF y(head_dim);
  reference().ssm_step(state.data(), x.data(), b.data(), c.data(), static_cast<float>(dt),
                       static_cast<float>(decay), static_cast<float>(d), head_dim, state_size,
                       y.data());
  CHECK(close(state, expected, before.cast<double>().cwiseAbs() + update.cwiseAbs()));
  const VectorD magnitude = expected.cwiseAbs() * c.cast<double>().cwiseAbs();
  CHECK(close(y, expected_y, 2 * (magnitude + d * x.cast<double>().cwiseAbs())));
}

TEST_CASE("attention scores and mixes over halves equal products in double") {
  const Index rows = 3;
  const Index tokens = 11;
  for (const Index dim : {1, 64, 130}) {
    const MatrixF q = random_matrix(rows, dim, 20);
    const MatrixF k = random_matrix(tokens, dim, 21);
    const MatrixF p = random_matrix(rows, tokens, 22);
    const MatrixF start = random_matrix(rows, dim, 23);
    const std::vector<Half> halves = to_halves(k);
    const MatrixD exact = through_half(k);
    MatrixF scores = MatrixF::Constant(rows, tokens + 1, 7.0f);
    reference().scores_half(q.data(), dim, rows, halves.data(), dim, tokens, dim, scores.data(),
                            tokens + 1);
    CHECK(close(scores.leftCols(tokens), q.cast<double>() * exact.transpose(),
                q.cast<double>().cwiseAbs() * exact.cwiseAbs().transpose()));
    CHECK((scores.rightCols(1).array() == 7.0f).all());
    MatrixF out = start;
    reference().mix_half(p.data(), tokens, rows, halves.data(), dim, tokens, dim, out.data(), dim);
    CHECK(close(out, start.cast<double>() + p.cast<double>() * exact,
                start.cast<double>().cwiseAbs() + p.cast<double>().cwiseAbs() * exact.cwiseAbs()));
    std::vector<float> back(halves.size());
    reference().float_from_half(halves.data(), static_cast<std::int64_t>(halves.size()),
                                back.data());
    CHECK(Eigen::Map<MatrixF>(back.data(), tokens, dim).cast<double>() == exact);
  }
}

TEST_CASE("quantize_q8 keeps every element within half a step and its sums are the codes' sums") {
  const Index n = 32 * 9;
  VectorF x = random_matrix(n, 1, 24);
  x.segment(32, 32).setZero();
  x.segment(64, 32) *= 1e-41f;  // subnormal: no representable scale has a finite inverse
  x.segment(96, 32) *= 1e30f;
  x.segment(128, 32).setConstant(-127.0f / 64.0f);  // a scale of 1 / 64
  x.segment(160, 32) *= 1e-30f;
  AlignedBuffer<std::byte> row(static_cast<std::size_t>(Q8Row::bytes(n)));
  VectorF error(n);
  reference().quantize_q8(x.data(), n, row.data(), error.data());
  const Q8Row q = Q8Row::at(row.data(), n);
  for (Index block = 0; block < n / 32; ++block) {
    INFO("block " << block);
    const VectorF part = x.segment(32 * block, 32);
    const float absmax = part.cwiseAbs().maxCoeff();
    if (block == 1 || block == 2) {
      CHECK(q.scales[block] == 0.0f);
    } else {
      CHECK(q.scales[block] == Q8Row::scale_for(absmax));
    }
    for (Index j = 0; j < 32; ++j) {
      const float back = q.scales[block] * static_cast<float>(q.codes[32 * block + j]);
      CHECK(std::abs(back - part(j)) <= 0.5001f * q.scales[block] + 1e-37f);
      CHECK(error(32 * block + j) == part(j) - back);
      CHECK(q.codes[32 * block + j] >= -127);
    }
    for (Index half = 0; half < 2; ++half) {
      int sum = 0;
      for (Index j = 0; j < 16; ++j) sum += q.codes[32 * block + 16 * half + j];
      CHECK(q.sums[2 * block + half] == sum);
    }
  }
  CHECK(q.codes[128] == -127);
}

TEST_CASE("quantize_q8_winograd has smaller codes, and sums that Winograd's products start from") {
  const Index n = 32 * 5;
  VectorF x = random_matrix(n, 1, 25);
  x.segment(32, 32).setConstant(120.0f / 64.0f);  // a scale of 1 / 64
  x.segment(64, 32).setConstant(-120.0f / 64.0f);
  x.segment(96, 32).setZero();
  AlignedBuffer<std::byte> row(static_cast<std::size_t>(Q8Row::bytes(n)));
  reference().quantize_q8_winograd(x.data(), n, row.data());
  const Q8Row q = Q8Row::at(row.data(), n);
  std::mt19937 random(3);
  for (Index block = 0; block < n / 32; ++block) {
    const std::int8_t* c = q.codes + 32 * block;
    CHECK(q.scales[block] == Q8Row::scale_for(x.segment(32 * block, 32).cwiseAbs().maxCoeff(),
                                              Q8Row::kMostWinogradCode));
    int sum = 0;
    for (Index j = 0; j < 32; ++j) {
      const float back = q.scales[block] * static_cast<float>(c[j]);
      CHECK(std::abs(back - x(32 * block + j)) <= 0.5001f * q.scales[block]);
      CHECK(std::abs(c[j]) <= 120);
      sum += c[j];
    }
    CHECK(q.sums[2 * block] + q.sums[2 * block + 1] == sum);
    // With any codes of weights: products of two for those of four numbers.
    int exact = 0, products = -q.sums[2 * block + 1];
    for (const int first : {8, 24}) {
      for (int i = first; i < first + 4; ++i) {
        const int w0 = static_cast<int>(random() % 16), w1 = static_cast<int>(random() % 16);
        exact += c[i] * w0 + c[i + 4] * w1;
        products += (c[i] + w1 + 120) * (c[i + 4] + w0 - 8) - (w1 + 120) * (w0 - 8);
      }
    }
    CHECK(products == exact);
  }
  CHECK((q.codes[32] == 120 && q.codes[64] == -120));
}

TEST_CASE("scales of activations are a level times a power of two, and the smallest that do") {
  std::mt19937 random(7);
  for (int i = 0; i < 100000; ++i) {
    const auto absmax = std::bit_cast<float>(static_cast<std::uint32_t>(random()) & 0x7fffffffu);
    INFO("absmax " << absmax);
    const float scale = Q8Row::scale_for(absmax);
    const double wanted = static_cast<double>(absmax) / 127.0;
    if (!std::isfinite(absmax)) continue;  // no absmax is NaN
    if (scale == 0.0f) {
      REQUIRE(wanted < 0x1p-126);
      continue;
    }
    if (std::isinf(scale)) {
      REQUIRE(wanted > 0.99 * static_cast<double>(Q8Row::kLargestScale));
      continue;
    }
    const int level = Q8Row::level_of(scale);
    REQUIRE(scale == Q8Row::level(level) * Q8Row::power_of(scale));
    int exponent = 0;
    REQUIRE(std::frexp(Q8Row::power_of(scale), &exponent) == 0.5f);
    REQUIRE(static_cast<double>(scale) >= wanted * (1.0 - 1e-7));
    const float below = level > 0 ? Q8Row::level(level - 1) * Q8Row::power_of(scale)
                                  : 1.75f * 0.5f * Q8Row::power_of(scale);
    REQUIRE((static_cast<double>(below) < wanted || scale == 0x1p-126f));
  }
  CHECK(Q8Row::scale_for(127.0f) == 1.0f);
  CHECK(Q8Row::scale_for(127.01f) == 1.25f);
  CHECK(Q8Row::scale_for(0.0f) == 0.0f);
  CHECK(Q8Row::scale_for(127.0f * Q8Row::kLargestScale) == Q8Row::kLargestScale);
  CHECK(std::isinf(Q8Row::scale_for(128.0f * Q8Row::kLargestScale)));
}

TEST_CASE("quantize_q8 survives infinities and NaN") {
  VectorF x = VectorF::Ones(64);
  x(3) = std::numeric_limits<float>::infinity();
  x(40) = std::numeric_limits<float>::quiet_NaN();
  AlignedBuffer<std::byte> row(static_cast<std::size_t>(Q8Row::bytes(64)));
  reference().quantize_q8(x.data(), 64, row.data(), nullptr);
  CHECK(std::isinf(Q8Row::at(row.data(), 64).scales[0]));
}
