// Every weight format of every fast kernel table against the decoded reference weights times the
// activations that the arithmetic really sees (for int8, the quantized ones).
#include "catch.hpp"
#include "fast_support.hpp"

#include <algorithm>

using namespace nemo;
using namespace nemo::test;

namespace {

// Integer sums are exact; what is left are float roundings of one scale product and one addition a
// block, and for formats with mins the cancellation between scale * code and min.
constexpr double kTolerance = 1e-5;

std::vector<float> multiply(const FormatKernels& format, const StoredMatrix& m, std::int64_t row0,
                            std::int64_t rows, const Activations& a, std::int64_t tokens,
                            std::int64_t ldy) {
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  std::vector<float> y(at(tokens * ldy), 99.0f);
  format.matmul(m.view(), row0, rows, a.bytes.data(), a.stride, tokens, y.data(), ldy,
                scratch.data());
  return y;
}

/// A matrix of blocks whose code bytes are all `codes` and whose scales are sane.
StoredMatrix constant_codes(DType type, std::int64_t rows, std::int64_t cols, int codes) {
  StoredMatrix m = random_matrix(type, rows, cols, 7);
  // The fields that are float numbers keep their random values, everything else gets `codes`.
  std::vector<int> keep;
  const int bytes = info(type).block_bytes;
  switch (type) {
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      keep = {0, 1, 2, 3};
      break;
    case DType::q2_k:
      keep = {80, 81, 82, 83};
      break;
    case DType::q3_k:
      keep = {108, 109};
      break;
    case DType::q6_k:
      keep = {208, 209};
      break;
    case DType::tq1_0:
      keep = {52, 53};
      break;
    case DType::tq2_0:
      keep = {64, 65};
      break;
    case DType::iq1_m:
      keep = {48, 49, 50, 51, 52, 53, 54, 55};
      break;
    case DType::mxfp4:
      keep = {0};
      break;
    case DType::nvfp4:
      keep = {0, 1, 2, 3};
      break;
    default:
      keep = {0, 1};
      break;
  }
  for (std::size_t i = 0; i < m.bytes.size(); ++i) {
    const int in_block = static_cast<int>(i % static_cast<std::size_t>(bytes));
    if (std::find(keep.begin(), keep.end(), in_block) == keep.end()) {
      m.bytes[i] = static_cast<std::byte>(codes);
    }
  }
  return m;
}

}  // namespace

TEST_CASE("fast products of every format match the decoded weights for every row and token tail") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : weight_types()) {
      const FormatKernels& format = table->format(type);
      const std::int64_t block = info(type).block_elements;
      for (const std::int64_t blocks : {1, 2, 3, 5}) {
        const std::int64_t cols = block == 1 ? 37 * blocks : block * blocks;
        const StoredMatrix m = random_matrix(type, 35, cols, 3);
        const auto x = random_floats(17 * cols, 1.0f, static_cast<unsigned>(blocks));
        const Activations a = pack_activations(*table, format.act, x, cols);
        const ExactProducts exact(type, m, a.values);
        for (const std::int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 17}) {
          for (const std::int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33}) {
            INFO(table->name << " " << info(type).name << " cols " << cols << " tokens " << tokens
                             << " rows " << rows);
            const std::int64_t ldy = rows + 2;
            const auto y = multiply(format, m, 1, rows, a, tokens, ldy);
            const int wrong = exact.wrong(y, ldy, 1, rows, tokens, kTolerance);
            int touched = 0;
            for (std::int64_t t = 0; t < tokens; ++t) {
              touched += y[at(t * ldy + rows)] != 99.0f || y[at(t * ldy + rows + 1)] != 99.0f;
            }
            if (wrong != 0 || touched != 0) {
              CHECK(wrong == 0);
              CHECK(touched == 0);
            }
          }
        }
      }
      SUCCEED();
    }
  }
}

TEST_CASE("fast products have the same bits however rows and tokens are split over calls") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : weight_types()) {
      INFO(table->name << " " << info(type).name);
      const FormatKernels& format = table->format(type);
      // 5376 columns: more than one piece of a panel.
      const std::int64_t cols = 5376;
      const std::int64_t rows = 37;
      const std::int64_t tokens = 21;
      const StoredMatrix m = random_matrix(type, rows, cols, 5);
      const auto x = random_floats(tokens * cols, 1.0f, 11);
      const Activations a = pack_activations(*table, format.act, x, cols);
      const auto whole = multiply(format, m, 0, rows, a, tokens, rows);
      CHECK(ExactProducts(type, m, a.values).wrong(whole, kTolerance) == 0);
      AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
      std::mt19937 random(1);
      for (unsigned trial = 0; trial < 12; ++trial) {
        std::vector<float> split(whole.size());
        for (std::int64_t r = 0; r < rows;) {
          const std::int64_t height = std::min<std::int64_t>(1 + random() % 20, rows - r);
          for (std::int64_t t = 0; t < tokens;) {
            const std::int64_t count =
                std::min<std::int64_t>(1 + random() % (1 + trial), tokens - t);
            format.matmul(m.view(), r, height, a.bytes.data() + t * a.stride, a.stride, count,
                          split.data() + t * rows + r, rows, scratch.data());
            t += count;
          }
          r += height;
        }
        CHECK(split == whole);
      }
    }
  }
}

