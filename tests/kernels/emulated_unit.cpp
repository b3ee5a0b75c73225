// Emulates a matrix unit: tile registers with a shape each, as AMX has, kLanes rows of them.
#include "emulated_unit.hpp"

#include <kernels/cpu/tables.hpp>

// clang-format off
#include <kernels/cpu/avx2/vector.hpp>
#include <kernels/cpu/simd/q8_unit-inl.hpp>
// clang-format on

namespace nemo {
namespace {

test::UnitUse use;

struct Shape {
  std::int64_t rows = 0;
  std::int64_t bytes = 0;
};
struct Tile {
  Shape shape;
  std::byte rows[16][64];

  void load(const std::byte* from, std::int64_t stride) {
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      __builtin_memcpy(rows[r], from + r * stride, static_cast<std::size_t>(shape.bytes));
    }
  }
};

struct EmulatedUnit {
  static inline Tile acts;
  static inline Tile weights;
  static inline Tile sums[kUnitSlots];

  static void shape(Tile& tile, std::int64_t rows, std::int64_t bytes) {
    if (rows < 1 || rows > 16 || bytes < 4 || bytes > 64 || bytes % 4 != 0) ++use.misuse;
    tile = {{rows, bytes}, {}};  // configuring zeroes the registers
  }
  static void configure(std::int64_t tokens, std::int64_t depth) {
    if (tokens > kLanes) ++use.misuse;
    shape(acts, tokens, depth);
    shape(weights, depth / 4, kLaneBytes);
    for (Tile& tile : sums) shape(tile, tokens, kLaneBytes);
    use.configured = true;
  }

  template <int kSlot>
  static void multiply(const std::byte* a, std::int64_t stride, const std::byte* b,
                       std::int32_t* out) {
    static_assert(kSlot >= 0 && kSlot < kUnitSlots);
    ++use.products;
    if (!use.configured) ++use.misuse;
    acts.load(a, stride);
    weights.load(b, kLaneBytes);
    const Shape c = sums[kSlot].shape;
    for (std::int64_t t = 0; t < c.rows; ++t) {
      for (std::int64_t r = 0; r < c.bytes / 4; ++r) {
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < acts.shape.bytes; ++k) {
          sum += static_cast<std::int8_t>(acts.rows[t][k]) *
                 static_cast<std::int8_t>(weights.rows[k / 4][4 * r + k % 4]);
        }
        __builtin_memcpy(out + t * kLanes + r, &sum, 4);
      }
    }
  }
  static void release() { use.configured = false; }
  static const Kernels& vectors() { return kAvx2Kernels; }
};

}  // namespace

namespace test {

constinit const FormatTable kEmulatedUnitProducts =
    unit_products<EmulatedUnit>(WeightBlocks{}, PlanarCodes{});

UnitUse take_unit_use() {
  const UnitUse was = use;
  use = {};
  return was;
}

}  // namespace test
}  // namespace nemo
