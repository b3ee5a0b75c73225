// Products of bf16 numbers, on a matrix unit (AMX, an emulated one) in two parts each or rounded to
// one, or rounded in pairs (AVX-512, emulated), against products in double.
#include "catch.hpp"
#include "fast_support.hpp"

#include <algorithm>
#include <cmath>
#include <kernels/cpu/tables.hpp>
#include <limits>
#include <string>

#ifdef NEMO_HAVE_EMULATED_UNIT
#include "emulated_unit.hpp"
#endif

using namespace nemo;
using namespace nemo::test;

namespace {

struct Unit {
  std::string name;
  decltype(Kernels::scores_half) scores;
  decltype(Kernels::mix_half) mix;
  Matmul matmul;  // of bf16 weights
  Matmul e4m3;    // of FP8 weights, or null
  decltype(Kernels::gemm_nt) gemm_nt;
  decltype(Kernels::gemm_nn) gemm_nn;
  decltype(Kernels::gemm_tn) gemm_tn;
  double error;  // of a product of two numbers, one sigma, as a part of it
  bool tiles;    // it has tile registers
  [[nodiscard]] bool counts_products() const { return tiles && name.starts_with("emulated"); }
};
constexpr double kPartsError = 0x1p-17;
constexpr double kRoundedError = 0x1.6p-9;  // each number is off by kRounding of itself at most
constexpr double kRounding = 0x1.01p-8;

std::vector<Unit> units() {
  std::vector<Unit> all;
  for (const Kernels* table : available_kernels()) {
#ifdef NEMO_HAVE_EMULATED_UNIT
    if (table->name == "avx2") {
      const auto add = [&](const char* name, const FloatProducts& p, double error, bool tiles) {
        all.push_back({name, p.scores_half, p.mix_half, p.bf16_matmul, p.e4m3_matmul, p.gemm_nt,
                       p.gemm_nn, p.gemm_tn, error, tiles});
      };
      add("emulated", kEmulatedFloatProducts, kPartsError, true);
      add("emulated rounded", kEmulatedPrefillProducts, kRoundedError, true);
      add("emulated pairs", kEmulatedPairProducts, kRoundedError, false);
    }
#endif
    const Kernels* own = table->prefill;
    if (own == nullptr) continue;
    const bool tiles = table->name == "amx";
    const auto add = [&](const std::string& name, const Kernels& k, double error) {
      const Matmul e4m3 = error == kRoundedError ? k.format(DType::e4m3).matmul : nullptr;
      all.push_back({name, k.scores_half, k.mix_half, k.format(DType::bf16).matmul, e4m3, k.gemm_nt,
                     k.gemm_nn, k.gemm_tn, error, tiles});
    };
    if (tiles) add("amx", *table, kPartsError);
    add(std::string(table->name) + " for prefill", *own, kRoundedError);
  }
  return all;
}

/// Every use of the emulated unit was proper; the products it made.
int products() {
#ifdef NEMO_HAVE_EMULATED_UNIT
  const UnitUse use = take_bf16_unit_use();
  CHECK(use.misuse == 0);
  CHECK_FALSE(use.configured);
  return use.products;
#else
  return 0;
#endif
}

constexpr float kAnything = -77.0f;
/// A product of floats' and halves' parts is off by 2^-17 for the float's rest and, low * low
/// being left out, by 2^-8 * 2^-7, one of rounded numbers by twice 2^-8 at most; float sums add
/// 2^-24 for each of their terms.
template <class Term, class Start>
int wrong(double error_of_product, std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t ld,
          const std::vector<float>& got, float gap, Term term, Start start) {
  int count = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = start(i, j), magnitude = 0, square = 0;
      for (std::int64_t e = 0; e < k; ++e) {
        const double x = term(i, j, e);
        sum += x;
        magnitude += std::abs(x);
        square += x * x;
      }
      // The products' errors are independent: five sigma, besides sums' rounding.
      const double bound = 5 * error_of_product * std::sqrt(square) + 0x1p-22 * magnitude + 1e-37;
      const double error = std::abs(static_cast<double>(got[at(i * ld + j)]) - sum);
      count += error <= bound + 1e-7 * std::abs(start(i, j)) ? 0 : 1;
    }
    for (std::int64_t j = n; j < ld && gap != kAnything; ++j) {
      count += got[at(i * ld + j)] == gap ? 0 : 1;
    }
  }
  return count;
}

