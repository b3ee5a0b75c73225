// Reading what the writer wrote, what llama.cpp wrote, and split files.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/gguf.hpp>
#include <nemo/io/gguf_writer.hpp>

#include <algorithm>
#include <array>

using namespace nemo;

namespace {

const std::string kData = std::string(NEMO_SOURCE_DIR) + "/tests/data/gguf/";

/// Splits a two-tensor model over `parts` files as llama.cpp names them.
void write_split(const test::TemporaryFolder& folder, std::uint16_t parts, int total = -1) {
  for (std::uint16_t part = 0; part < parts; ++part) {
    test::GgufBuilder b;
    if (part == 0) b.string("general.architecture", "nemotron_h");
    b.number("split.no", 2, part).number("split.count", 2, parts);
    b.number("split.tensors.count", 5, std::int32_t{total < 0 ? parts : total});
    b.tensor("tensor" + std::to_string(part), {4, 3});
    test::write_bytes(folder / ("m-0000" + std::to_string(part + 1) + "-of-0000" +
                                std::to_string(parts) + ".gguf"),
                      b.build());
  }
}

}  // namespace

TEST_CASE("what the writer writes, the reader reads") {
  const test::TemporaryFolder folder("gguf-round-trip");
  const std::uint32_t alignment = GENERATE(32u, 64u, 8u);
  const std::vector<std::int32_t> ints = {-1, 0, 7};
  const std::vector<std::string> words = {"", "two words", "\xc4\xa0x"};
  const std::array<std::int64_t, 2> matrix = {64, 3};
  const std::array<std::int64_t, 1> vector = {5};
  const std::vector<float> values = {1, 2, 3, 4, 5};
  std::vector<std::byte> blocks(3 * 2 * 34);
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(i);

  GgufWriter writer(folder / "a.gguf", alignment);
  writer.add_string("s", "text");
  writer.add_u16("u16", 65535);
  writer.add_u32("u32", 4000000000u);
  writer.add_i32("i32", -5);
  writer.add_u64("u64", 1ull << 40);
  writer.add_f32("f32", 0.5f);
  writer.add_bool("yes", true);
  writer.add_i32s("ints", ints);
  writer.add_strings("words", words);
  const auto a = writer.add_tensor("a", DType::q8_0, matrix);
  const auto b = writer.add_tensor("b", DType::f32, vector);
  CHECK(writer.tensor_bytes(a) == blocks.size());
  writer.begin();
  writer.write(b, 0, std::as_bytes(std::span(values)));
  writer.write(a, 100, std::span(blocks).subspan(100));
  CHECK_THROWS_AS(writer.write(a, 100, blocks), Error);
  CHECK_THROWS_AS(writer.finish(), Error);
  writer.write(a, 0, std::span(blocks).first(100));
  writer.finish();

  const Gguf gguf = Gguf::open(folder / "a.gguf");
  CHECK(gguf.version() == 3);
  CHECK(gguf.file_bytes() == writer.file_bytes());
  CHECK(std::filesystem::file_size(folder / "a.gguf") == writer.file_bytes());
  CHECK(gguf.get_string("s") == "text");
  CHECK(gguf.get_int("u16") == 65535);
  CHECK(gguf.get_int("u32") == 4000000000);
  CHECK(gguf.get_int("i32") == -5);
  CHECK(gguf.get_int("u64") == std::int64_t{1} << 40);
  CHECK(gguf.find_float("f32") == 0.5);
  CHECK(gguf.find_float("i32") == -5.0);
  CHECK(gguf.find_bool("yes") == true);
  CHECK(gguf.find_ints("ints") == std::vector<std::int64_t>{-1, 0, 7});
  CHECK(gguf.find_ints("u16") == std::vector<std::int64_t>{65535});
  CHECK(gguf.find_strings("words") == std::vector<std::string_view>{"", "two words", "\xc4\xa0x"});
  CHECK(!gguf.find_int("absent"));
  REQUIRE(gguf.tensors().size() == 2);
  const GgufTensor* tensor = gguf.find_tensor("a");
  REQUIRE(tensor != nullptr);
  CHECK(tensor->type == DType::q8_0);
  CHECK(tensor->dims == std::array<std::int64_t, 4>{64, 3, 1, 1});
  CHECK(std::equal(blocks.begin(), blocks.end(), tensor->data));
  CHECK(std::memcmp(gguf.find_tensor("b")->data, values.data(), 20) == 0);
  CHECK(gguf.find_tensor("c") == nullptr);
}

TEST_CASE("copied metadata values are the same values") {
  const Gguf source = Gguf::open(kData + "moe256.Q2_K.gguf");
  const test::TemporaryFolder folder("gguf-copy");
  GgufWriter writer(folder / "copy.gguf");
  for (const std::string_view key : source.keys()) writer.add_value(key, *source.find(key));
  writer.begin();
  writer.finish();
  const Gguf copy = Gguf::open(folder / "copy.gguf");
  REQUIRE(std::equal(copy.keys().begin(), copy.keys().end(), source.keys().begin(),
                     source.keys().end()));
  for (const std::string_view key : source.keys()) {
    const GgufValue& a = *source.find(key);
    const GgufValue& b = *copy.find(key);
    CHECK(a.type == b.type);
    CHECK(a.count == b.count);
    CHECK(std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end()));
  }
}

