// Random rows of every format decode to what they promise.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/tensor/formats.hpp>
#include <nemo/tensor/random_blocks.hpp>

#include <cmath>
#include <vector>

using namespace nemo;

namespace {

constexpr std::int64_t kCols = 1 << 17;

std::vector<std::byte> bytes_of(DType type, float stddev, std::uint64_t seed,
                                std::int64_t cols = kCols) {
  std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(type, cols)));
  random_row(type, cols, stddev, seed, row.data());
  return row;
}

template <class... Blocks>
void decode_any(BlockList<Blocks...>, DType type, const std::byte* row, std::int64_t cols,
                float* out) {
  ((Blocks::kType == type ? decode_row<Blocks>(row, cols, out) : void()), ...);
}

std::vector<float> values_of(DType type, float stddev, std::uint64_t seed) {
  std::vector<float> out(static_cast<std::size_t>(kCols));
  const auto row = bytes_of(type, stddev, seed);
  decode_any(WeightBlocks{}, type, row.data(), kCols, out.data());
  return out;
}

double correlation(const float* a, const float* b, std::size_t n, double stddev) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum / static_cast<double>(n) / (stddev * stddev);
}

}  // namespace

TEST_CASE("random rows have mean 0 and the wanted spread in every format") {
  for (const DTypeInfo& type : all_dtypes()) {
    if (type.type >= DType::i8) continue;
    for (const float stddev : {0.0015f, 0.02f, 0.027f, 1.0f}) {
      // One tensor-wide scale more makes NVFP4 reach small spreads; see the header.
      if (type.type == DType::nvfp4 && stddev < 0.01f) continue;
      INFO(type.name << " " << stddev);
      const auto values = values_of(type.type, stddev, 42);
      double sum = 0;
      double squares = 0;
      bool finite = true;
      for (const float x : values) {
        finite = finite && std::isfinite(x);
        sum += static_cast<double>(x);
        squares += static_cast<double>(x) * static_cast<double>(x);
      }
      CHECK(finite);
      const auto n = static_cast<double>(values.size());
      const auto wanted = static_cast<double>(stddev);
      CHECK(std::sqrt(squares / n) == Approx(wanted).epsilon(0.03));
      // 2^17 independent values have a mean within 0.003; a sign shared by 256 makes it 16 times
      // that of the formats' own small asymmetry.
      CHECK(std::abs(sum / n) <= 0.012 * wanted);
    }
  }
}

TEST_CASE("random rows depend on the seed and on nothing else") {
  for (const DTypeInfo& type : all_dtypes()) {
    if (type.type >= DType::i8) continue;
    INFO(type.name);
    CHECK(bytes_of(type.type, 0.02f, 7) == bytes_of(type.type, 0.02f, 7));
    const auto a = values_of(type.type, 0.02f, 7);
    const auto b = values_of(type.type, 0.02f, 8);
    // Neighbouring seeds, and neighbouring halves of one row, are unrelated: |r| < 6 / sqrt(n).
    CHECK(std::abs(correlation(a.data(), b.data(), a.size(), 0.02)) < 6 / std::sqrt(a.size()));
    CHECK(std::abs(correlation(a.data(), a.data() + a.size() / 2, a.size() / 2, 0.02)) <
          6 / std::sqrt(a.size() / 2));
  }
}

TEST_CASE("random bytes are the same on every platform") {
  // FNV-1a of one row per format family, recorded on x86-64.
  const auto hash = [](const std::vector<std::byte>& bytes) {
    std::uint32_t h = 2166136261u;
    for (const std::byte b : bytes) h = (h ^ static_cast<std::uint32_t>(b)) * 16777619u;
    return h;
  };
  CHECK(hash(bytes_of(DType::f32, 0.02f, 1, 256)) == 0x3c8a7794u);
  CHECK(hash(bytes_of(DType::q4_0, 0.02f, 1, 256)) == 0xa74dd328u);
  CHECK(hash(bytes_of(DType::q4_k, 0.02f, 1, 256)) == 0xf341215du);
  CHECK(hash(bytes_of(DType::iq2_xs, 0.02f, 1, 256)) == 0xf0dfcd97u);
  CHECK(hash(bytes_of(DType::mxfp4, 0.02f, 1, 256)) == 0x1ecf36b3u);
}

TEST_CASE("random codes stay within what encoders write") {
  const auto row = bytes_of(DType::q8_0, 0.02f, 3);
  const auto* q8 = reinterpret_cast<const BlockQ8_0*>(row.data());
  int wrong = 0;
  for (std::int64_t i = 0; i < kCols / 32; ++i) {
    for (const std::int8_t q : q8[i].qs) wrong += q == -128 ? 1 : 0;
  }
  const auto ternary = bytes_of(DType::tq2_0, 0.02f, 3);
  const auto* tq2 = reinterpret_cast<const BlockTQ2_0*>(ternary.data());
  for (std::int64_t i = 0; i < kCols / 256; ++i) {
    for (const std::uint8_t q : tq2[i].qs) wrong += (q & (q >> 1) & 0x55) != 0 ? 1 : 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("side tensors' types have no random weights") {
  std::byte out[8];
  CHECK_THROWS_AS(random_row(DType::i32, 1, 1.0f, 0, out), Error);
}