/// One product's operands, with gaps between rows; the shared rows end where their memory ends.
struct Case {
  std::int64_t rows, tokens, dim;
  float scale = 1.0f;
  std::vector<float> q, p, out;
  std::vector<Half> cached;
  std::int64_t ldq, ldp, ldo, ldc;

  Case(std::int64_t r, std::int64_t t, std::int64_t d, float s = 1.0f)
      : rows(r), tokens(t), dim(d), scale(s), ldq(d + 1), ldp(t + 2), ldo(d + 2), ldc(2 * d) {
    q = random_floats((rows - 1) * ldq + dim, scale, 2);
    p = random_floats((rows - 1) * ldp + tokens, 0.2f, 3);
    for (float& v : p) v = std::abs(v);
    out = random_floats(rows * ldo, 1.0f, 4);
    cached = random_halves((tokens - 1) * ldc + dim, 1);
    for (Half& h : cached) h = to_half(to_float(h) * scale);
  }
  [[nodiscard]] double cached_at(std::int64_t t, std::int64_t c) const {
    return static_cast<double>(to_float(cached[at(t * ldc + c)]));
  }
  [[nodiscard]] std::vector<float> scores(const Unit& unit) const {
    std::vector<float> s(at(rows * ldp), 5.0f);
    unit.scores(q.data(), ldq, rows, cached.data(), ldc, tokens, dim, s.data(), ldp);
    return s;
  }
  [[nodiscard]] std::vector<float> mix(const Unit& unit) const {
    auto o = out;
    unit.mix(p.data(), ldp, rows, cached.data(), ldc, tokens, dim, o.data(), ldo);
    return o;
  }
  /// How many are further from the exact sum than parts of bf16 explain, or written in the gaps.
  [[nodiscard]] int wrong_scores(const Unit& unit) const {
    const auto s = scores(unit);
    return wrong(
        unit.error, rows, tokens, dim, ldp, s, 5.0f,
        [&](std::int64_t r, std::int64_t t, std::int64_t c) {
          return static_cast<double>(q[at(r * ldq + c)]) * cached_at(t, c);
        },
        [](std::int64_t, std::int64_t) { return 0.0; });
  }
  [[nodiscard]] int wrong_mix(const Unit& unit) const {
    const auto o = mix(unit);
    int gaps = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = dim; c < ldo; ++c) gaps += o[at(r * ldo + c)] != out[at(r * ldo + c)];
    }
    return gaps + wrong(
                      unit.error, rows, dim, tokens, ldo, o, kAnything,
                      [&](std::int64_t r, std::int64_t c, std::int64_t t) {
                        return static_cast<double>(p[at(r * ldp + t)]) * cached_at(t, c);
                      },
                      [&](std::int64_t r, std::int64_t c) {
                        return static_cast<double>(out[at(r * ldo + c)]);
                      });
  }
};

}  // namespace

TEST_CASE("attention products of bf16 numbers are exact but for their rounding, for all tails") {
  for (const Unit& unit : units()) {
    for (const std::int64_t dim : {1, 7, 8, 16, 31, 64, 100, 128, 136, 300}) {
      for (const std::int64_t rows : {1, 5, 8, 16, 21, 64, 70}) {
        for (const std::int64_t tokens : {1, 2, 15, 32, 65, 130}) {
          const Case c(rows, tokens, dim);
          const int scores = c.wrong_scores(unit);
          const int mix = c.wrong_mix(unit);
          if (scores + mix != 0) {
            INFO(unit.name << " dim " << dim << " rows " << rows << " tokens " << tokens);
            CHECK(scores == 0);
            CHECK(mix == 0);
          }
        }
      }
    }
    (void)products();
  }
}

TEST_CASE("products of bf16 numbers take any magnitude") {
  for (const Unit& unit : units()) {
    // The smallest halves are subnormal; queries from 1e-15 on have parts that are not.
    for (const float scale : {1e-6f, 1e-3f, 1e3f}) {
      const Case c(17, 40, 64, scale);
      INFO(unit.name << " scale " << scale);
      CHECK(c.wrong_scores(unit) == 0);
      CHECK(c.wrong_mix(unit) == 0);
    }
    (void)products();
  }
}

