// The float kernels of every fast table against `reference`: all lengths, strides and edge values.
#include "catch.hpp"
#include "fast_support.hpp"

#include <limits>

#ifdef NEMO_HAVE_EMULATED_UNIT
#include "emulated_unit.hpp"
#endif

using namespace nemo;
using namespace nemo::test;

namespace {

const float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

/// Elements with |a - b| > relative * |b| + absolute; NaN matches NaN.
int different(const std::vector<float>& a, const std::vector<float>& b, double relative,
              double absolute) {
  REQUIRE(a.size() == b.size());
  int count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]);
    const double y = static_cast<double>(b[i]);
    const bool same = a[i] == b[i] || (std::isnan(x) && std::isnan(y)) ||
                      std::abs(x - y) <= relative * std::abs(y) + absolute;
    count += same ? 0 : 1;
  }
  return count;
}

const std::vector<float> kEdges = {0.0f,   -0.0f, 1e-45f, -1e-40f, 1e-38f,  0.5f,    -0.5f,
                                   1.0f,   -1.0f, 20.0f,  -20.0f,  87.0f,   -87.0f,  88.5f,
                                   -88.5f, 89.0f, -95.0f, -103.0f, 104.0f,  -104.0f, 1e4f,
                                   -1e4f,  1e18f, -1e18f, 126.5f,  -126.5f, 3.4e38f};

std::vector<decltype(Kernels::quantize_q8_winograd)> winograd_quantizers(const Kernels& table) {
  std::vector<decltype(Kernels::quantize_q8_winograd)> all;
#ifdef NEMO_HAVE_EMULATED_UNIT
  if (table.name == "avx2") all.push_back(kEmulatedWinogradProducts.quantize);
#endif
  if (table.prefill != nullptr && table.prefill->quantize_q8_winograd != nullptr) {
    all.push_back(table.prefill->quantize_q8_winograd);
  }
  return all;
}

}  // namespace

TEST_CASE("activations quantize to the reference's bits") {
  const Kernels& reference = select_kernels("reference");
  for (const Kernels* table : fast_tables()) {
    for (const std::int64_t n : {32, 64, 96, 160, 1856, 2688}) {
      for (const float stddev : {0.0f, 1e-44f, 1e-41f, 1e-38f, 3e-37f, 1e-3f, 1.0f, 1e30f, 1e37f}) {
        auto x = random_floats(n, 1.0f, static_cast<unsigned>(n));
        for (float& v : x) v *= stddev;
        if (stddev == 1.0f) {  // ties, signs of zero, one huge value, one infinity, one NaN
          for (int i = 0; i < 32; ++i) x[at(i)] = static_cast<float>(i) - 15.5f;
          x[31] = 127.0f;
          if (n > 64) x[40] = 1e38f;
          if (n > 96) x[70] = kInf;
          if (n > 128) x[100] = kNan;
        }
        INFO(table->name << " n " << n << " stddev " << stddev);
        std::vector<std::byte> a(at(Q8Row::bytes(n)));
        std::vector<std::byte> b(at(Q8Row::bytes(n)));
        std::vector<float> error_a(at(n));
        std::vector<float> error_b(at(n));
        table->quantize_q8(x.data(), n, a.data(), error_a.data());
        reference.quantize_q8(x.data(), n, b.data(), error_b.data());
        const Q8Row qa = Q8Row::at(a.data(), n);
        const Q8Row qb = Q8Row::at(b.data(), n);
        CHECK(std::memcmp(qa.codes, qb.codes, at(n)) == 0);
        CHECK(std::memcmp(qa.scales, qb.scales, at(n / 32 * 4)) == 0);
        CHECK(std::memcmp(qa.sums, qb.sums, at(n / 16 * 4)) == 0);
        for (std::int64_t i = 0; i < n; ++i) {
          CHECK(((std::isnan(error_a[at(i)]) && std::isnan(error_b[at(i)])) ||
                 error_a[at(i)] == error_b[at(i)]));
        }
        std::vector<std::byte> alone(at(Q8Row::bytes(n)));
        table->quantize_q8(x.data(), n, alone.data(), nullptr);
        CHECK(alone == a);
        for (const auto quantize : winograd_quantizers(*table)) {
          quantize(x.data(), n, a.data());
          reference.quantize_q8_winograd(x.data(), n, b.data());
          CHECK(std::memcmp(qa.codes, qb.codes, at(n)) == 0);
          CHECK(std::memcmp(qa.scales, qb.scales, at(n / 32 * 4)) == 0);
          CHECK(std::memcmp(qa.sums, qb.sums, at(n / 16 * 4)) == 0);
        }
      }
    }
  }
}

