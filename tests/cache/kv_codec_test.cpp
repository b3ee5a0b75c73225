// Codecs of KV tiles: error bars, what rotation buys, unbiased scores, the same bits everywhere.
#include "catch.hpp"

#include <nemo/cache/kv_transform.hpp>
#include <nemo/kernels.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using nemo::KvCode;
using nemo::KvRotation;
using nemo::KvScale;
using nemo::KvSide;

KvSide side(int bits, int group, KvScale scale, bool values = false, int dim = 128) {
  return {dim, bits, group, bits == 8 ? KvCode::int8 : KvCode::lloyd_max, scale, values};
}

struct Encoded {
  std::vector<std::byte> codes;
  std::vector<nemo::Half> scales;
};

Encoded encode(const nemo::Kernels& kernels, const KvSide& s, const float* rows, std::int64_t ld) {
  Encoded e;
  e.codes.resize(static_cast<std::size_t>(s.tile_bytes()));
  e.scales.resize(static_cast<std::size_t>(s.tile_scales()));
  kernels.kv->encode(s, rows, ld, 0, 16, e.codes.data(), e.scales.data());
  return e;
}

/// rotate, encode, decode in tiles of 16 rows; result still rotated, as are the rows afterwards.
std::vector<float> through(const nemo::Kernels& kernels, const KvSide& s,
                           const nemo::KvTransform& t, std::vector<float>& rows) {
  std::vector<float> out(rows.size());
  const auto tile = static_cast<std::size_t>(16 * s.dim);
  for (std::size_t at = 0; at + tile <= rows.size(); at += tile) {
    kernels.kv->rotate(t, false, &rows[at], s.dim, 16);
    const Encoded e = encode(kernels, s, &rows[at], s.dim);
    kernels.kv->decode(s, e.codes.data(), e.scales.data(), &out[at], s.dim);
  }
  return out;
}

double relative_error(const std::vector<float>& x, const std::vector<float>& y, std::size_t dim) {
  double total = 0;
  for (std::size_t at = 0; at < x.size(); at += dim) {
    double error = 0, norm = 0;
    for (std::size_t i = at; i < at + dim; ++i) {
      error += (double(x[i]) - double(y[i])) * (double(x[i]) - double(y[i]));
      norm += double(x[i]) * double(x[i]);
    }
    total += error / norm;
  }
  return total * double(dim) / double(x.size());
}

std::vector<float> gaussian(std::size_t count, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& v : x) v = normal(rng);
  return x;
}

constexpr std::size_t kVectors = 16 * 250;  // the bars move by 0.5 % between seeds at this number

}  // namespace

TEST_CASE("relative error of Gaussian rows lies within 3 % of the theoretical bars") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  struct Bar {
    int group, bits;
    double rms, least;
  };
  // kv-quantization spec, 3.2; int8 is absmax, so that both columns are one.
  const Bar bars[] = {
      {32, 2, .1115, .1083},    {32, 3, .0325, .0308},      {32, 4, .00894, .00835},
      {32, 5, .00236, .00220},  {32, 6, 6.10e-4, 5.67e-4},  {32, 8, 2.9e-5, 2.9e-5},
      {64, 2, .1144, .1128},    {64, 3, .0334, .0325},      {64, 4, .00916, .00885},
      {64, 5, .00241, .00232},  {64, 6, 6.21e-4, 5.98e-4},  {64, 8, 3.5e-5, 3.5e-5},
      {128, 2, .1159, .1151},   {128, 3, .0339, .0335},     {128, 4, .00930, .00914},
      {128, 5, .00245, .00240}, {128, 6, 6.30e-4, 6.18e-4}, {128, 8, 4.2e-5, 4.2e-5}};
  for (const KvRotation rotation : {KvRotation::hadamard, KvRotation::rotor}) {
    for (const Bar& bar : bars) {
      const nemo::KvHeadTransform t(rotation, 128, bar.group, 42, {0, 0, false});
      const auto error = [&](KvScale scale) {
        auto rows = gaussian(kVectors * 128, 1);
        const auto out = through(kernels, side(bar.bits, bar.group, scale), t.view(), rows);
        return relative_error(rows, out, 128);
      };
      INFO(nemo::name_of(rotation) << " group " << bar.group << " bits " << bar.bits);
      CHECK(error(KvScale::rms) == Approx(bar.rms).epsilon(0.03));
      CHECK(error(KvScale::least_squares) == Approx(bar.least).epsilon(0.03));
    }
  }
}