TEST_CASE("rows of bf16 products have the same bits however many share them") {
  for (const Unit& unit : units()) {
    for (const std::int64_t dim : {40, 128}) {
      const Case all(70, 150, dim);
      const auto scores = all.scores(unit);
      const auto mixed = all.mix(unit);
      int different = 0;
      for (const std::int64_t rows : {1, 5, 16, 33, 64}) {
        for (std::int64_t r = 0; r + rows <= 70; r += rows) {
          std::vector<float> s(at(rows * all.ldp), 5.0f);
          unit.scores(all.q.data() + r * all.ldq, all.ldq, rows, all.cached.data(), all.ldc,
                      all.tokens, dim, s.data(), all.ldp);
          different += std::memcmp(s.data(), scores.data() + r * all.ldp, s.size() * 4) != 0;
          std::vector<float> o(all.out.begin() + r * all.ldo,
                               all.out.begin() + (r + rows) * all.ldo);
          unit.mix(all.p.data() + r * all.ldp, all.ldp, rows, all.cached.data(), all.ldc,
                   all.tokens, dim, o.data(), all.ldo);
          different += std::memcmp(o.data(), mixed.data() + r * all.ldo, o.size() * 4) != 0;
        }
      }
      INFO(unit.name << " dim " << dim);
      CHECK(different == 0);
    }
    (void)products();
  }
}

TEST_CASE("what rows of bf16 products do not see yet leaves their bits alone") {
  for (const Unit& unit : units()) {
    Case all(16, 150, 128);
    for (const std::int64_t visible : {1, 31, 33, 100, 128, 149}) {
      INFO(unit.name << " visible " << visible);
      Case some = all;
      some.tokens = visible;
      const auto longer = all.scores(unit);
      const auto shorter = some.scores(unit);
      int different = 0;
      for (std::int64_t r = 0; r < all.rows; ++r) {
        const auto row = at(r * all.ldp);
        different += std::memcmp(&longer[row], &shorter[row], at(visible) * 4) != 0;
      }
      CHECK(different == 0);
      Case masked = all;
      for (std::int64_t r = 0; r < all.rows; ++r) {
        std::fill_n(masked.p.begin() + r * all.ldp + visible, all.tokens - visible, 0.0f);
      }
      CHECK(masked.mix(unit) == some.mix(unit));
    }
    (void)products();
  }
}

/// y[tokens, rows + 3] of rows from row0 and tokens from token0 on, -7 in the gaps.
std::vector<float> multiply(Matmul matmul, const StoredMatrix& m, const Activations& a,
                            std::int64_t row0, std::int64_t rows, std::int64_t token0,
                            std::int64_t tokens) {
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  std::vector<float> y(at(tokens * (rows + 3)), -7.0f);
  matmul(m.view(), row0, rows, a.bytes.data() + token0 * a.stride, a.stride, tokens, y.data(),
         rows + 3, scratch.data());
  return y;
}

/// Products with all rows of a matrix are right, and the same bits however rows and tokens are
/// split.
void check_products(Matmul matmul, DType type, const StoredMatrix& m, double tolerance) {
  constexpr std::int64_t kTokens = 37;
  const Activations a = pack_activations(select_kernels("reference"), ActFormat::f32,
                                         random_floats(kTokens * m.cols, 1.0f, 3), m.cols);
  const auto all = multiply(matmul, m, a, 0, m.rows, 0, kTokens);
  CHECK(ExactProducts(type, m, a.values).wrong(all, m.rows + 3, 0, m.rows, kTokens, tolerance) ==
        0);
  int different = 0;
  for (const std::int64_t rows : {1, 8, 15, 16, 33, 64, 150}) {
    for (const std::int64_t tokens : {1, 3, 16, 17, 37}) {
      const std::int64_t row0 = m.rows - rows, token0 = kTokens - tokens;
      const auto some = multiply(matmul, m, a, row0, rows, token0, tokens);
      for (std::int64_t t = 0; t < tokens; ++t) {
        const float* got = some.data() + t * (rows + 3);
        const float* expected = all.data() + (token0 + t) * (m.rows + 3) + row0;
        different += std::memcmp(got, expected, at(rows) * sizeof(float)) != 0;
        for (std::int64_t i = rows; i < rows + 3; ++i) different += got[i] != -7.0f;
      }
    }
  }
  CHECK(different == 0);
}

