// Weights in kernel order against the same weights in file order: the same bits everywhere.
#include "catch.hpp"
#include "fast_support.hpp"

#include <algorithm>
#include <bit>

using namespace nemo;
using namespace nemo::test;

namespace {

std::vector<DType> ordered_types(const Kernels& table) {
  std::vector<DType> types = weight_types();
  std::erase_if(types, [&](DType type) { return table.format(type).lanes == 0; });
  return types;
}

/// Any bytes: scales may be infinite or not a number.
StoredMatrix arbitrary_matrix(DType type, std::int64_t rows, std::int64_t cols, unsigned seed) {
  StoredMatrix m = random_matrix(type, rows, cols, 1);
  std::mt19937 random(seed);
  for (std::byte& b : m.bytes) b = static_cast<std::byte>(random() >> 24);
  return m;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
           return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y) ||
                  (std::isnan(x) && std::isnan(y));
         });
}

std::vector<float> multiply(const FormatKernels& format, const StoredMatrix& m, std::int64_t row0,
                            std::int64_t rows, const Activations& a, std::int64_t tokens) {
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  const std::int64_t ldy = rows + 1;
  std::vector<float> y(at(tokens * ldy), 99.0f);
  format.matmul(m.view(), row0, rows, a.bytes.data(), a.stride, tokens, y.data(), ldy,
                scratch.data());
  return y;
}

void compare(const Kernels& table, DType type, const StoredMatrix& m, std::int64_t row0,
             std::int64_t rows, const Activations& a, std::int64_t tokens) {
  const FormatKernels& format = table.format(type);
  const auto expected = multiply(format, m, row0, rows, a, tokens);
  const auto got = multiply(format, in_kernel_order(format, m), row0, rows, a, tokens);
  if (same_bits(got, expected)) return;
  INFO(table.name << " " << info(type).name << ": " << rows << " rows from " << row0 << " of "
                  << m.cols << " columns, " << tokens << " tokens");
  CHECK(got == expected);
}

}  // namespace

TEST_CASE("the integer formats have a kernel order in every fast table, the others in none") {
  for (const DType type : weight_types()) {
    const FormatKernels& reference = select_kernels("reference").format(type);
    CHECK(reference.lanes == 0);
    CHECK(reference.to_kernel_order == nullptr);
    for (const Kernels* table : fast_tables()) {
      INFO(table->name << " " << info(type).name);
      const FormatKernels& format = table->format(type);
      CHECK((format.lanes != 0) == (format.act == ActFormat::q8));
      CHECK((format.to_kernel_order != nullptr) == (format.lanes != 0));
      CHECK((format.lanes == 0 || 16 % format.lanes == 0));
    }
  }
}

TEST_CASE("kernel order is a permutation of the bits of a group of rows") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : ordered_types(*table)) {
      INFO(table->name << " " << info(type).name);
      const FormatKernels& format = table->format(type);
      StoredMatrix m{{}, format.lanes, info(type).block_elements, info(type).block_bytes};
      m.bytes.resize(at(m.rows * m.row_bytes));
      std::vector<bool> taken(m.bytes.size() * 8);
      std::size_t distinct = 0;
      for (std::size_t bit = 0; bit < taken.size(); ++bit) {
        m.bytes[bit / 8] = static_cast<std::byte>(1 << (bit % 8));
        const StoredMatrix ordered = in_kernel_order(format, m);
        m.bytes[bit / 8] = std::byte{0};
        int ones = 0;
        std::size_t place = 0;
        for (std::size_t i = 0; i < ordered.bytes.size(); ++i) {
          const auto byte = static_cast<unsigned>(ordered.bytes[i]);
          if (byte == 0) continue;
          ones += std::popcount(byte);
          place = 8 * i + static_cast<std::size_t>(std::countr_zero(byte));
        }
        if (ones != 1) CHECK(ones == 1);
        if (!taken[place]) ++distinct;
        taken[place] = true;
      }
      CHECK(distinct == taken.size());
    }
  }
}