namespace {

/// Spec 3.3: four channels of one group of 64 stand out: scaled, or shifted by constants; or rows
/// with a single channel that is not zero.
enum class Outliers { scaled, shifted, one_hot };

std::vector<float> outlier_rows(Outliers kind, std::size_t vectors) {
  if (kind == Outliers::one_hot) {
    std::vector<float> x(128 * 128);
    for (std::size_t i = 0; i < 128; ++i) x[i * 129] = 1.0f;
    return x;
  }
  auto x = gaussian(vectors * 128, 7);
  for (std::size_t v = 0; v < vectors; ++v) {
    const std::size_t at[] = {3, 10, 30, 50};
    for (std::size_t i = 0; i < 4; ++i) {
      float& e = x[v * 128 + at[i]];
      e = kind == Outliers::scaled ? 12.0f * e : e + 9.0f + 2.0f * static_cast<float>(i);
    }
  }
  return x;
}

double outlier_error(KvRotation rotation, Outliers kind, int bits, int draw, std::size_t vectors) {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  auto rows = outlier_rows(kind, vectors);
  const nemo::KvHeadTransform t(rotation, 128, 64, 42, {draw, 0, false});
  const auto out = through(kernels, side(bits, 64, KvScale::rms), t.view(), rows);
  return relative_error(rows, out, 128);
}

}  // namespace

TEST_CASE("rotor network and Hadamard tame outliers: the error is that of Gaussian rows") {
  for (const KvRotation rotation : {KvRotation::hadamard, KvRotation::rotor}) {
    for (const auto& [bits, gaussian_bar] : {std::pair{4, .00916}, std::pair{3, .0334}}) {
      for (const Outliers kind : {Outliers::scaled, Outliers::shifted, Outliers::one_hot}) {
        INFO(nemo::name_of(rotation) << " kind " << int(kind) << " bits " << bits);
        // One-hot rows become two-valued ones: +-1 standard deviation, for which 4 bits have a
        // level and 3 bits do not.
        if (kind == Outliers::one_hot && bits == 3) continue;
        CHECK(outlier_error(rotation, kind, bits, 0, kVectors) <= 1.05 * gaussian_bar);
      }
    }
  }
}

TEST_CASE("the published small-block rotations leave outliers in: their errors are the table's") {
  struct Row {
    KvRotation rotation;
    double scaled, shifted, one_hot, scaled3, shifted3;  // 4 bits, the last two 3 bits
  };
  // Spec 3.3, RMS scale. The table is one draw of the angles (its row `none` has none), ours the
  // mean of many. Scaled and one-hot rows average over signs and positions, so that draws agree:
  // 15 %. Constant shifts meet the angles directly and draws differ fivefold: the table's must lie
  // among ours (negative; so does iso-full's scaled one, two deviations above the mean).
  const Row table[] = {{KvRotation::none, .167, .096, .450, .261, .194},
                       {KvRotation::planar, .110, -.061, .366, .201, -.155},
                       {KvRotation::rotor3, .095, -.048, .298, .175, -.089},
                       {KvRotation::iso, .069, -.024, .261, .140, -.113},
                       {KvRotation::iso_full, -.086, -.022, .250, .133, -.085}};
  constexpr int kDraws = 40;
  const auto check = [](const Row& row, Outliers kind, int bits, double published) {
    double mean = 0, least = 1e9, most = 0;
    const int draws = row.rotation == KvRotation::none ? 1 : kDraws;
    for (int draw = 0; draw < draws; ++draw) {
      const double error = outlier_error(row.rotation, kind, bits, draw, 16 * 16);
      mean += error / draws;
      least = std::min(least, error);
      most = std::max(most, error);
    }
    INFO(nemo::name_of(row.rotation) << " kind " << int(kind) << " bits " << bits << ": " << least
                                     << " " << mean << " " << most);
    if (published > 0) {
      CHECK(mean == Approx(published).epsilon(0.15));
    } else {
      CHECK(least < -published);
      CHECK(most > -published);
    }
  };
  for (const Row& row : table) {
    check(row, Outliers::scaled, 4, row.scaled);
    check(row, Outliers::shifted, 4, row.shifted);
    check(row, Outliers::one_hot, 4, row.one_hot);
    check(row, Outliers::scaled, 3, row.scaled3);
    check(row, Outliers::shifted, 3, row.shifted3);
  }
}

