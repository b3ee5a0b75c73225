// What the benchmark counts: bytes, parts, repetitions. Never how long anything took.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/benchmark.hpp>
#include <nemo/engine/roofline.hpp>
#include <nemo/model/traffic.hpp>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace {

std::shared_ptr<const nemo::Model> tiny() {
  nemo::LoadOptions options;
  options.threads = 2;
  options.context = 64;
  return nemo::load(NEMO_SOURCE_DIR "/models/nemo-tiny.gguf", options);
}

}  // namespace

TEST_CASE("a profile of decoding counts every weight once a token, part by part") {
  const auto model = tiny();
  nemo::BenchmarkOptions options;
  options.prompt_tokens = {0};
  options.decode_tokens = {3};
  options.repetitions = 2;
  options.profile = true;
  const auto results = nemo::run_benchmark(*model, options);
  REQUIRE(results.size() == 1);
  const nemo::BenchmarkResult& r = results[0];
  CHECK(r.test == "tg3");
  CHECK(r.profiled_tokens == 6);

  using Part = nemo::Profile::Part;
  const nemo::ModelConfig& config = model->config();
  CHECK(r.profile[Part::mamba].calls == 6 * config.count(nemo::LayerKind::mamba));
  CHECK(r.profile[Part::attention].calls == 6 * config.count(nemo::LayerKind::attention));
  CHECK(r.profile[Part::mlp].calls == 6 * config.count(nemo::LayerKind::mlp));
  CHECK(r.profile[Part::moe].calls == 6 * config.count(nemo::LayerKind::moe));
  CHECK(r.profile[Part::embed].calls == 6);
  CHECK(r.profile[Part::head].calls == 6);

  std::int64_t bytes = 0;
  double seconds = 0;
  for (int i = 0; i < nemo::Profile::kParts; ++i) {
    const auto& entry = r.profile[static_cast<Part>(i)];
    bytes += entry.product_bytes;
    seconds += entry.seconds;
    CHECK(entry.product_seconds <= entry.seconds);
  }
  const auto& table = model->weights().embeddings;
  CHECK(bytes == 6 * (nemo::decode_weight_bytes(model->weights()) - table.row_size()));
  CHECK(seconds > 0);
}

TEST_CASE("without a profile nothing is collected and every depth is reported") {
  const auto model = tiny();
  nemo::BenchmarkOptions options;
  options.prompt_tokens = {4, 8};
  options.decode_tokens = {2};
  options.depths = {0, 16};
  options.repetitions = 1;
  std::vector<std::string> seen;
  const auto results = nemo::run_benchmark(*model, options, [&](const auto& r) {
    seen.push_back(r.test + "@" + std::to_string(r.depth));
  });
  CHECK(seen == std::vector<std::string>{"pp4@0", "pp4@16", "pp8@0", "pp8@16", "tg2@0", "tg2@16"});
  for (const auto& r : results) {
    CHECK(r.profiled_tokens == 0);
    CHECK(r.speeds == std::vector<double>{r.tokens_per_second});
    CHECK(r.tokens_per_second > 0);
    CHECK(r.deviation == 0);
    CHECK(r.profile[nemo::Profile::Part::head].calls == 0);
  }
}

TEST_CASE("a benchmark refuses counts that make no sense and contexts that do not fit") {
  const auto model = tiny();
  const auto fails_with = [&](auto change, nemo::ErrorCode code) {
    nemo::BenchmarkOptions options;
    options.prompt_tokens = {4};
    options.decode_tokens = {};
    options.repetitions = 1;
    change(options);
    try {
      (void)nemo::run_benchmark(*model, options);
    } catch (const nemo::Error& error) {
      return error.code() == code;
    }
    return false;
  };
  using Options = nemo::BenchmarkOptions;
  CHECK(fails_with([](Options& o) { o.prompt_tokens = {-1}; }, nemo::ErrorCode::usage));
  CHECK(fails_with([](Options& o) { o.depths = {-5}; }, nemo::ErrorCode::usage));
  CHECK(fails_with([](Options& o) { o.repetitions = 0; }, nemo::ErrorCode::usage));
  CHECK(fails_with([](Options& o) { o.chunk_tokens = 0; }, nemo::ErrorCode::usage));
  CHECK(fails_with([](Options& o) { o.prompt_tokens = {65}; }, nemo::ErrorCode::capacity));
  CHECK(fails_with([](Options& o) { o.depths = {64}; }, nemo::ErrorCode::capacity));
}

TEST_CASE("a roofline line relates a format's speed to the limits it was given") {
  nemo::MachineLimits limits;
  limits.read_bytes_per_second = limits.f32_ops_per_second = limits.dot8_ops_per_second = 1e9;
  limits.bf16_ops_per_second = 4e9;
  limits.dot4_ops_per_second = 2e9;
  const std::vector<nemo::DType> types = {
      nemo::DType::q4_0, nemo::DType::f32,  nemo::DType::i8,  nemo::DType::affine4,
      nemo::DType::e2m1, nemo::DType::e4m3, nemo::DType::bf16};
  const bool reference = nemo::select_kernels().name == "reference";
  std::vector<nemo::FormatSpeed> seen;
  nemo::measure_formats(nemo::select_kernels(), 2, types, limits, {256, 4, 1 << 20},
                        [&](const nemo::FormatSpeed& s) { seen.push_back(s); });
  std::vector<std::string> names;
  for (const auto& s : seen) names.push_back(s.name);
  CHECK(names == std::vector<std::string>{"Q4_0", "F32", "affine 4 g32", "affine 4 g64", "mxfp4",
                                          "nvfp4", "FP8", "mxfp8",
                                          "BF16"});  // i8 is no weight format
  for (const auto& s : seen) {
    const bool ordered = nemo::select_kernels().format(s.type).lanes != 0;
    CHECK(s.kernel.has_value() == ordered);
    for (const auto& speed : {s.file, s.kernel.value_or(s.file)}) {
      CHECK(speed.read_bytes_per_second > 0);
      CHECK(speed.bandwidth_fraction ==
            Approx(speed.bytes_per_second / speed.read_bytes_per_second));
      const bool floats = s.type == nemo::DType::f32 || s.type == nemo::DType::e4m3 || reference;
      const double peak = s.type == nemo::DType::bf16 ? 4e9 : floats ? 1e9 : 2e9;
      CHECK(speed.peak_fraction == Approx(speed.ops_per_second / peak));
    }
  }
  CHECK_THROWS_AS(nemo::measure_formats(nemo::select_kernels(), 1, types, limits, {16, 4, 1 << 20},
                                        [](const auto&) {}),
                  nemo::Error);
}
