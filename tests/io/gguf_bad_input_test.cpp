// Broken GGUF files: each kind of damage gives an Error that names it; no damage does worse.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/gguf.hpp>

#include <cstring>
#include <random>

using namespace nemo;
using test::GgufBuilder;

namespace {

/// The message, after checking that it is one line.
std::string failure(std::span<const std::byte> bytes) {
  try {
    (void)Gguf::from_memory(bytes, "f");
    return "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.find('\n') == std::string::npos);
    return message;
  }
}
std::string failure(const GgufBuilder& b) { return failure(b.build()); }

GgufBuilder good() {
  GgufBuilder b;
  b.string("general.architecture", "nemotron_h").u32("n", 3).i32s("list", {1, 2, 3});
  b.strings("words", {"a", "bb"}).f32("x", 1.5f);
  b.tensor("first", {64, 4}, DType::q4_0).tensor("second", {8});
  return b;
}

void must_throw_or_load(std::span<const std::byte> bytes) {
  try {
    const Gguf gguf = Gguf::from_memory(bytes, "f");
    // What loads is whole: every byte of every tensor can be read.
    std::uint64_t sum = 0;
    for (const GgufTensor& tensor : gguf.tensors()) {
      for (std::uint64_t i = 0; i < tensor.bytes; ++i) sum += static_cast<unsigned>(tensor.data[i]);
    }
    for (const std::string_view key : gguf.keys()) {
      if (gguf.find(key)->element == GgufType::string) sum += gguf.find_strings(key)->size();
    }
    CHECK(sum < std::uint64_t{1} << 62);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
}

}  // namespace

TEST_CASE("files of another kind are told apart") {
  const auto of = [](std::string_view text) { return failure(std::as_bytes(std::span(text))); };
  CHECK_THAT(of(""), Contains("empty"));
  CHECK_THAT(of("GG"), Contains("not a GGUF file"));
  CHECK_THAT(of("{\"a\": 1}"), Contains("not a GGUF file") && Contains("{"));
  CHECK_THAT(of("version https://git-lfs.github.com/spec/v1"), Contains("Git LFS"));
  CHECK_THAT(of("<!DOCTYPE html><html>"), Contains("web page"));
  CHECK_THAT(of("GGUF"), Contains("truncated"));
  CHECK_THAT(of("\x7f\x45LF\n\n\n\n\n"), Contains("not a GGUF file"));
}

TEST_CASE("other versions and byte orders are refused by name") {
  GgufBuilder b = good();
  b.version = 1;
  CHECK_THAT(failure(b), Contains("version 1 is not supported"));
  b.version = 4;
  CHECK_THAT(failure(b), Contains("version 4 is not supported"));
  b.version = 0x03000000;
  CHECK_THAT(failure(b), Contains("big-endian"));
  b.version = 2;
  CHECK(failure(b) == "no error");
}

TEST_CASE("absurd counts and sizes are refused before anything is allocated") {
  for (const std::uint64_t huge :
       {std::uint64_t{1} << 20, std::uint64_t{1} << 40, ~std::uint64_t{0} - 10}) {
    GgufBuilder b = good();
    b.extra_tensors = huge;
    CHECK_THAT(failure(b), Contains("tensors, more than the file has room for"));
    b = good();
    b.extra_keys = huge;
    CHECK_THAT(failure(b), Contains("keys, more than the file has room for"));
    b = good();
    b.keys.text("big").put(9u).put(8u).put(huge);
    ++b.key_count;
    CHECK_THAT(failure(b), Contains("'big'") && Contains("more than the file has room for"));
    b = good();
    b.keys.text("big").put(9u).put(10u).put(huge);
    ++b.key_count;
    CHECK_THAT(failure(b), Contains("'big'"));
    b = good();
    b.keys.put(huge).raw("key");
    ++b.key_count;
    CHECK_THAT(failure(b), Contains("truncated or corrupt"));
    b = good();
    b.entry("wide", {huge, 2, 3}, 0, 0);
    CHECK_THAT(failure(b), Contains("wide"));
  }
  GgufBuilder b = good();
  b.entry("wide", {1ull << 33, 1ull << 33}, 0, 0);
  CHECK_THAT(failure(b), Contains("overflows") || Contains("absurd"));
}

TEST_CASE("broken metadata is named") {
  GgufBuilder b = good();
  b.u32("n", 4);
  CHECK_THAT(failure(b), Contains("key 'n' appears twice"));
  b = good();
  b.number("odd", 13, 0u);
  CHECK_THAT(failure(b), Contains("key 'odd' has unknown value type 13"));
  b = good();
  b.keys.text("nested").put(9u).put(9u).put(std::uint64_t{1}).put(4u).put(std::uint64_t{0});
  ++b.key_count;
  CHECK_THAT(failure(b), Contains("'nested' is an array of arrays"));
  b = good();
  b.u32("", 1);
  CHECK_THAT(failure(b), Contains("has no name"));
  for (const std::uint32_t alignment : {0u, 1u, 4u, 33u, 1u << 31}) {
    b = good();
    b.u32("general.alignment", alignment);
    CHECK_THAT(failure(b), Contains("general.alignment"));
  }
  b = good();
  b.string("general.alignment", "32");
  CHECK_THAT(failure(b), Contains("general.alignment"));
}

TEST_CASE("broken tensors are named") {
  const auto with = [](std::string_view name, std::vector<std::uint64_t> dims, std::uint32_t type,
                       std::uint64_t offset) {
    GgufBuilder b = good();
    b.data_bytes += 4096;
    b.entry(name, dims, type, offset);
    return failure(b);
  };
  CHECK(with("ok", {8}, 0, 1024) == "no error");
  CHECK_THAT(with("first", {8}, 0, 1024), Contains("tensor 'first' appears twice"));
  CHECK_THAT(with("t", {1, 1, 1, 1, 1}, 0, 1024), Contains("'t' has 5 dimensions"));
  CHECK_THAT(with("t", {8, 0}, 0, 1024), Contains("'t' has a dimension of size 0"));
  CHECK_THAT(with("t", {8}, 4, 1024), Contains("type number 4"));
  CHECK_THAT(with("t", {8}, 63, 1024), Contains("type number 63"));
  CHECK_THAT(with("t", {8}, 0xffffffff, 1024), Contains("type number 4294967295"));
  CHECK_THAT(with("t", {33}, 2, 1024), Contains("rows of 33 elements") && Contains("Q4_0"));
  CHECK_THAT(with("t", {8}, 0, 1025), Contains("not a multiple of the alignment"));
  CHECK_THAT(with("t", {8}, 0, 0), Contains("'first' and 't' overlap"));
  CHECK_THAT(with("t", {8}, 0, 1ull << 40),
             Contains("tensor 't' ends at byte") && Contains("the download is incomplete"));
  CHECK_THAT(with("t", {8}, 0, ~0ull - 31), Contains("tensor 't'"));
  CHECK_THAT(with("", {8}, 0, 1024), Contains("has no name"));
  CHECK_THAT(with("bad\nname\x1b[31m", {8}, 99, 1024), Contains("bad\\x0aname\\x1b[31m"));
}

TEST_CASE("a truncated file says where the tensor would end") {
  auto bytes = good().build();
  bytes.resize(bytes.size() - 32);
  CHECK_THAT(failure(bytes), Contains("tensor 'second' ends at byte") &&
                                 Contains("but the file has " + std::to_string(bytes.size())));
}

TEST_CASE("truncation at every byte is an error") {
  const auto bytes = good().build();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // A copy of exactly this size, so that a read past the end is seen by the sanitizer.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<long>(size));
    const std::string message = failure(cut);
    if (size + 32 > bytes.size()) continue;  // only padding behind the last tensor is missing
    CHECK(message != "no error");
  }
}

TEST_CASE("every single bit of the header can flip") {
  const auto original = good().build();
  const std::size_t header = original.size() - good().data_bytes;
  for (std::size_t bit = 0; bit < 8 * header; ++bit) {
    auto bytes = original;
    bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    must_throw_or_load(bytes);
  }
}

TEST_CASE("random damage to real headers never does worse than an error") {
  const auto original =
      test::read_bytes(std::string(NEMO_SOURCE_DIR) + "/tests/data/gguf/latent128.NVFP4.gguf");
  const std::size_t header = 14000;  // metadata and tensor list of this file
  std::mt19937 random(20240601);
  for (int round = 0; round < 300; ++round) {
    auto bytes = original;
    const unsigned changes = 1 + random() % 8;
    for (unsigned i = 0; i < changes; ++i) {
      const std::size_t at = random() % header;
      if (random() % 4 == 0) {
        // Whole fields: lengths and counts become extreme.
        const std::uint64_t values[] = {0, 1, 0x7fffffff, 0xffffffff, ~0ull, 1ull << 63};
        std::memcpy(bytes.data() + at, &values[random() % std::size(values)], 8);
      } else {
        bytes[at] = static_cast<std::byte>(random());
      }
    }
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    must_throw_or_load(bytes);
  }
}
