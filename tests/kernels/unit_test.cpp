// Products on a matrix unit (AMX, an emulated one, NEON's int8 matrix instructions), with
// AVX-VNNI's one instruction, or of Winograd's kind, against those of the table they extend: the
// same bits.
#include "catch.hpp"
#include "fast_support.hpp"

#include <algorithm>

#ifdef NEMO_HAVE_EMULATED_UNIT
#include "emulated_unit.hpp"
#endif

using namespace nemo;
using namespace nemo::test;

namespace {

/// A matrix unit's products and the vector products they must equal.
struct Pair {
  std::string name;
  const FormatKernels* unit;  // indexed by DType; matmul may be null
  const Kernels* vectors;
  bool emulated = false;
  ActFormat act = ActFormat::q8;
};

std::vector<Pair> pairs() {
  std::vector<Pair> all;
#ifdef NEMO_HAVE_EMULATED_UNIT
  if (const Kernels* avx2 = find_table("avx2")) {
    all.push_back({"emulated", kEmulatedUnitProducts.formats, avx2, true});
    all.push_back({"emulated winograd", kEmulatedWinogradProducts.formats.formats, avx2, false,
                   ActFormat::q8_winograd});
  }
#endif
  const std::pair<const char*, const char*> tables[] = {
      {"amx", "avx512vnni"}, {"avxvnni", "avx2"}, {"neon_i8mm", "neon"}};
  for (const auto& [name, vectors] : tables) {
    if (const Kernels* unit = find_table(name)) {
      all.push_back({name, unit->formats, find_table(vectors)});
    }
  }
  if (const Kernels* zen4 = find_table("zen4")) {
    all.push_back({"zen4 for prefill", zen4->prefill->formats, find_table("avx512vnni"), false,
                   ActFormat::q8_winograd});
  }
  return all;
}

std::vector<DType> types_of(const Pair& pair) {
  std::vector<DType> types = weight_types();
  std::erase_if(types, [&](DType type) {
    const FormatKernels& unit = pair.unit[static_cast<int>(type)];
    return unit.matmul == nullptr || unit.act != pair.act ||
           pair.vectors->format(type).act != ActFormat::q8;
  });
  REQUIRE_FALSE(types.empty());
  return types;
}

/// Activations as the unit wants them, whose sums serve the vectors, too.
Activations pack(const Pair& pair, const std::vector<float>& x, std::int64_t cols) {
  return pack_activations(select_kernels("reference"), pair.act, x, cols);
}

std::vector<float> multiply(Matmul matmul, const StoredMatrix& m, std::int64_t row0,
                            std::int64_t rows, const Activations& a, std::int64_t tokens,
                            std::int64_t ldy) {
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  std::vector<float> y(at(tokens * ldy), 99.0f);
  matmul(m.view(), row0, rows, a.bytes.data(), a.stride, tokens, y.data(), ldy, scratch.data());
  return y;
}

/// Compares both products; `rows` of them from row `row0` on.
void compare(const Pair& pair, DType type, const StoredMatrix& m, std::int64_t row0,
             std::int64_t rows, const Activations& a, std::int64_t tokens) {
  INFO(pair.name << " " << info(type).name << ": " << rows << " rows from " << row0 << " of "
                 << m.cols << " columns, " << tokens << " tokens");
  const std::int64_t ldy = rows + 3;
  const auto expected = multiply(pair.vectors->format(type).matmul, m, row0, rows, a, tokens, ldy);
  const auto got =
      multiply(pair.unit[static_cast<int>(type)].matmul, m, row0, rows, a, tokens, ldy);
  const bool same = std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0;
  if (!same) CHECK(got == expected);
  const FormatKernels& vectors = pair.vectors->format(type);
  if (row0 % vectors.lanes == 0 && rows % vectors.lanes == 0) {
    const auto ordered = multiply(pair.unit[static_cast<int>(type)].matmul,
                                  in_kernel_order(vectors, m), row0, rows, a, tokens, ldy);
    const bool equal =
        std::memcmp(ordered.data(), expected.data(), ordered.size() * sizeof(float)) == 0;
    if (!equal) CHECK(ordered == expected);
  }
#ifdef NEMO_HAVE_EMULATED_UNIT
  if (pair.emulated) {
    const UnitUse use = take_unit_use();
    if (use.misuse != 0 || use.configured) {
      CHECK(use.misuse == 0);
      CHECK_FALSE(use.configured);
    }
  }
#endif
}

}  // namespace