TEST_CASE("extreme codes against extreme activations do not saturate") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : weight_types()) {
      const FormatKernels& format = table->format(type);
      if (format.act != ActFormat::q8) continue;
      const std::int64_t cols = 512;
      const std::int64_t tokens = 9;
      std::vector<float> x(at(tokens * cols));
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t c = 0; c < cols; ++c) {
          const float signs[] = {1.0f, -1.0f, c % 2 == 0 ? 1.0f : -1.0f};
          x[at(t * cols + c)] = signs[t % 3] * 3.0f;  // every code is +-127
        }
      }
      const Activations a = pack_activations(*table, format.act, x, cols);
      for (const int codes : {0x00, 0xff, 0x7f, 0x80, 0x88, 0x0f, 0xf0, 0x77, 0x81}) {
        const StoredMatrix m = constant_codes(type, 17, cols, codes);
        const ExactProducts exact(type, m, a.values);
        for (const std::int64_t count : {std::int64_t{1}, std::int64_t{3}, tokens}) {
          INFO(table->name << " " << info(type).name << " codes " << codes << " tokens " << count);
          const auto y = multiply(format, m, 0, 17, a, count, 17);
          CHECK(exact.wrong(y, kTolerance) == 0);
        }
      }
    }
  }
}

TEST_CASE("fast products of activations of any magnitude, zeros and subnormals included") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : weight_types()) {
      const FormatKernels& format = table->format(type);
      const std::int64_t cols = 768;
      const std::int64_t rows = 19;
      const StoredMatrix m = random_matrix(type, rows, cols, 9);
      for (const float scale : {0.0f, 1e-42f, 1e-38f, 1e-20f, 1e20f, 1e30f}) {
        for (const std::int64_t tokens : {2, 6}) {
          INFO(table->name << " " << info(type).name << " activations of about " << scale);
          auto x = random_floats(tokens * cols, 1.0f, 21);
          for (float& v : x) v *= scale;
          const Activations a = pack_activations(*table, format.act, x, cols);
          const auto y = multiply(format, m, 0, rows, a, tokens, rows);
          // Sums of subnormals are rounded to the subnormal grid.
          const double tolerance = scale < 1e-30f ? 1e30 : kTolerance;
          CHECK(ExactProducts(type, m, a.values).wrong(y, tolerance) == 0);
          for (const float v : y) CHECK(std::isfinite(v));
        }
      }
    }
  }
}

TEST_CASE("a matrix of no rows and a product of no tokens write nothing") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : weight_types()) {
      const FormatKernels& format = table->format(type);
      const StoredMatrix m = random_matrix(type, 4, 256, 1);
      const Activations a = pack_activations(*table, format.act, random_floats(512, 1.0f, 1), 256);
      CHECK(multiply(format, m, 0, 0, a, 2, 1) == std::vector<float>{99.0f, 99.0f});
      CHECK(multiply(format, m, 0, 4, a, 0, 4).empty());
    }
  }
}

TEST_CASE("rows wider than any scratch multiply on every table") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : {DType::q4_0, DType::q6_k, DType::bf16, DType::iq2_s}) {
      const FormatKernels& format = table->format(type);
      const std::int64_t cols = 600 * 1024;
      const StoredMatrix m = random_matrix(type, 3, cols, 2);
      for (const std::int64_t tokens : {1, 5}) {
        INFO(table->name << " " << info(type).name << " tokens " << tokens);
        const auto x = random_floats(tokens * cols, 1.0f, 4);
        const Activations a = pack_activations(*table, format.act, x, cols);
        const auto y = multiply(format, m, 0, 3, a, tokens, 3);
        CHECK(ExactProducts(type, m, a.values).wrong(y, kTolerance) == 0);
      }
    }
  }
}

TEST_CASE("every table decodes rows of every format to the reference's bits") {
  for (const Kernels* table : fast_tables()) {
    for (const DTypeInfo& i : all_dtypes()) {
      if (is_planar(i.type)) continue;
      INFO(table->name << " " << i.name);
      const std::int64_t cols = 5 * i.block_elements;
      std::vector<std::byte> row(at(row_bytes(i.type, cols)));
      std::vector<float> got(at(cols));
      std::vector<float> expected(at(cols));
      std::mt19937 random(3);
      for (int trial = 0; trial < 20; ++trial) {
        for (std::byte& b : row) b = static_cast<std::byte>(random());
        const WeightRows view{row.data(), row_bytes(i.type, cols), cols};
        table->format(i.type).decode_row(view, 0, got.data());
        select_kernels("reference").format(i.type).decode_row(view, 0, expected.data());
        int different = 0;
        for (std::int64_t c = 0; c < cols; ++c) {
          // NaN payloads may differ.
          const bool same = std::memcmp(&got[at(c)], &expected[at(c)], 4) == 0 ||
                            (std::isnan(got[at(c)]) && std::isnan(expected[at(c)]));
          different += same ? 0 : 1;
        }
        CHECK(different == 0);
      }
    }
  }
}
