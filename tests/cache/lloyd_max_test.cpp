// The codebook tables against their definition.
#include "catch.hpp"

#include <nemo/tensor/lloyd_max.hpp>

#include <cmath>

namespace {

double density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846); }
double above(double x) { return 0.5 * std::erfc(x / std::sqrt(2.0)); }

/// Mean squared error of N(0,1) on the levels, and the largest distance of a level from its cell's
/// mean.
template <int kBits>
std::pair<double, double> judge() {
  const auto& c = nemo::kLloydMax<kBits>;
  double mse = 1, worst = 0;
  for (std::size_t k = 0; k < c.size(); ++k) {
    const double a = k == 0 ? -40 : (double(c[k - 1]) + double(c[k])) / 2;
    const double b = k + 1 == c.size() ? 40 : (double(c[k]) + double(c[k + 1])) / 2;
    // Differences of the upper tail lose digits on the left side: use symmetry.
    const double p = a < 0 && b <= 0 ? above(-b) - above(-a) : above(a) - above(b);
    const double first = density(a) - density(b);
    mse += double(c[k]) * (double(c[k]) * p - 2 * first);
    worst = std::max(worst, std::abs(first / p - double(c[k])));
  }
  return {mse, worst};
}

}  // namespace

TEST_CASE(
    "every codebook is Lloyd-Max: levels are the means of their cells, the error is minimal") {
  // Errors: the spec's table, given to six digits.
  const auto check = [](std::pair<double, double> result, double mse) {
    CHECK(result.first == Approx(mse).epsilon(4e-6));
    CHECK(result.second < 1e-5);  // levels are stored as float
  };
  check(judge<1>(), 0.363380);
  check(judge<2>(), 0.117482);
  check(judge<3>(), 0.0345478);
  check(judge<4>(), 0.00950101);
  check(judge<5>(), 0.00250467);
  check(judge<6>(), 6.44240e-4);
  check(judge<7>(), 1.63478e-4);
  check(judge<8>(), 4.11851e-5);
}

TEST_CASE("levels ascend and are symmetric, with the published ends of the 8 bit codebook") {
  const auto& c = nemo::kLloydMax<8>;
  for (std::size_t k = 0; k < 256; ++k) {
    CHECK(c[k] == -c[255 - k]);
    if (k > 0) CHECK(c[k] > c[k - 1]);
  }
  CHECK(double(c[128]) == Approx(0.0084462).margin(1e-6));
  CHECK(double(c[129]) == Approx(0.0253394).margin(1e-6));
  CHECK(double(c[130]) == Approx(0.0422350).margin(1e-6));
  CHECK(double(c[253]) == Approx(3.9256378).margin(1e-6));
  CHECK(double(c[254]) == Approx(4.1865954).margin(1e-6));
  CHECK(double(c[255]) == Approx(4.6035356).margin(1e-6));
}