TEST_CASE("a matrix unit's products have the vector units' bits for every row and token tail") {
  for (const Pair& pair : pairs()) {
    for (const DType type : types_of(pair)) {
      const std::int64_t block = info(type).block_elements;
      for (const std::int64_t blocks : {1, 2, 5}) {
        const std::int64_t cols = block * blocks;
        const StoredMatrix m = random_matrix(type, 83, cols, 3);
        const Activations a = pack(pair, random_floats(70 * cols, 1.0f, 5), cols);
        for (const std::int64_t tokens : {4, 5, 7, 8, 9, 11, 12, 13, 16, 17, 24, 25, 33, 70}) {
          for (const std::int64_t rows : {1, 8, 9, 15, 17, 64, 81}) {
            compare(pair, type, m, 2, rows, a, tokens);
          }
          for (const std::int64_t rows : {16, 64}) compare(pair, type, m, 16, rows, a, tokens);
        }
      }
      SUCCEED();
    }
  }
}

TEST_CASE("a matrix unit's products of wide rows and of many tokens are the vector units'") {
  for (const Pair& pair : pairs()) {
    for (const DType type : types_of(pair)) {
      // More columns than a slab's pass takes, then more than a panel holds.
      for (const std::int64_t cols : {2816, 16384 + 512}) {
        const StoredMatrix m = random_matrix(type, 48, cols, 8);
        const Activations a = pack(pair, random_floats(19 * cols, 1.0f, 6), cols);
        for (const std::int64_t rows : {41, 48}) compare(pair, type, m, 0, rows, a, 19);
      }
      // More tokens than go through at once: by their codes (1 MiB) and by their factors (768 KiB).
      for (const std::int64_t cols : {256, 4096}) {
        const std::int64_t tokens = cols == 256 ? 4099 : 270;
        const StoredMatrix m = random_matrix(type, 9, cols, 9);
        const Activations a = pack(pair, random_floats(tokens * cols, 1.0f, 7), cols);
        compare(pair, type, m, 0, 9, a, tokens);
      }
      SUCCEED();
    }
  }
}

TEST_CASE("a matrix unit is exact with the largest activations of both signs") {
  for (const Pair& pair : pairs()) {
    for (const DType type : types_of(pair)) {
      const std::int64_t cols = 512;
      const std::int64_t tokens = 16;
      const StoredMatrix m = random_matrix(type, 17, cols, 7);
      const int most = pair.act == ActFormat::q8 ? Q8Row::kMostCode : Q8Row::kMostWinogradCode;
      std::vector<float> x(at(tokens * cols));
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t c = 0; c < cols; ++c) {
          const float signs[] = {1.0f, -1.0f, c % 2 == 0 ? 1.0f : -1.0f};
          x[at(t * cols + c)] = signs[t % 3] * static_cast<float>(most) / 64.0f;
        }
      }
      Activations a = pack(pair, x, cols);
      CHECK(Q8Row::at(a.bytes.data(), cols).codes[0] == most);
      compare(pair, type, m, 0, 17, a, tokens);
      SUCCEED();
    }
  }
}

#ifdef NEMO_HAVE_EMULATED_UNIT
TEST_CASE("the unit serves eight tokens and more, the vector units fewer") {
  const Kernels* avx2 = find_table("avx2");
  if (avx2 == nullptr) return;
  const StoredMatrix m = random_matrix(DType::q4_0, 16, 64, 1);
  const Activations a = pack_activations(*avx2, ActFormat::q8, random_floats(64 * 64, 1.0f, 2), 64);
  const Matmul matmul = kEmulatedUnitProducts.formats[static_cast<int>(DType::q4_0)].matmul;
  (void)take_unit_use();
  (void)multiply(matmul, m, 0, 16, a, 7, 16);
  CHECK(take_unit_use().products == 0);
  (void)multiply(matmul, m, 0, 16, a, 8, 16);
  CHECK(take_unit_use().products == 2 * (16 / 8));  // tiles of 32 columns, panels of 8 rows
  (void)multiply(matmul, m, 0, 16, a, 64, 16);
  CHECK(take_unit_use().products == 2 * (16 / 8) * (64 / 8));
}
#endif
