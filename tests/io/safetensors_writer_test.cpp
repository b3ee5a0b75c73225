// What the writer of safetensors files writes is what the reader reads.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/safetensors.hpp>
#include <nemo/io/safetensors_writer.hpp>

#include <nlohmann/json.hpp>

#include <cstring>

using namespace nemo;
namespace fs = std::filesystem;

namespace {

std::span<const std::byte> text(std::string_view t) { return std::as_bytes(std::span(t)); }

std::string text_of(const SafeTensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.data), tensor.bytes};
}

}  // namespace

TEST_CASE("tensors of mixed types are read back, each aligned to its elements") {
  const test::TemporaryFolder folder("safetensors-writer");
  SafetensorsWriter writer(folder / "", {});
  const std::int64_t three[] = {3};
  const std::int64_t matrix[] = {2, 2};
  const auto bytes = writer.add_tensor("bytes", "U8", three);
  const auto words = writer.add_tensor("words", "U32", matrix);
  const auto scalar = writer.add_tensor("scalar", "F32", {});
  CHECK(writer.data_bytes() == 3 + 16 + 4);
  writer.begin();
  writer.write(words, 8, text("89abcdef"));
  writer.write(bytes, 0, text("xyz"));
  writer.write(words, 0, text("01234567"));
  CHECK(!fs::exists(folder / "model.safetensors"));
  CHECK_THROWS_WITH(writer.finish(), Contains("'scalar' is incomplete"));
  writer.write(scalar, 0, text("1234"));
  writer.finish();

  const Safetensors read = Safetensors::open_folder(folder / "");
  REQUIRE(read.tensors().size() == 3);
  CHECK(text_of(*read.find("bytes")) == "xyz");
  CHECK(text_of(*read.find("words")) == "0123456789abcdef");
  CHECK(read.find("words")->shape == std::vector<std::int64_t>{2, 2});
  CHECK(read.find("scalar")->shape.empty());
  CHECK(reinterpret_cast<std::uintptr_t>(read.find("words")->data) % 4 == 0);
  CHECK(reinterpret_cast<std::uintptr_t>(read.find("scalar")->data) % 4 == 0);
  CHECK(!fs::exists(folder / "model.safetensors.index.json"));
}

TEST_CASE("large models are split into shards with an index") {
  const test::TemporaryFolder folder("safetensors-shards");
  SafetensorsWriter writer(folder / "", {.shard_bytes = 10});
  const std::int64_t four[] = {4};
  for (const char* name : {"a", "b", "c", "d", "e"}) (void)writer.add_tensor(name, "U8", four);
  writer.begin();
  for (std::size_t i = 0; i < 5; ++i) writer.write(i, 0, text("data"));
  writer.finish();
  CHECK(fs::exists(folder / "model-00003-of-00003.safetensors"));
  const auto index = test::read_bytes(folder / "model.safetensors.index.json");
  const auto json =
      nlohmann::json::parse(reinterpret_cast<const char*>(index.data()),
                            reinterpret_cast<const char*>(index.data()) + index.size());
  CHECK(json["metadata"]["total_size"] == 20);
  CHECK(json["weight_map"]["c"] == "model-00002-of-00003.safetensors");
  const Safetensors read = Safetensors::open_folder(folder / "");
  CHECK(read.files() == 3);
  CHECK(text_of(*read.find("e")) == "data");
}

TEST_CASE("an abandoned writer leaves nothing, and misuse is an error") {
  const test::TemporaryFolder folder("safetensors-abandoned");
  {
    SafetensorsWriter writer(folder / "", {});
    const std::int64_t four[] = {4};
    const auto a = writer.add_tensor("a", "U8", four);
    CHECK_THROWS_WITH(writer.add_tensor("b", "F7", four), Contains("unknown dtype 'F7'"));
    writer.begin();
    CHECK_THROWS_WITH(writer.write(a, 2, text("data")), Contains("past the end of 'a'"));
  }
  CHECK(fs::is_empty(folder / ""));
}
