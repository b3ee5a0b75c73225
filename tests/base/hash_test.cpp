// The hash against values of the program that defines it.
#include "catch.hpp"

#include <nemo/base/hash.hpp>

#include <string_view>
#include <vector>

using namespace nemo;

TEST_CASE("hash_bytes is XXH64 at every length and with a seed") {
  std::vector<std::byte> bytes(200);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + 3);
  // Recorded from xxHash 0.8.1.
  const struct {
    std::size_t size;
    std::uint64_t plain, seeded;
  } known[] = {
      {0, 0xef46db3751d8e999, 0xac75fda2929b17ef},  {1, 0x1f25c8d0bc1f4bb6, 0x79cf94f5ace37fe1},
      {3, 0x31d2363f52e564c9, 0x96d2a5e583ddd738},  {4, 0x9bb64b7d66ee9fda, 0x4a862fbb4b73776e},
      {7, 0x9a7b149959ce60d8, 0xddc5cf71d37a6368},  {8, 0xdab99d95c6f90092, 0xc6e75e2cbd8e07ee},
      {31, 0xa2aa5f33cc4a6119, 0x381822f33376d6b6}, {32, 0x23c3c17ef790fd97, 0x9abd315470ac276a},
      {33, 0x50a7cfc7ba588784, 0x72cdd3262f467933}, {64, 0x0eb64b3ef6eeb01f, 0xbcb3847d70525180},
      {77, 0xc4e0603b2473c094, 0x86ba0ce4104b8867}, {200, 0xa6cb3c09bc829b24, 0xfb1dd7eaa8eb8a3c}};
  for (const auto& k : known) {
    INFO(k.size << " bytes");
    CHECK(hash_bytes(std::span(bytes).first(k.size)) == k.plain);
    CHECK(hash_bytes(std::span(bytes).first(k.size), 0x9e3779b1u) == k.seeded);
  }
  const std::string_view abc = "abc";
  CHECK(hash_bytes(std::as_bytes(std::span(abc))) == 0x44bc2cf5ad770999u);
}
