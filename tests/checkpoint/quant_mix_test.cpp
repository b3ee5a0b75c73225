// Types per tensor against files that llama.cpp's quantizer wrote.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/checkpoint/presets.hpp>
#include <nemo/checkpoint/quant_mix.hpp>

#include <filesystem>
#include <map>

using namespace nemo;

namespace {

/// Checks one NAME.MIX.gguf.
void compare(const std::filesystem::path& path) {
  INFO(path);
  const std::string stem = path.stem().string();
  const QuantMix& mix = find_quant_mix(stem.substr(stem.find('.') + 1));
  const Gguf gguf = Gguf::open(path);
  const ModelConfig config = config_from_gguf(gguf);
  CHECK(gguf.get_int("general.file_type") == static_cast<std::int64_t>(mix.file_type));
  MixAssigner types(mix, config);
  for (const LayoutTensor& tensor : gguf_layout(config)) {
    INFO(tensor.name);
    const GgufTensor* stored = gguf.find_tensor(tensor.name);
    REQUIRE(stored != nullptr);
    for (std::size_t d = 0; d < tensor.dims.size(); ++d) CHECK(stored->dims[d] == tensor.dims[d]);
    CHECK(info(types.next(tensor)).name == info(stored->type).name);
  }
}

std::map<std::string, int> type_counts(const ModelConfig& config, const char* mix) {
  MixAssigner types(find_quant_mix(mix), config);
  std::map<std::string, int> counts;
  for (const LayoutTensor& tensor : gguf_layout(config)) {
    ++counts[std::string(info(types.next(tensor)).name)];
  }
  return counts;
}

}  // namespace

TEST_CASE("every tensor gets the type that llama.cpp's quantizer gave it") {
  for (const char* folder : {"/tests/data/gguf", "/../shared/golden/gguf/models"}) {
    const std::filesystem::path path = std::string(NEMO_SOURCE_DIR) + folder;
    if (!std::filesystem::exists(path)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".gguf") compare(entry.path());
    }
  }
}

TEST_CASE("rows of the 30B model do not fit K blocks and fall back") {
  const ModelConfig nano = preset_config("nano-30b-a3b");
  auto counts = type_counts(nano, "Q2_K");
  CHECK(counts["Q4_0"] > counts["Q2_K"]);  // 2688, 1856 and 3712 are no multiples of 256
  CHECK(counts["Q2_K"] == 23);             // ssm_out has rows of 4096
  CHECK(counts["Q3_K"] == 6);              // so has attn_output
  counts = type_counts(nano, "IQ2_XXS");
  CHECK(counts["IQ4_NL"] > 100);
  counts = type_counts(nano, "MXFP4");
  CHECK(counts["MXFP4"] == 46);
  counts = type_counts(nano, "Q4_0");
  CHECK(counts["Q6_K"] == 0);  // the head's row is no multiple of 256 ...
  CHECK(planned_weight_bytes(nano, "Q4_0") > std::int64_t{17900000000});
  CHECK(planned_weight_bytes(nano, "Q4_0") < std::int64_t{18100000000});
  counts = type_counts(preset_config("super-120b-a12b"), "Q4_0");
  CHECK(counts["Q6_K"] == 1);  // ... but 4096 is
}

TEST_CASE("mixes are found by name in any case, unknown ones list the known") {
  CHECK(find_quant_mix("q4_k_m").base == DType::q4_k);
  CHECK(find_quant_mix("Q4_K").name == "Q4_K_M");
  CHECK(find_quant_mix("mxfp4").name == "MXFP4_MOE");
  CHECK_THROWS_WITH(find_quant_mix("Q9_X"), Contains("'Q9_X'") && Contains("Q4_K_M"));
  for (const QuantMix& mix : quant_mixes()) CHECK(&find_quant_mix(mix.name) == &mix);
}