TEST_CASE("typed access names the key and both types when they differ") {
  test::GgufBuilder b;
  b.string("name", "x").strings("list", {"a"}).f32("number", 1.0f);
  const auto bytes = b.build();
  const Gguf gguf = Gguf::from_memory(bytes, "file.gguf");
  CHECK_THROWS_WITH(gguf.get_int("name"),
                    "file.gguf: key 'name' has type string, expected an integer");
  CHECK_THROWS_WITH(gguf.get_string("list"),
                    "file.gguf: key 'list' has type array of string, expected string");
  CHECK_THROWS_WITH(gguf.find_ints("list"), Contains("expected an integer or an array"));
  CHECK_THROWS_WITH(gguf.find_strings("number"), Contains("has type f32"));
  CHECK_THROWS_WITH(gguf.find_float("name"), Contains("expected a number"));
  CHECK_THROWS_WITH(gguf.get_int("gone"), "file.gguf: key 'gone' is missing");
}

TEST_CASE("llama.cpp's files open and their tensors fill the file") {
  for (const auto& entry : std::filesystem::directory_iterator(kData)) {
    if (entry.path().extension() != ".gguf") continue;
    INFO(entry.path());
    const Gguf gguf = Gguf::open(entry.path());
    CHECK(gguf.parts() == 1);
    CHECK(gguf.file_bytes() == std::filesystem::file_size(entry.path()));
    std::uint64_t bytes = 0;
    for (const GgufTensor& tensor : gguf.tensors()) bytes += tensor.bytes;
    CHECK(bytes <= gguf.file_bytes());
    CHECK(bytes > gguf.file_bytes() * 9 / 10);
    gguf.will_need();
  }
}

TEST_CASE("a split model opens from any of its parts") {
  const test::TemporaryFolder folder("gguf-split");
  write_split(folder, 3);
  for (const char* part : {"1", "2", "3"}) {
    const Gguf gguf = Gguf::open(folder / ("m-0000" + std::string(part) + "-of-00003.gguf"));
    CHECK(gguf.parts() == 3);
    CHECK(gguf.tensors().size() == 3);
    CHECK(gguf.get_string("general.architecture") == "nemotron_h");
    CHECK(gguf.find_tensor("tensor2") != nullptr);
  }
}

TEST_CASE("a split model with a missing or wrong part says which") {
  const test::TemporaryFolder folder("gguf-split-bad");
  write_split(folder, 3);
  SECTION("missing part") {
    std::filesystem::remove(folder / "m-00002-of-00003.gguf");
    CHECK_THROWS_WITH(Gguf::open(folder / "m-00001-of-00003.gguf"),
                      Contains("part 2 of 3 is missing") && Contains("m-00002-of-00003.gguf"));
  }
  SECTION("a part under another part's name") {
    std::filesystem::copy_file(folder / "m-00003-of-00003.gguf", folder / "m-00002-of-00003.gguf",
                               std::filesystem::copy_options::overwrite_existing);
    CHECK_THROWS_WITH(Gguf::open(folder / "m-00001-of-00003.gguf"),
                      Contains("says it is part 3 of 3") && Contains("part 2 of 3"));
  }
  SECTION("renamed first part") {
    std::filesystem::rename(folder / "m-00001-of-00003.gguf", folder / "model.gguf");
    CHECK_THROWS_WITH(Gguf::open(folder / "model.gguf"),
                      Contains("split into 3 files") && Contains("-0000X-of-00003.gguf"));
  }
  SECTION("wrong total") {
    write_split(folder, 3, 7);
    CHECK_THROWS_WITH(Gguf::open(folder / "m-00001-of-00003.gguf"),
                      Contains("hold 3 tensors") && Contains("says 7"));
  }
  SECTION("a truncated later part") {
    auto bytes = test::read_bytes(folder / "m-00003-of-00003.gguf");
    bytes.resize(bytes.size() - 40);
    test::write_bytes(folder / "m-00003-of-00003.gguf", bytes);
    CHECK_THROWS_WITH(Gguf::open(folder / "m-00001-of-00003.gguf"),
                      Contains("00003-of-00003") && Contains("the download is incomplete"));
  }
  SECTION("the same tensor in two parts") {
    test::GgufBuilder b;
    b.number("split.no", 2, std::uint16_t{1}).number("split.count", 2, std::uint16_t{3});
    b.tensor("tensor0", {4, 3});
    test::write_bytes(folder / "m-00002-of-00003.gguf", b.build());
    CHECK_THROWS_WITH(Gguf::open(folder / "m-00001-of-00003.gguf"), Contains("appears twice"));
  }
  SECTION("one part from memory") {
    const auto bytes = test::read_bytes(folder / "m-00001-of-00003.gguf");
    CHECK_THROWS_WITH(Gguf::from_memory(bytes), Contains("one part of a split model"));
  }
}