TEST_CASE("products of rows in kernel order have the bits of those in file order") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : ordered_types(*table)) {
      const std::int64_t block = info(type).block_elements;
      for (const std::int64_t blocks : {1, 2, 3, 7}) {
        const std::int64_t cols = block * blocks;
        const StoredMatrix sane = random_matrix(type, 80, cols, 3);
        const StoredMatrix any = arbitrary_matrix(type, 80, cols, static_cast<unsigned>(blocks));
        const Activations a =
            pack_activations(*table, ActFormat::q8,
                             random_floats(40 * cols, 1.0f, static_cast<unsigned>(blocks)), cols);
        for (const std::int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31, 40}) {
          for (const std::int64_t rows : {16, 48, 64}) {
            compare(*table, type, sane, 16, rows, a, tokens);
            compare(*table, type, any, 0, rows, a, tokens);
          }
        }
      }
      SUCCEED();
    }
  }
}

TEST_CASE("products of slabs and strips in kernel order, from any group of rows on") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : ordered_types(*table)) {
      const std::int64_t slab = KernelOrder::kSlabGroups * table->format(type).lanes;
      const std::int64_t all = 2 * slab + 48;
      for (const int blocks : {0, 1}) {
        const std::int64_t cols = 3 * KernelOrder::kStripCols + blocks * info(type).block_elements;
        const StoredMatrix m = random_matrix(type, all, cols, 4);
        const Activations a =
            pack_activations(*table, ActFormat::q8, random_floats(19 * cols, 1.0f, 2), cols);
        for (const std::int64_t tokens : {1, 2, 7, 19}) {
          for (const std::int64_t row0 : {std::int64_t{0}, slab - 16, slab + 32, 2 * slab}) {
            compare(*table, type, m, row0, 16, a, tokens);
            compare(*table, type, m, row0, all - row0, a, tokens);
          }
        }
      }
      SUCCEED();
    }
  }
}

TEST_CASE("products of wide rows in kernel order, a piece of columns after the other") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : ordered_types(*table)) {
      const std::int64_t cols = 49152 + 256;
      const StoredMatrix m = random_matrix(type, 16, cols, 8);
      const Activations a =
          pack_activations(*table, ActFormat::q8, random_floats(12 * cols, 1.0f, 6), cols);
      for (const std::int64_t tokens : {1, 2, 12}) compare(*table, type, m, 0, 16, a, tokens);
      SUCCEED();
    }
  }
}

TEST_CASE("rows in kernel order decode to the reference's bits") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : ordered_types(*table)) {
      INFO(table->name << " " << info(type).name);
      const FormatKernels& format = table->format(type);
      const std::int64_t cols = 3 * KernelOrder::kStripCols + 3 * info(type).block_elements;
      const StoredMatrix m = arbitrary_matrix(type, 160, cols, 5);
      const StoredMatrix ordered = in_kernel_order(format, m);
      std::vector<float> expected(at(m.cols));
      std::vector<float> got(at(m.cols));
      for (std::int64_t r = 0; r < m.rows; ++r) {
        select_kernels("reference").format(type).decode_row(m.view(), r, expected.data());
        format.decode_row(ordered.view(), r, got.data());
        CHECK(same_bits(got, expected));
      }
    }
  }
}

TEST_CASE("any slabs go into kernel order by themselves") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : ordered_types(*table)) {
      INFO(table->name << " " << info(type).name);
      const FormatKernels& format = table->format(type);
      const std::int64_t cols = 3 * KernelOrder::kStripCols + 2 * info(type).block_elements;
      const std::int64_t slab = KernelOrder::slab_rows(format.lanes, cols);
      const StoredMatrix m = random_matrix(type, 4 * slab + 16, cols, 2);
      const StoredMatrix whole = in_kernel_order(format, m);
      std::vector<std::byte> pieces(whole.bytes.size());
      for (const auto& [row0, rows] :
           {std::pair{3 * slab, slab + 16}, {std::int64_t{0}, 2 * slab}, {2 * slab, slab}}) {
        format.to_kernel_order(m.view(), row0, rows, {pieces.data() + row0 * m.row_bytes});
      }
      CHECK(pieces == whole.bytes);
    }
  }
}
