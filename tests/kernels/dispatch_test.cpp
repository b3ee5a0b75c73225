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
  }
}
