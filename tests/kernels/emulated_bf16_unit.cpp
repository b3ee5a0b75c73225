// Emulates a bf16 matrix unit: what TDPBF16PS does with each number, on registers of kLanes rows.
#include "emulated_unit.hpp"

// clang-format off
#include <kernels/cpu/avx2/vector.hpp>
#include <kernels/cpu/simd/bf16_matmul-inl.hpp>
// clang-format on

namespace nemo {
namespace {

test::UnitUse use;

/// Subnormals are zeros, before and after every operation.
float flushed(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.0f, x) : x; }
float part(std::uint32_t word, bool second) {
  return flushed(std::bit_cast<float>(second ? word & 0xffff0000u : word << 16));
}

struct EmulatedBf16Unit {
  static inline std::int64_t heights[8], widths[8];
  static inline std::uint32_t registers[8][kLanes][kLanes];

  static void configure(std::int64_t rows, std::int64_t words) {
    if (rows < 1 || rows > kLanes || words < 1 || words > kLanes || use.configured) ++use.misuse;
    for (int i = 0; i < 8; ++i) {
      heights[i] = i == 4 || i == 5 ? kLanes : rows;
      widths[i] = i == 4 || i == 5 ? kLanes : words;
    }
    __builtin_memset(registers, 0, sizeof registers);
    use.configured = true;
  }
  template <int kRegister>
  static void zero() {
    __builtin_memset(registers[kRegister], 0, sizeof registers[kRegister]);
  }
  template <int kRegister>
  static void load(const std::byte* tile, std::int64_t stride) {
    if (!use.configured) ++use.misuse;
    for (std::int64_t r = 0; r < heights[kRegister]; ++r) {
      __builtin_memcpy(registers[kRegister][r], tile + r * stride,
                       static_cast<std::size_t>(4 * widths[kRegister]));
    }
  }
  template <int kSums, int kFirst, int kSecond>
  static void multiply() {
    ++use.products;
    if (!use.configured || heights[kSums] != heights[kFirst] || heights[kSecond] != kLanes ||
        widths[kSums] != widths[kSecond] || widths[kFirst] != kLanes) {
      ++use.misuse;
    }
    for (std::int64_t i = 0; i < heights[kSums]; ++i) {
      for (std::int64_t j = 0; j < widths[kSums]; ++j) {
        float sums[2] = {0.0f, 0.0f};
        for (std::int64_t w = 0; w < kLanes; ++w) {
          for (const bool second : {false, true}) {
            float& sum = sums[second ? 1 : 0];
            sum = flushed(__builtin_fmaf(part(registers[kFirst][i][w], second),
                                         part(registers[kSecond][w][j], second), sum));
          }
        }
        std::uint32_t& to = registers[kSums][i][j];
        to = std::bit_cast<std::uint32_t>(
            flushed(flushed(std::bit_cast<float>(to)) + flushed(sums[0] + sums[1])));
      }
    }
  }
  template <int kRegister>
  static void store(float* tile) {
    if (!use.configured) ++use.misuse;
    for (std::int64_t r = 0; r < heights[kRegister]; ++r) {
      __builtin_memcpy(tile + r * kLanes, registers[kRegister][r],
                       static_cast<std::size_t>(4 * widths[kRegister]));
    }
  }
  static void release() {
    if (!use.configured) ++use.misuse;
    use.configured = false;
  }
  static const Kernels& vectors() { return kAvx2Kernels; }
};

}  // namespace

namespace test {

constinit const FloatProducts kEmulatedFloatProducts = unit_float_products<EmulatedBf16Unit>();

UnitUse take_bf16_unit_use() {
  const UnitUse was = use;
  use = {};
  return was;
}

}  // namespace test
}  // namespace nemo