TEST_CASE("bf16 weights are multiplied in bf16, for all tails and the same bits however split") {
  for (const Unit& unit : units()) {
    for (const std::int64_t cols : {1, 2, 15, 16, 17, 32, 33, 96, 300}) {
      INFO(unit.name << " columns " << cols);
      check_products(unit.matmul, DType::bf16, random_matrix(DType::bf16, 150, cols, 5),
                     unit.error == kPartsError ? 1e-5 : kRounding);
      CHECK((!unit.counts_products() || products() > 0));
    }
  }
}

TEST_CASE("rounded, FP8 weights with and without scales are multiplied in bf16") {
  for (const Unit& unit : units()) {
    if (unit.e4m3 == nullptr) continue;
    for (const ScaleType scale : {ScaleType::none, ScaleType::e8m0, ScaleType::f32}) {
      for (const std::int64_t cols : {32, 96, 160, 2080}) {
        INFO(unit.name << " columns " << cols << " scales " << static_cast<int>(scale));
        check_products(unit.e4m3, DType::e4m3, random_planar(DType::e4m3, 150, cols, 32, scale, 5),
                       kRounding);
      }
    }
    for (const std::int64_t cols : {1, 17, 131}) {
      INFO(unit.name << " columns " << cols);
      check_products(unit.e4m3, DType::e4m3,
                     random_planar(DType::e4m3, 150, cols, 32, ScaleType::none, 5), kRounding);
    }
  }
}

TEST_CASE("weights too wide for a bf16 unit's scratch go the vectors' way") {
  for (const Unit& unit : units()) {
    if (!unit.tiles) continue;
    constexpr std::int64_t kCols = 100000;
    const StoredMatrix m = random_matrix(DType::bf16, 3, kCols, 5);
    const Activations a = pack_activations(select_kernels("reference"), ActFormat::f32,
                                           random_floats(2 * kCols, 1.0f, 3), kCols);
    (void)products();
    const auto y = multiply(unit.matmul, m, a, 0, 3, 0, 2);
    CHECK(ExactProducts(DType::bf16, m, a.values).wrong(y, 6, 0, 3, 2, 1e-5) == 0);
    CHECK(products() == 0);
  }
}

TEST_CASE("rounded, bf16 weights of any width are multiplied") {
  for (const Unit& unit : units()) {
    if (unit.error != kRoundedError) continue;
    for (const std::int64_t cols : {2047, 2048, 2049, 4099}) {
      const StoredMatrix m = random_matrix(DType::bf16, 67, cols, 5);
      const Activations a = pack_activations(select_kernels("reference"), ActFormat::f32,
                                             random_floats(3 * cols, 1.0f, 3), cols);
      const auto y = multiply(unit.matmul, m, a, 0, 67, 0, 3);
      INFO(unit.name << " columns " << cols);
      CHECK(ExactProducts(DType::bf16, m, a.values).wrong(y, 70, 0, 67, 3, kRounding) == 0);
    }
  }
}

TEST_CASE("more than the 4 MiB of tokens and 256 rows that are packed at once") {
  constexpr std::int64_t kCols = 4099, kTokens = 500;  // 33 pieces of 256 bytes a token
  for (const Unit& unit : units()) {
    const StoredMatrix m = random_matrix(DType::bf16, 5, kCols, 5);
    const Activations a = pack_activations(select_kernels("reference"), ActFormat::f32,
                                           random_floats(kTokens * kCols, 1.0f, 3), kCols);
    const auto all = multiply(unit.matmul, m, a, 0, 5, 0, kTokens);
    const auto last = multiply(unit.matmul, m, a, 0, 5, kTokens - 1, 1);
    INFO(unit.name);
    CHECK(std::memcmp(all.data() + (kTokens - 1) * 8, last.data(), 5 * sizeof(float)) == 0);
    const Case c(530, 65, 16);
    CHECK(c.wrong_scores(unit) == 0);
    CHECK(c.wrong_mix(unit) == 0);
    (void)products();
  }
}

