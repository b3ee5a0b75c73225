// Names, numbers and sizes of the element types.
#include "catch.hpp"

#include <nemo/tensor/dtype.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <set>
#include <string>

using nemo::DType;

TEST_CASE("every element type is found by its number and by its name in any case") {
  std::set<std::uint32_t> numbers;
  for (const nemo::DTypeInfo& i : nemo::all_dtypes()) {
    INFO(i.name);
    CHECK(&nemo::info(i.type) == &i);
    if (i.ggml_id != nemo::kNotGgml) CHECK(nemo::dtype_from_ggml(i.ggml_id) == i.type);
    CHECK(nemo::is_planar(i.type) == (i.ggml_id == nemo::kNotGgml));
    CHECK(nemo::dtype_from_name(i.name) == i.type);
    std::string lower(i.name);
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    CHECK(nemo::dtype_from_name(lower) == i.type);
    CHECK((i.ggml_id == nemo::kNotGgml || numbers.insert(i.ggml_id).second));
  }
}

TEST_CASE("retired, runtime-only and unknown type numbers are not types") {
  for (const std::uint32_t id : {4u, 5u, 9u, 15u, 31u, 32u, 33u, 36u, 37u, 38u, 43u, 0xffffffffu}) {
    CHECK_FALSE(nemo::dtype_from_ggml(id).has_value());
  }
  for (const char* name : {"", "Q4", "Q4_0 ", "Q8_1", "Q8_K", "MXFP", "MXFP44"}) {
    CHECK_FALSE(nemo::dtype_from_name(name).has_value());
  }
}

TEST_CASE("block sizes and numbers are those recorded with the golden blocks") {
  std::ifstream file(std::string(NEMO_SOURCE_DIR) + "/tests/data/blocks/blocks.json");
  const auto index = nlohmann::json::parse(file);
  CHECK(index.at("types").size() == 27);
  for (const auto& [name, entry] : index.at("types").items()) {
    INFO(name);
    const auto type = nemo::dtype_from_name(name);
    REQUIRE(type.has_value());
    CHECK(nemo::info(*type).ggml_id == entry.at("ggml_type_id"));
    CHECK(nemo::info(*type).block_elements == entry.at("block_values"));
    CHECK(nemo::info(*type).block_bytes == entry.at("block_bytes"));
    CHECK(nemo::row_bytes(*type, entry.at("cols").get<std::int64_t>()) == entry.at("row_bytes"));
  }
}