TEST_CASE("half conversions equal the reference for every half and for floats of every exponent") {
  const Kernels& reference = select_kernels("reference");
  std::vector<Half> halves;
  for (std::uint32_t i = 0; i < 65536; ++i) halves.push_back({static_cast<std::uint16_t>(i)});
  std::vector<float> floats;
  std::mt19937 random(1);
  for (int i = 0; i < 100003; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(random());
    floats.push_back(std::bit_cast<float>(bits));
  }
  for (const Kernels* table : fast_tables()) {
    std::vector<float> a(halves.size()), b(halves.size());
    table->float_from_half(halves.data(), 65536, a.data());
    reference.float_from_half(halves.data(), 65536, b.data());
    CHECK(different(a, b, 0, 0) == 0);
    std::vector<Half> c(floats.size()), d(floats.size());
    const auto n = static_cast<std::int64_t>(floats.size());
    table->half_from_float(floats.data(), n, c.data());
    reference.half_from_float(floats.data(), n, d.data());
    int wrong = 0;
    for (std::size_t i = 0; i < c.size(); ++i) {
      const bool both_nan = std::isnan(to_float(c[i])) && std::isnan(to_float(d[i]));
      wrong += c[i].bits == d[i].bits || both_nan ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("elementwise kernels equal the reference for every length") {
  const Kernels& reference = select_kernels("reference");
  for (const Kernels* table : fast_tables()) {
    for (std::int64_t n = 0; n <= 70; ++n) {
      INFO(table->name << " n " << n);
      const auto x = random_floats(n, 2.0f, static_cast<unsigned>(n));
      const auto y = random_floats(n, 2.0f, static_cast<unsigned>(n) + 1000);
      auto a = y, b = y;
      table->add(x.data(), n, a.data());
      reference.add(x.data(), n, b.data());
      CHECK(different(a, b, 0, 0) == 0);
      a = b = y;
      table->axpy(0.3f, x.data(), n, a.data());
      reference.axpy(0.3f, x.data(), n, b.data());
      CHECK(different(a, b, 1e-6, 1e-6) == 0);
      a = b = y;
      table->scale(-1.7f, n, a.data());
      reference.scale(-1.7f, n, b.data());
      CHECK(different(a, b, 0, 0) == 0);
      a = b = y;
      table->relu2(a.data(), n);
      reference.relu2(b.data(), n);
      CHECK(different(a, b, 0, 0) == 0);
      CHECK(table->max(x.data(), n) == reference.max(x.data(), n));
      auto negative = x;
      for (float& v : negative) v = -1.0f - std::abs(v);
      CHECK(table->max(negative.data(), n) == reference.max(negative.data(), n));
      if (n == 0) continue;
      a = b = y;
      table->rms_norm(x.data(), y.data(), n, 1e-5f, a.data());
      reference.rms_norm(x.data(), y.data(), n, 1e-5f, b.data());
      CHECK(different(a, b, 1e-6, 1e-7) == 0);
      a = x;
      table->rms_norm(a.data(), y.data(), n, 1e-5f, a.data());
      CHECK(different(a, b, 1e-6, 1e-7) == 0);
    }
  }
}

TEST_CASE("exp_sum is accurate and reaches its limits") {
  const Kernels& reference = select_kernels("reference");
  for (const Kernels* table : fast_tables()) {
    INFO(table->name);
    std::vector<float> x = kEdges;
    x.push_back(-kInf);
    const auto n = static_cast<std::int64_t>(x.size());
    std::vector<float> a(x.size()), b(x.size());
    table->exp_sum(x.data(), n, 0.0f, a.data());
    reference.exp_sum(x.data(), n, 0.0f, b.data());
    CHECK(different(a, b, 2e-7, 1.5e-45) == 0);
    const float with_nan[] = {1.0f, kNan, -kInf, kInf};
    float out[4];
    const float total = table->exp_sum(with_nan, 4, 0.0f, out);
    CHECK((std::isnan(total) && std::isnan(out[1]) && out[2] == 0.0f && out[3] == kInf));
    // Dense over the range of softmax arguments.
    std::vector<float> dense;
    for (int i = 0; i < 200000; ++i) dense.push_back(-104.0f + 0.00096f * static_cast<float>(i));
    std::vector<float> c(dense.size()), d(dense.size());
    const auto m = static_cast<std::int64_t>(dense.size());
    table->exp_sum(dense.data(), m, 0.0f, c.data());
    reference.exp_sum(dense.data(), m, 0.0f, d.data());
    CHECK(different(c, d, 2e-7, 1.5e-45) == 0);
    for (std::int64_t k = 0; k <= 67; ++k) {
      const auto v = random_floats(k, 3.0f, static_cast<unsigned>(k));
      std::vector<float> e(at(k)), f(at(k));
      const float sum = table->exp_sum(v.data(), k, 1.5f, e.data());
      const float expected = reference.exp_sum(v.data(), k, 1.5f, f.data());
      CHECK(sum == Approx(expected).epsilon(1e-6));
      CHECK(different(e, f, 3e-7, 0) == 0);
    }
  }
}

TEST_CASE("gated group norm equals the reference, in place too, also at the limits of silu") {
  const Kernels& reference = select_kernels("reference");
  for (const Kernels* table : fast_tables()) {
    for (const std::int64_t width : {1, 3, 8, 15, 16, 17, 64, 100, 512}) {
      INFO(table->name << " width " << width);
      const std::int64_t n = 3 * width;
      const auto y = random_floats(n, 1.0f, 1);
      auto z = random_floats(n, 10.0f, 2);
      z[0] = -100.0f;
      z[at(n - 1)] = 100.0f;
      const auto w = random_floats(n, 1.0f, 3);
      std::vector<float> a(at(n)), b(at(n));
      table->gated_group_norm(y.data(), z.data(), w.data(), 3, width, 1e-5f, a.data());
      reference.gated_group_norm(y.data(), z.data(), w.data(), 3, width, 1e-5f, b.data());
      CHECK(different(a, b, 2e-6, 1e-7) == 0);
      a = y;
      table->gated_group_norm(a.data(), z.data(), w.data(), 3, width, 1e-5f, a.data());
      CHECK(different(a, b, 2e-6, 1e-7) == 0);
    }
  }
}

TEST_CASE("float matrix products equal the reference for every tail and stride") {
  const Kernels& reference = select_kernels("reference");
  const std::int64_t sizes[][3] = {{1, 1, 1},      {1, 5, 7},      {2, 3, 16},    {3, 17, 33},
                                   {4, 64, 64},    {5, 63, 65},    {7, 100, 40},  {16, 128, 64},
                                   {16, 80, 256},  {64, 128, 128}, {65, 129, 31}, {128, 1, 128},
                                   {1, 200, 1000}, {0, 4, 4},      {4, 0, 4},     {4, 4, 0}};
  for (const Kernels* table : fast_tables()) {
    for (const auto& size : sizes) {
      const std::int64_t m = size[0], n = size[1], k = size[2];
      for (const bool accumulate : {false, true}) {
        for (const std::int64_t pad : {0, 3}) {
          INFO(table->name << " m " << m << " n " << n << " k " << k);
          const auto a = random_floats((m + k + pad) * (m + k + pad) + 1, 1.0f, 1);
          const auto b = random_floats((n + k + pad) * (n + k + pad) + 1, 1.0f, 2);
          const std::int64_t ldc = n + pad;
          const auto start = random_floats(m * ldc, 1.0f, 3);
          // k additions to sums of about sqrt(k): rounding errors of about 2e-8 k, five sigma.
          const double absolute = 1e-7 * static_cast<double>(k) + 1e-6;
          const auto check = [&](auto product, std::int64_t lda, std::int64_t ldb) {
            auto got = start, expected = start;
            (table->*product)(m, n, k, a.data(), lda, b.data(), ldb, got.data(), ldc, accumulate);
            (reference.*product)(m, n, k, a.data(), lda, b.data(), ldb, expected.data(), ldc,
                                 accumulate);
            CHECK(different(got, expected, 1e-6, absolute) == 0);
          };
          check(&Kernels::gemm_nt, k + pad, k + pad);
          check(&Kernels::gemm_nn, k + pad, n + pad);
          check(&Kernels::gemm_tn, m + pad, n + pad);
        }
      }
    }
  }
}

TEST_CASE("the convolution equals the reference for any taps, channels and split of the tokens") {
  const Kernels& reference = select_kernels("reference");
  for (const Kernels* table : fast_tables()) {
    for (const std::int64_t taps : {1, 2, 4, 7, 20}) {
      for (const std::int64_t channels : {1, 15, 16, 37}) {
        for (const bool with_bias : {false, true}) {
          INFO(table->name << " taps " << taps << " channels " << channels);
          const std::int64_t tokens = 11;
          const std::int64_t ldu = channels + 5;
          const std::int64_t ldo = channels + 3;
          const auto u = random_floats(tokens * ldu, 1.0f, 1);
          const auto w = random_floats(channels * taps, 0.7f, 2);
          const auto bias = random_floats(channels, 1.0f, 3);
          const float* b = with_bias ? bias.data() : nullptr;
          const auto history = random_floats(channels * (taps - 1), 1.0f, 4);
          auto h1 = history, h2 = history;
          std::vector<float> a(at(tokens * ldo), 5.0f), e(at(tokens * ldo), 5.0f);
          reference.conv_silu(u.data(), ldu, tokens, 0, channels, w.data(), b, taps, h2.data(),
                              e.data(), ldo);
          // One token, one token, two, the rest; channels in two ranges.
          const std::int64_t cuts[] = {0, 1, 2, 4, tokens};
          for (int i = 0; i < 4; ++i) {
            for (const auto& [c0, c1] :
                 {std::pair{std::int64_t{0}, channels / 2}, std::pair{channels / 2, channels}}) {
              table->conv_silu(u.data() + cuts[i] * ldu, ldu, cuts[i + 1] - cuts[i], c0, c1,
                               w.data(), b, taps, h1.data(), a.data() + cuts[i] * ldo, ldo);
            }
          }
          CHECK(different(a, e, 1e-5, 2e-6) == 0);
          CHECK(h1 == h2);
        }
      }
    }
  }
}

TEST_CASE("a state-space step equals the reference for every head size") {
  const Kernels& reference = select_kernels("reference");
  for (const Kernels* table : fast_tables()) {
    for (const std::int64_t dim : {1, 3, 4, 7, 64}) {
      for (const std::int64_t states : {1, 16, 31, 128}) {
        INFO(table->name << " head " << dim << " x " << states);
        auto s1 = random_floats(dim * states, 1.0f, 1);
        auto s2 = s1;
        const auto x = random_floats(dim, 1.0f, 2);
        const auto b = random_floats(states, 1.0f, 3);
        const auto c = random_floats(states, 1.0f, 4);
        std::vector<float> y1(at(dim)), y2(at(dim));
        table->ssm_step(s1.data(), x.data(), b.data(), c.data(), 0.4f, 0.9f, 1.3f, dim, states,
                        y1.data());
        reference.ssm_step(s2.data(), x.data(), b.data(), c.data(), 0.4f, 0.9f, 1.3f, dim, states,
                           y2.data());
        CHECK(different(s1, s2, 2e-7, 2e-7) == 0);
        CHECK(different(y1, y2, 1e-6, 1e-5) == 0);
      }
    }
  }
}

TEST_CASE("attention products equal the reference for every row, token and dimension tail") {
  const Kernels& reference = select_kernels("reference");
  for (const Kernels* table : fast_tables()) {
    // Parts of bf16 have a bound of their own, in bf16_unit_test.cpp.
    if (table->name == "amx" && table->scores_half != select_kernels("avx512vnni").scores_half) {
      continue;
    }
    for (const std::int64_t dim : {1, 7, 8, 16, 24, 64, 100, 128, 136, 256, 300}) {
      for (const std::int64_t rows : {1, 3, 16, 21}) {
        for (const std::int64_t tokens : {1, 2, 15, 16, 17, 64, 65, 130}) {
          INFO(table->name << " dim " << dim << " rows " << rows << " tokens " << tokens);
          const std::int64_t ldk = 2 * dim;
          // The last key ends where its allocation ends.
          const auto k = random_halves((tokens - 1) * ldk + dim, 1);
          const auto q = random_floats(rows * (dim + 1), 1.0f, 2);
          const std::int64_t lds = tokens + 2;
          std::vector<float> a(at(rows * lds), 5.0f), b(at(rows * lds), 5.0f);
          table->scores_half(q.data(), dim + 1, rows, k.data(), ldk, tokens, dim, a.data(), lds);
          reference.scores_half(q.data(), dim + 1, rows, k.data(), ldk, tokens, dim, b.data(), lds);
          const int wrong_scores = different(a, b, 1e-6, 2e-5);
          const auto p = random_floats(rows * lds, 0.2f, 3);
          auto c = random_floats(rows * (dim + 2), 1.0f, 4);
          auto d = c;
          table->mix_half(p.data(), lds, rows, k.data(), ldk, tokens, dim, c.data(), dim + 2);
          reference.mix_half(p.data(), lds, rows, k.data(), ldk, tokens, dim, d.data(), dim + 2);
          const int wrong_mix = different(c, d, 1e-6, 2e-5);
          if (wrong_scores + wrong_mix != 0) {
            CHECK(wrong_scores == 0);
            CHECK(wrong_mix == 0);
          }
        }
      }
    }
    SUCCEED();
  }
}