TEST_CASE("rounded, float matrix products are exact but for their rounding, for all tails") {
  constexpr std::int64_t kSizes[][3] = {
      {1, 1, 1},      {1, 5, 7},       {2, 3, 16},    {3, 17, 33},   {4, 64, 64},   {5, 63, 65},
      {7, 100, 40},   {16, 128, 64},   {64, 64, 128}, {64, 128, 64}, {65, 129, 31}, {128, 1, 128},
      {1, 200, 1000}, {300, 140, 131}, {0, 4, 4},     {4, 0, 4}};
  for (const Unit& unit : units()) {
    if (unit.error != kRoundedError || unit.gemm_nt == nullptr) continue;
    for (const auto& size : kSizes) {
      const std::int64_t m = size[0], n = size[1], k = size[2];
      const auto lda = std::max(m, k) + 3, ldb = std::max(n, k) + 1, ldc = n + 2;
      const auto a = random_floats(std::max(m, k) * lda + 1, 1.0f, 1);
      const auto b = random_floats(std::max(n, k) * ldb + 1, 1.0f, 2);
      const auto start = random_floats(m * ldc, 1.0f, 3);
      for (const bool accumulate : {false, true}) {
        INFO(unit.name << " m " << m << " n " << n << " k " << k << " accumulate " << accumulate);
        const auto check = [&](auto gemm, bool a_transposed, bool b_transposed) {
          auto c = start;
          gemm(m, n, k, a.data(), lda, b.data(), ldb, c.data(), ldc, accumulate);
          CHECK(wrong(
                    unit.error, m, n, k, ldc, c, kAnything,
                    [&](std::int64_t i, std::int64_t j, std::int64_t e) {
                      return static_cast<double>(a[at(a_transposed ? e * lda + i : i * lda + e)]) *
                             static_cast<double>(b[at(b_transposed ? j * ldb + e : e * ldb + j)]);
                    },
                    [&](std::int64_t i, std::int64_t j) {
                      return accumulate ? static_cast<double>(start[at(i * ldc + j)]) : 0.0;
                    }) == 0);
          int gaps = 0;
          for (std::int64_t i = 0; i < m * ldc; ++i) {
            if (i % ldc >= n) gaps += c[at(i)] != start[at(i)];
          }
          CHECK(gaps == 0);
        };
        check(unit.gemm_nt, false, true);
        check(unit.gemm_nn, false, false);
        check(unit.gemm_tn, true, false);
      }
    }
  }
}

TEST_CASE("rounded, infinities and NaN of a cache stay what they are") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Unit& unit : units()) {
    if (unit.error != kRoundedError) continue;
    Case c(3, 20, 32);
    c.cached[at(4 * c.ldc)] = to_half(kInfinity);
    c.cached[at(5 * c.ldc)] = to_half(std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t r = 0; r < 3; ++r) c.q[at(r * c.ldq)] = r == 0 ? 2.0f : -2.0f;
    const auto s = c.scores(unit);
    INFO(unit.name);
    for (std::int64_t r = 0; r < 3; ++r) {
      CHECK(s[at(r * c.ldp + 4)] == (r == 0 ? kInfinity : -kInfinity));
      CHECK(std::isnan(s[at(r * c.ldp + 5)]));
      CHECK(std::isfinite(s[at(r * c.ldp + 6)]));
    }
  }
}

#ifdef NEMO_HAVE_EMULATED_UNIT
TEST_CASE("a tile of sixteen query rows and the cache takes three unit products, one if rounded") {
  for (const Unit& unit : units()) {
    if (!unit.counts_products()) continue;
    const int a_tile = unit.error == kPartsError ? 3 : 1;
    const Case c(16, 128, 128);
    (void)products();
    (void)c.scores(unit);
    CHECK(products() == a_tile * (128 / 8) * (16 / 8) * (128 / 16));
    (void)c.mix(unit);
    CHECK(products() == a_tile * (128 / 8) * (16 / 8) * (128 / 16));
  }
}
#endif
