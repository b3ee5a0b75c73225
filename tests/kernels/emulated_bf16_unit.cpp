// Emulates what TDPBF16PS, on registers of kLanes rows, and VDPBF16PS do with each bf16 number.
#include "emulated_unit.hpp"

// clang-format off
#include <kernels/cpu/avx2/vector.hpp>
#include <kernels/cpu/simd/bf16_matmul-inl.hpp>
#include <kernels/cpu/simd/bf16_gemm-inl.hpp>
#include <kernels/cpu/simd/e4m3_pairs-inl.hpp>
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

/// To the nearest, of two as near the even one; subnormals are zeros.
std::uint32_t rounded(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(flushed(x));
  if (x != x) return bits >> 16 | 0x40u;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

struct EmulatedPairs {
  static I round(F first, F second) {
    alignas(64) float a[kLanes], b[kLanes];
    alignas(64) std::uint32_t words[kLanes];
    store(first, a);
    store(second, b);
    for (int i = 0; i < kLanes; ++i) words[i] = rounded(a[i]) | rounded(b[i]) << 16;
    return load_bytes(words);
  }
  static void store_row(F first, F second, float* to) {
    alignas(64) float x[2 * kLanes];
    store(first, x);
    store(second, x + kLanes);
    for (int i = 0; i < kLanes; ++i) {
      to[i] = std::bit_cast<float>(rounded(x[2 * i]) | rounded(x[2 * i + 1]) << 16);
    }
  }
  static F add(F acc, I a, I b) {
    alignas(64) float sums[kLanes];
    alignas(64) std::uint32_t x[kLanes], y[kLanes];
    store(acc, sums);
    store_bytes(a, x);
    store_bytes(b, y);
    for (int i = 0; i < kLanes; ++i) {
      for (const bool second : {true, false}) {
        sums[i] = flushed(__builtin_fmaf(part(x[i], second), part(y[i], second), sums[i]));
      }
    }
    return load(sums);
  }
  static void e4m3_words(const std::byte* codes, I& first, I& second) {
    alignas(64) std::uint16_t numbers[kE4m3Step];
    for (int i = 0; i < kE4m3Step; ++i) {
      numbers[i] =
          static_cast<std::uint16_t>(rounded(e4m3(std::to_integer<std::uint8_t>(codes[i]))));
    }
    first = load_bytes(numbers);
    second = load_bytes(numbers + 2 * kLanes);
  }
  static const Kernels& vectors() { return kAvx2Kernels; }
};

}  // namespace

namespace test {

constinit const FloatProducts kEmulatedPartProducts = {.e4m3_matmul = e4m3_matmul<EmulatedPairs>};
constinit const FloatProducts kEmulatedPairProducts = pair_float_products<EmulatedPairs>();

constinit const FloatProducts kEmulatedFloatProducts = unit_float_products<EmulatedBf16Unit, 2>();
constinit const FloatProducts kEmulatedPrefillProducts = unit_float_products<EmulatedBf16Unit, 1>();

UnitUse take_bf16_unit_use() {
  const UnitUse was = use;
  use = {};
  return was;
}

}  // namespace test
}  // namespace nemo
