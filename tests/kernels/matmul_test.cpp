// The reference product of every weight format, on the golden blocks.
#include "catch.hpp"
#include "support/blocks.hpp"

#include <nemo/base/aligned.hpp>
#include <nemo/kernels.hpp>

#include <cmath>
#include <cstring>
#include <vector>

using namespace nemo;
using nemo::test::golden;
using nemo::test::golden_blocks;
using nemo::test::golden_types;

namespace {

struct Weights {
  AlignedBuffer<std::byte> bytes;
  WeightRows rows;
  std::int64_t count;
};

Weights weights(DType type, const std::string& what) {
  const auto& tensor = golden(type, what + "raw");
  Weights w;
  w.bytes = AlignedBuffer<std::byte>(tensor.bytes.size());
  std::memcpy(w.bytes.data(), tensor.bytes.data(), tensor.bytes.size());
  w.count = tensor.shape[0];
  const std::int64_t cols = golden(type, what + "deq").shape[1];
  w.rows = {w.bytes.data(), row_bytes(type, cols), cols};
  return w;
}

/// `tokens` variations of the golden activation vector.
std::vector<float> activations(std::int64_t tokens, std::int64_t cols) {
  const auto x = golden_blocks().at("x").as<float>();
  std::vector<float> acts(static_cast<std::size_t>(tokens * cols));
  for (std::size_t i = 0; i < acts.size(); ++i) {
    acts[i] = x[(i * 7 + i / x.size()) % x.size()];
  }
  return acts;
}

}  // namespace

TEST_CASE("the reference product of every format is the decoded row times the activations") {
  const Kernels& reference = select_kernels("reference");
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  for (const DType type : golden_types()) {
    for (const std::string what : {"", "rand."}) {
      INFO(info(type).name << " " << what);
      const FormatKernels& format = reference.format(type);
      const Weights w = weights(type, what);
      const std::int64_t cols = w.rows.cols;
      const std::int64_t tokens = 3;
      const auto acts = activations(tokens, cols);
      const auto decoded = golden(type, what + "deq").as<float>();
      REQUIRE(format.act == ActFormat::f32);
      const std::int64_t ldy = w.count + 1;
      std::vector<float> y(static_cast<std::size_t>(tokens * ldy), 99.0f);
      format.matmul(w.rows, 0, w.count, reinterpret_cast<const std::byte*>(acts.data()), cols * 4,
                    tokens, y.data(), ldy, scratch.data());
      int wrong = 0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t r = 0; r < w.count; ++r) {
          double sum = 0;
          double magnitude = 0;
          for (std::int64_t c = 0; c < cols; ++c) {
            const double term =
                static_cast<double>(decoded[static_cast<std::size_t>(r * cols + c)]) *
                static_cast<double>(acts[static_cast<std::size_t>(t * cols + c)]);
            sum += term;
            magnitude += std::abs(term);
          }
          const double got = static_cast<double>(y[static_cast<std::size_t>(t * ldy + r)]);
          wrong += std::abs(got - sum) <= 1e-7 * magnitude ? 0 : 1;
        }
        CHECK(y[static_cast<std::size_t>(t * ldy + w.count)] == 99.0f);
      }
      CHECK(wrong == 0);
    }
    // The recorded product of the golden file itself.
    const Weights w = weights(type, "");
    const auto x = golden_blocks().at("x").as<float>();
    const auto expected = golden(type, "y").as<double>();
    std::vector<float> y(expected.size());
    reference.format(type).matmul(w.rows, 0, w.count, reinterpret_cast<const std::byte*>(x.data()),
                                  w.rows.cols * 4, 1, y.data(), w.count, scratch.data());
    for (std::size_t r = 0; r < y.size(); ++r) {
      CHECK(static_cast<double>(y[r]) == Approx(expected[r]).epsilon(1e-6).margin(1e-9));
    }
  }
}

TEST_CASE("a product has the same bits however rows and tokens are split over calls") {
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  const FormatKernels& format = select_kernels("reference").format(DType::q5_0);
  const Weights w = weights(DType::q5_0, "rand.");
  const std::int64_t tokens = 5;
  const auto acts = activations(tokens, w.rows.cols);
  const auto* bytes = reinterpret_cast<const std::byte*>(acts.data());
  const std::int64_t stride = w.rows.cols * 4;
  std::vector<float> whole(static_cast<std::size_t>(tokens * w.count));
  std::vector<float> split = whole;
  format.matmul(w.rows, 0, w.count, bytes, stride, tokens, whole.data(), w.count, scratch.data());
  for (std::int64_t t = 0; t < tokens; t += 2) {
    for (std::int64_t r = 0; r < w.count; r += 3) {
      format.matmul(w.rows, r, std::min<std::int64_t>(3, w.count - r), bytes + t * stride, stride,
                    std::min<std::int64_t>(2, tokens - t), split.data() + t * w.count + r, w.count,
                    scratch.data());
    }
  }
  CHECK(split == whole);
}

TEST_CASE("rows wider than the scratch space still multiply") {
  const std::int64_t cols = static_cast<std::int64_t>(kMatmulScratchBytes / 4) + 1280;
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  const FormatKernels& format = select_kernels("reference").format(DType::q4_0);
  const auto& block = golden(DType::q4_0, "raw").bytes;
  std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(DType::q4_0, cols)));
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = block[i % block.size()];
  std::vector<float> decoded(static_cast<std::size_t>(cols));
  format.decode_row({row.data(), static_cast<std::int64_t>(row.size()), cols}, 0, decoded.data());
  const auto acts = activations(1, cols);
  double sum = 0;
  double magnitude = 0;
  for (std::size_t i = 0; i < acts.size(); ++i) {
    sum += static_cast<double>(decoded[i]) * static_cast<double>(acts[i]);
    magnitude += std::abs(static_cast<double>(decoded[i]) * static_cast<double>(acts[i]));
  }
  float y = 0;
  format.matmul({row.data(), static_cast<std::int64_t>(row.size()), cols}, 0, 1,
                reinterpret_cast<const std::byte*>(acts.data()), cols * 4, 1, &y, 1,
                scratch.data());
  CHECK(std::abs(static_cast<double>(y) - sum) <= 1e-6 * magnitude);
}

TEST_CASE("every table decodes every format to the same bits as the reference") {
  for (const Kernels* table : available_kernels()) {
    for (const DType type : golden_types()) {
      INFO(table->name << " " << info(type).name);
      const auto& raw = golden(type, "rand.raw");
      const auto expected = golden(type, "rand.deq").as<float>();
      std::vector<float> out(expected.size());
      table->format(type).decode_row({raw.bytes.data(), 0, static_cast<std::int64_t>(out.size())},
                                     0, out.data());
      CHECK(std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("integer and double tensors decode to float") {
  const Kernels& reference = select_kernels("reference");
  const std::int32_t ints[] = {-7, 0, 123456};
  float out[3];
  reference.format(DType::i32).decode_row({reinterpret_cast<const std::byte*>(ints), 0, 3}, 0, out);
  CHECK((out[0] == -7.0f && out[1] == 0.0f && out[2] == 123456.0f));
  const double doubles[] = {0.5, -2.0};
  reference.format(DType::f64)
      .decode_row({reinterpret_cast<const std::byte*>(doubles), 0, 2}, 0, out);
  CHECK((out[0] == 0.5f && out[1] == -2.0f));
  const std::int8_t bytes[] = {-128, 127};
  reference.format(DType::i8).decode_row({reinterpret_cast<const std::byte*>(bytes), 0, 2}, 0, out);
  CHECK((out[0] == -128.0f && out[1] == 127.0f));
}
