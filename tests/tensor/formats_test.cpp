// The block decoders against golden bytes, and what the codebooks must look like.
#include "catch.hpp"
#include "support/blocks.hpp"

#include <nemo/tensor/formats.hpp>

#include <bit>
#include <cstring>
#include <set>

using namespace nemo;
using nemo::test::golden;
using nemo::test::golden_types;

namespace {

template <class... Blocks>
void decode_any(BlockList<Blocks...>, DType type, const std::byte* row, std::int64_t cols,
                float* out) {
  ((Blocks::kType == type ? decode_row<Blocks>(row, cols, out) : void()), ...);
}

std::vector<float> decode_all(DType type, const std::vector<std::byte>& bytes) {
  const DTypeInfo& i = info(type);
  const auto cols = static_cast<std::int64_t>(bytes.size()) / i.block_bytes * i.block_elements;
  std::vector<float> out(static_cast<std::size_t>(cols));
  decode_any(WeightBlocks{}, type, bytes.data(), cols, out.data());
  return out;
}

std::size_t different_bits(const std::vector<float>& a, const std::vector<float>& b) {
  std::size_t count = a.size() == b.size() ? 0 : a.size() + b.size();
  for (std::size_t i = 0; count <= a.size() && i < a.size(); ++i) {
    count += std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]) ? 1u : 0u;
  }
  return count;
}

}  // namespace

TEST_CASE("every format decodes golden and random blocks to the recorded floats, bit for bit") {
  REQUIRE(golden_types().size() == 27);
  for (const DType type : golden_types()) {
    INFO(info(type).name);
    CHECK(different_bits(decode_all(type, golden(type, "raw").bytes),
                         golden(type, "deq").as<float>()) == 0);
    CHECK(different_bits(decode_all(type, golden(type, "rand.raw").bytes),
                         golden(type, "rand.deq").as<float>()) == 0);
  }
}

TEST_CASE("blocks decode at any address") {
  for (const DType type : golden_types()) {
    INFO(info(type).name);
    const auto& bytes = golden(type, "rand.raw").bytes;
    for (std::size_t shift = 1; shift < 4; ++shift) {
      std::vector<std::byte> moved(bytes.size() + shift);
      std::memcpy(moved.data() + shift, bytes.data(), bytes.size());
      std::vector<float> out(golden(type, "rand.deq").as<float>().size());
      decode_any(WeightBlocks{}, type, moved.data() + shift, static_cast<std::int64_t>(out.size()),
                 out.data());
      CHECK(different_bits(out, golden(type, "rand.deq").as<float>()) == 0);
    }
  }
}

TEST_CASE("every possible byte pattern decodes without undefined behaviour") {
  for (const DTypeInfo& i : all_dtypes()) {
    if (is_planar(i.type)) continue;
    INFO(i.name);
    for (const int fill : {0x00, 0xff, 0x7f, 0x80, 0x7c, 0x55, 0xaa}) {
      const std::vector<std::byte> block(static_cast<std::size_t>(i.block_bytes),
                                         static_cast<std::byte>(fill));
      std::vector<float> out(static_cast<std::size_t>(i.block_elements), 1.5f);
      decode_any(WeightBlocks{}, i.type, block.data(), i.block_elements, out.data());
      decode_any(ScalarBlocks{}, i.type, block.data(), i.block_elements, out.data());
      if (fill == 0 && i.type != DType::nvfp4) {
        for (const float x : out) CHECK(x == 0.0f);
      }
    }
  }
}

TEST_CASE("codebook entries are distinct and made of the levels of their format") {
  const auto check = [](const auto& book, const std::set<int>& levels) {
    std::set<std::uint64_t> entries;
    for (const auto word : book.words) {
      entries.insert(word);
      for (std::size_t j = 0; j < sizeof(word); ++j) {
        CHECK(levels.count(static_cast<int>((word >> (8 * j)) & 255u)) == 1);
      }
    }
    CHECK(entries.size() == std::size(book.words));
  };
  check(kIq2xxsBook, {8, 25, 43});
  check(kIq2xsBook, {8, 25, 43});
  check(kIq2sBook, {8, 25, 43});
  check(kIq3xxsBook, {4, 12, 20, 28, 36, 44, 52, 62});
  check(kIq3sBook, {1, 3, 5, 7, 9, 11, 13, 15});
  check(kIq1sBook, {0, 1, 255});
}

TEST_CASE("seven sign bits are completed to an even number of negatives") {
  for (std::uint32_t bits = 0; bits < 128; ++bits) {
    const std::uint32_t signs = even_signs(bits);
    CHECK((signs & 127u) == bits);
    CHECK(signs < 256);
    CHECK(std::popcount(signs) % 2 == 0);
  }
}