TEST_CASE("scores against unbiased keys keep their expectation") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  for (const auto& [bits, rotation] :
       {std::pair{2, KvRotation::hadamard}, std::pair{3, KvRotation::hadamard},
        std::pair{4, KvRotation::hadamard}, std::pair{5, KvRotation::hadamard},
        std::pair{6, KvRotation::hadamard}, std::pair{7, KvRotation::hadamard},
        std::pair{8, KvRotation::hadamard}, std::pair{2, KvRotation::rotor},
        std::pair{4, KvRotation::rotor}}) {
    const nemo::KvHeadTransform t(rotation, 128, 64, 42, {0, 0, false});
    double xy = 0, xx = 0;
    auto rows = gaussian(20000 * 128, 3);
    const auto out = through(kernels, side(bits, 64, KvScale::unbiased), t.view(), rows);
    // The query is the key plus noise, so that the true product is far from zero.
    for (std::size_t at = 0; at < rows.size(); at += 128) {
      double exact = 0, got = 0;
      for (std::size_t i = at; i < at + 128; ++i) {
        const double q = double(rows[i]) + 0.5 * double(rows[(i * 7 + 12345) % rows.size()]);
        exact += q * double(rows[i]);
        got += q * double(out[i]);
      }
      xy += exact * got;
      xx += exact * exact;
    }
    INFO(nemo::name_of(rotation) << " bits " << bits);
    CHECK(xy / xx == Approx(1.0).margin(0.01));
  }
}

TEST_CASE(
    "codes and scales have the same bits on every instruction set, whole tiles or token by token") {
  for (const bool values : {false, true}) {
    for (const int dim : {16, 32, 64, 128, 256}) {
      for (const int bits : {2, 3, 4, 5, 6, 7, 8}) {
        for (const bool affine : {false, true}) {
          KvSide s = side(bits, dim < 64 ? dim : 64,
                          values ? KvScale::least_squares : KvScale::unbiased, values, dim);
          if (affine) s.code = KvCode::affine;
          const auto rows = gaussian(static_cast<std::size_t>(16 * dim), unsigned(dim + bits));
          const Encoded expected = encode(nemo::select_kernels("reference"), s, rows.data(), dim);
          std::vector<float> decoded(rows.size());
          nemo::select_kernels("reference")
              .kv->decode(s, expected.codes.data(), expected.scales.data(), decoded.data(), dim);
          for (const nemo::Kernels* kernels : nemo::available_kernels()) {
            INFO(kernels->name << " dim " << dim << " bits " << bits << " values " << values
                               << " affine " << affine);
            const Encoded whole = encode(*kernels, s, rows.data(), dim);
            CHECK(whole.codes == expected.codes);
            CHECK(std::memcmp(whole.scales.data(), expected.scales.data(),
                              expected.scales.size() * 2) == 0);
            Encoded single = whole;
            std::fill(single.codes.begin(), single.codes.end(), std::byte{0});
            for (const int t : {3, 15, 0, 1, 2, 8, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14}) {
              kernels->kv->encode(s, rows.data() + t * dim, dim, t, 1, single.codes.data(),
                                  single.scales.data());
            }
            CHECK(single.codes == expected.codes);
            std::vector<float> out(rows.size());
            kernels->kv->decode(s, whole.codes.data(), whole.scales.data(), out.data(), dim);
            CHECK(out == decoded);
          }
        }
      }
    }
  }
}

TEST_CASE("zeros, huge numbers, infinities and NaN give finite scales") {
  const float kinds[] = {0.0f,
                         1e-30f,
                         65504.0f,
                         1e30f,
                         std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity(),
                         std::numeric_limits<float>::quiet_NaN(),
                         -1e38f};
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    for (const int bits : {2, 4, 7, 8}) {
      for (const bool affine : {false, true}) {
        for (const KvScale scale : {KvScale::unbiased, KvScale::least_squares, KvScale::rms}) {
          KvSide s = side(bits, 64, scale);
          if (affine) s.code = KvCode::affine;
          std::vector<float> rows(16 * 128);
          for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = kinds[(i / 64 + i % 3) % 8];
          const Encoded e = encode(*kernels, s, rows.data(), 128);
          for (const nemo::Half h : e.scales) REQUIRE(std::isfinite(nemo::to_float(h)));
          std::vector<float> out(rows.size());
          kernels->kv->decode(s, e.codes.data(), e.scales.data(), out.data(), 128);
          for (const float x : out) REQUIRE(std::isfinite(x));
        }
        const std::vector<float> zeros(16 * 128);
        KvSide s = side(bits, 64, KvScale::unbiased);
        if (affine) s.code = KvCode::affine;
        const Encoded e = encode(*kernels, s, zeros.data(), 128);
        std::vector<float> out(zeros.size(), 1.0f);
        kernels->kv->decode(s, e.codes.data(), e.scales.data(), out.data(), 128);
        CHECK(out == zeros);
      }
    }
  }
}
