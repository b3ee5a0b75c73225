// Sizes of states and caches against the published tables.
#include "catch.hpp"

#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/checkpoint/presets.hpp>

using namespace nemo;

TEST_CASE("state and cache sizes are those of the architecture") {
  struct Expected {
    const char* name;
    double kv_bytes;     // per token, 16 bit
    std::int64_t state;  // fp32 SSM + fp32 convolution, per sequence
  };
  const auto expected = GENERATE(values<Expected>({
      {"nano-4b", 16384, 82575360 + 2451456},
      {"nano-30b-a3b", 6144, 48234496 + 1695744},
      {"super-120b-a12b", 8192, 167772160 + 4915200},
      {"ultra-550b-a55b", 12288, 402653184 + 10616832},
  }));
  const ModelConfig c = preset_config(expected.name);
  const MemoryPlan plan = plan_memory(c, 1000, 1 << 18, 4);
  CHECK(plan.state == expected.state);
  CHECK(plan.weights == 1000);
  REQUIRE(plan.kv.size() == 2);
  CHECK(plan.kv[0].policy == "fp16");
  CHECK(plan.kv[0].bytes_per_token == expected.kv_bytes);
  CHECK(plan.kv[1].policy == "fp32");
  CHECK(plan.kv[1].bytes_per_token == 2 * expected.kv_bytes);
  CHECK(static_cast<double>(plan.kv[0].bytes) == expected.kv_bytes * (1 << 18));
  CHECK(plan.kv[0].total == plan.weights + plan.state + plan.scratch + plan.kv[0].bytes);
  CHECK(plan.scratch > 0);
  CHECK(plan.scratch < std::int64_t{4} << 30);
}

TEST_CASE("the verdict says whether the model fits") {
  MemoryPlan plan;
  plan.context = 1000;
  plan.physical = 25000000000;
  plan.kv = {{"fp16", 1, 1000, 18000000000}};
  plan.weights = 17000000000;
  CHECK_THAT(plan.verdict(), Contains("needs 18.0 GB") && Contains("25.0 GB: it fits"));
  plan.kv[0].bytes_per_token = 1000;
  plan.kv[0].bytes = 1000000;
  // 92 % of 25 GB, less the 17.999 GB that are not cache.
  CHECK(plan.longest_context(plan.kv[0]) == 5001000);
  plan.kv[0].total = 30000000000;
  CHECK(plan.longest_context(plan.kv[0]) == 0);
  plan.weights = 29000000000;
  CHECK_THAT(plan.verdict(), Contains("runs from disk"));
  plan.kv.push_back({"turbo:8,3", 1, 1000, 20000000000});
  CHECK_THAT(plan.verdict(), Contains("--kv turbo:8,3") && Contains("fits so, but not with fp16"));
  plan.kv.pop_back();
  plan.weights = 1000000000;
  CHECK_THAT(plan.verdict(), Contains("does not fit"));
  plan.physical = 0;
  CHECK_THAT(plan.verdict(), Contains("unknown"));
}

TEST_CASE("byte counts are short") {
  CHECK(human_bytes(0) == "0 B");
  CHECK(human_bytes(999) == "999 B");
  CHECK(human_bytes(1000) == "1.00 kB");
  CHECK(human_bytes(17969222400) == "18.0 GB");
  CHECK(human_bytes(999600000) == "1.00 GB");
  CHECK(human_bytes(123456) == "123 kB");
}
