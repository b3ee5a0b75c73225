// Which kernel table gets chosen.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/kernels.hpp>

#include <set>
#include <string>

TEST_CASE("the reference comes first, the default is the last, and every table is found by name") {
  const auto tables = nemo::available_kernels();
  REQUIRE_FALSE(tables.empty());
  CHECK(tables.front()->name == "reference");
  CHECK(&nemo::select_kernels() == tables.back());
  std::set<std::string_view> names;
  for (const nemo::Kernels* table : tables) {
    CHECK(&nemo::select_kernels(table->name) == table);
    CHECK(names.insert(table->name).second);
  }
}

TEST_CASE(
    "every table of the build is a choice, and those without a missing feature are available") {
  std::set<const nemo::Kernels*> usable;
  for (const nemo::KernelChoice& choice : nemo::kernel_choices()) {
    INFO(choice.table->name);
    if (choice.missing.empty()) {
      usable.insert(choice.table);
      continue;
    }
    // The feature named as missing is not one that the CPU reports.
    for (const std::string_view feature : nemo::cpu_features()) CHECK(feature != choice.missing);
    CHECK_THROWS_WITH(nemo::select_kernels(choice.table->name),
                      Contains(std::string(choice.missing)));
  }
  const auto available = nemo::available_kernels();
  CHECK(usable == std::set<const nemo::Kernels*>(available.begin(), available.end()));
}

TEST_CASE("the yardsticks count operations in proportion to their rounds") {
  for (const nemo::Kernels* table : nemo::available_kernels()) {
    INFO(table->name);
    float value = 1e-3f;
    CHECK(table->peak_f32(200, &value) == 2 * table->peak_f32(100, &value));
    CHECK(table->peak_f32(1, &value) >= 2);
    // a <- a/2 + s settles at 2 s in every chain.
    float one = 0.25f;
    const auto chains = table->peak_f32(1000, &one);
    CHECK(one > 0.0f);
    CHECK(chains % 2000 == 0);
    if (table->peak_bf16 != nullptr) {
      CHECK(table->peak_bf16(7, &value) == 7 * table->peak_bf16(1, &value));
    }
    for (const auto dot : {table->peak_dot4, table->peak_dot8}) {
      std::int32_t sink = 1;
      const auto once = dot(1, &sink);
      CHECK(once >= 2);
      CHECK(dot(7, &sink) == 7 * once);
    }
  }
}

TEST_CASE("an unknown kernel name is a usage error that lists what there is") {
  try {
    (void)nemo::select_kernels("sse9");
    FAIL("no error");
  } catch (const nemo::Error& error) {
    CHECK(error.code() == nemo::ErrorCode::usage);
    CHECK_THAT(error.what(), Contains("sse9") && Contains("reference"));
  }
}

TEST_CASE("every available table has every kernel") {
  for (const nemo::Kernels* table : nemo::available_kernels()) {
    INFO(table->name);
    const nemo::Kernels& k = *table;
    for (const nemo::DTypeInfo& type : nemo::all_dtypes()) {
      INFO(type.name);
      CHECK(k.format(type.type).decode_row != nullptr);
      const bool is_weight = type.type < nemo::DType::i8 || nemo::is_planar(type.type);
      CHECK((k.format(type.type).matmul != nullptr) == is_weight);
    }
    CHECK((k.quantize_q8 != nullptr && k.half_from_float != nullptr &&
           k.float_from_half != nullptr && k.gemm_nt != nullptr && k.gemm_nn != nullptr &&
           k.gemm_tn != nullptr && k.add != nullptr && k.axpy != nullptr && k.scale != nullptr &&
           k.relu2 != nullptr && k.rms_norm != nullptr && k.gated_group_norm != nullptr &&
           k.exp_sum != nullptr && k.max != nullptr && k.conv_silu != nullptr &&
           k.ssm_step != nullptr && k.scores_half != nullptr && k.mix_half != nullptr));
    for (const nemo::Kernels* own : {table, table->prefill}) {
      if (own == nullptr) continue;
      for (const nemo::DTypeInfo& type : nemo::all_dtypes()) {
        INFO(type.name);
        CHECK((own->format(type.type).act != nemo::ActFormat::q8_winograd ||
               own->quantize_q8_winograd != nullptr));
      }
    }
  }
}
