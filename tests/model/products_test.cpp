// Products that threads share, against one call for each of them: the same bits, every row once.
#include "catch.hpp"

#include <nemo/model/matrix.hpp>
#include <nemo/tensor/random_blocks.hpp>

#include <array>
#include <cstring>
#include <random>
#include <vector>

using namespace nemo;

namespace {

constexpr std::int64_t kCols = 256;
constexpr std::int64_t kGap = 5;  // floats between rows of a result, which stay as they are
constexpr float kUntouched = -77.0f;

std::vector<float> random_floats(std::mt19937& random, std::int64_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = normal(random);
  return x;
}

/// A matrix, its activations and where its product goes.
struct Problem {
  Problem(std::mt19937& random, DType type, std::int64_t rows, std::int64_t count)
      : tokens(count), bias(random_floats(random, rows)), x(random_floats(random, count * kCols)) {
    const std::int64_t row = row_bytes(type, kCols);
    bytes.resize(static_cast<std::size_t>(rows * row));
    for (std::int64_t r = 0; r < rows; ++r) {
      random_row(type, kCols, 0.5f, random(), bytes.data() + r * row);
    }
    w = {type, 1, rows, kCols, bytes.data(), {0.5f}};
    y.assign(static_cast<std::size_t>(tokens * (rows + kGap)), kUntouched);
  }
  [[nodiscard]] std::int64_t ldy() const { return w.rows + kGap; }

  std::int64_t tokens;
  Matrix w;
  std::vector<std::byte> bytes;
  std::vector<float> bias, x, y;
};

/// The product by itself, each plane of its activations too.
std::vector<float> expected(const Compute& compute, const Problem& p, Activations::Form x) {
  const Kernels& k = compute.kernels;
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  std::vector<float> sums(static_cast<std::size_t>(x.planes * p.tokens * p.w.rows));
  k.format(p.w.type)
      .product(p.w.view())
      .matmul(p.w.view(), 0, p.w.rows, x.data, x.stride / x.planes, x.planes * p.tokens,
              sums.data(), p.w.rows, scratch.data());
  std::vector<float> y(p.y.size(), kUntouched);
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    float* row = y.data() + t * p.ldy();
    for (std::int64_t r = 0; r < p.w.rows; ++r) {
      row[r] = sums[static_cast<std::size_t>(t * x.planes * p.w.rows + r)];
      if (x.planes > 1) row[r] += sums[static_cast<std::size_t>((2 * t + 1) * p.w.rows + r)];
    }
    k.scale(0.5f, p.w.rows, row);
    k.add(p.bias.data(), p.w.rows, row);
    k.relu2(row, p.w.rows);
  }
  return y;
}

}  // namespace

TEST_CASE("products shared by any number of threads are those of single calls, every row once") {
  std::mt19937 random(7);
  const std::vector<std::vector<std::int64_t>> token_counts = {
      {1}, {1, 1, 1, 1, 1, 1, 1}, {7, 0, 3}, {8}, {65, 0, 1, 30, 2, 64}, {700, 3}};
  for (const auto& tokens : token_counts) {
    for (const int threads : {1, 2, 5}) {
      for (const bool fine : {false, true}) {
        Compute compute(select_kernels(), threads);
        compute.fine_activations = fine;
        std::vector<Problem> problems;
        for (std::size_t i = 0; i < tokens.size(); ++i) {
          const DType type =
              std::array{DType::q4_0, DType::f32, DType::q6_k}[(i + tokens.size()) % 3];
          const auto rows = static_cast<std::int64_t>(1 + random() % 2500);
          problems.emplace_back(random, type, rows, tokens[i]);
        }
        std::vector<Activations> forms;
        forms.reserve(problems.size());
        std::vector<Product> products;
        for (Problem& p : problems) {
          forms.emplace_back(compute, p.x.data(), p.tokens, kCols, kCols);
          products.push_back({&p.w, 0, forms.back().form(p.w), p.tokens, p.y.data(), p.ldy(),
                              biased_relu2(p.bias, p.w)});
        }
        run_products(compute, products);
        for (std::size_t i = 0; i < problems.size(); ++i) {
          const Problem& p = problems[i];
          INFO(threads << " threads, product " << i << " of " << products.size() << ", " << p.tokens
                       << " tokens, " << p.w.rows << " rows of " << info(p.w.type).name);
          const auto y = expected(compute, p, products[i].x);
          CHECK(std::memcmp(y.data(), p.y.data(), y.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}
