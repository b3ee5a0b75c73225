// The encoders against ggml's bytes and errors, and on difficult rows.
#include "catch.hpp"
#include "support/blocks.hpp"

#include <nemo/base/error.hpp>
#include <nemo/tensor/encode.hpp>
#include <nemo/tensor/formats.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace nemo;
using nemo::test::golden;
using nemo::test::golden_blocks;

namespace {

std::vector<std::byte> encode(DType type, const std::vector<float>& x) {
  const auto cols = static_cast<std::int64_t>(x.size());
  std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(type, cols)));
  encode_row(type, x.data(), cols, row.data());
  return row;
}

template <class... Blocks>
void decode_any(BlockList<Blocks...>, DType type, const std::byte* row, std::int64_t cols,
                float* out) {
  ((Blocks::kType == type ? decode_row<Blocks>(row, cols, out) : void()), ...);
}

std::vector<float> round_trip(DType type, const std::vector<float>& x) {
  std::vector<float> out(x.size());
  const auto row = encode(type, x);
  decode_any(WeightBlocks{}, type, row.data(), static_cast<std::int64_t>(x.size()), out.data());
  return out;
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  double energy = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += difference * difference;
    energy += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  }
  return std::sqrt(error / energy);
}

std::vector<DType> encodable() {
  std::vector<DType> types;
  for (const DTypeInfo& i : all_dtypes()) {
    if (can_encode(i.type)) types.push_back(i.type);
  }
  return types;
}

}  // namespace

TEST_CASE("plain rounding formats encode to ggml's own bytes") {
  const auto source = golden_blocks().at("source").as<float>();
  for (const DType type : {DType::f16, DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0,
                           DType::q5_1, DType::q8_0, DType::mxfp4}) {
    INFO(info(type).name);
    CHECK(encode(type, source) == golden(type, "raw").bytes);
  }
}

TEST_CASE("every encoder comes near the error of ggml's encoder") {
  const auto source = golden_blocks().at("source").as<float>();
  CHECK(encodable().size() == 15);
  for (const DType type : encodable()) {
    if (type == DType::f32) continue;
    const double ours = relative_error(source, round_trip(type, source));
    const double theirs = relative_error(source, golden(type, "deq").as<float>());
    INFO(info(type).name << " " << ours << " vs " << theirs);
    CHECK(ours <= 1.05 * theirs);
  }
}

TEST_CASE("encoders keep Gaussian rows within the error their bits allow") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> x(8192);
  for (float& v : x) v = normal(random);
  // Relative root mean square errors; with about 4 bits, the step is about 1/3 of the deviation.
  const std::pair<DType, double> limits[] = {
      {DType::f32, 0.0},    {DType::f16, 3e-4},  {DType::bf16, 2.5e-3},  {DType::q8_0, 0.007},
      {DType::q6_k, 0.022}, {DType::q5_k, 0.04}, {DType::q5_1, 0.045},   {DType::q5_0, 0.05},
      {DType::q4_k, 0.08},  {DType::q4_1, 0.09}, {DType::iq4_nl, 0.085}, {DType::q4_0, 0.1},
      {DType::mxfp4, 0.13}, {DType::q3_k, 0.18}, {DType::q2_k, 0.32}};
  for (const auto& [type, limit] : limits) {
    INFO(info(type).name);
    CHECK(relative_error(x, round_trip(type, x)) <= limit);
  }
}

TEST_CASE("zero, constant, tiny, huge and one-sided rows encode to something near") {
  for (const DType type : encodable()) {
    INFO(info(type).name);
    const std::vector<float> zero(256, 0.0f);
    CHECK(round_trip(type, zero) == zero);
    for (const float value : {1.0f, -0.375f}) {
      const std::vector<float> constant(256, value);
      CHECK(relative_error(constant, round_trip(type, constant)) <= 0.34);
    }
    std::vector<float> ramp(256);
    for (std::size_t i = 0; i < ramp.size(); ++i) ramp[i] = 0.01f * static_cast<float>(i + 1);
    CHECK(relative_error(ramp, round_trip(type, ramp)) <= 0.2);
    for (const float spread : {1e-38f, 1e-20f, 1e30f}) {
      std::vector<float> scaled(ramp);
      for (float& v : scaled) v *= spread;
      CHECK_NOTHROW(round_trip(type, scaled));
    }
  }
}

TEST_CASE("infinities and NaN encode without undefined behaviour") {
  std::vector<float> x(256, 0.5f);
  x[3] = std::numeric_limits<float>::infinity();
  x[70] = std::numeric_limits<float>::quiet_NaN();
  x[200] = -std::numeric_limits<float>::infinity();
  for (const DType type : encodable()) CHECK_NOTHROW(round_trip(type, x));
}

TEST_CASE("formats without an encoder say so") {
  CHECK_FALSE(can_encode(DType::iq2_xxs));
  CHECK_FALSE(can_encode(DType::i32));
  try {
    (void)encode(DType::iq2_xxs, std::vector<float>(256));
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unsupported);
    CHECK_THAT(error.what(), Contains("IQ2_XXS"));
  }
}
