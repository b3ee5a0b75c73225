// What the `amx` kernel table has of its own: the products of many tokens on tile registers.
#include "tiles.hpp"

#include <kernels/cpu/tables.hpp>

// The shared code is written in terms of the vector operations.
// clang-format off
#include "../avx512vnni/vector.hpp"
#include "../simd/q8_unit-inl.hpp"
// clang-format on

namespace nemo {
namespace {

// Inline assembly, because gcc 12's intrinsics do not tell it which memory they read. Slot i has
// its sums in register i, of 0..3, activations in 4 or 5, weights in 6 or 7.
struct AmxUnit {
  NEMO_SIMD static void configure(std::int64_t tokens, std::int64_t depth) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      const bool weights = i >= 6;
      config.rows[i] = static_cast<std::uint8_t>(weights ? depth / 4 : tokens);
      config.row_bytes[i] = static_cast<std::uint16_t>(i == 4 || i == 5 ? depth : kLaneBytes);
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  template <int kSlot>
  NEMO_SIMD static void multiply(const std::byte* acts, std::int64_t stride, const std::byte* codes,
                                 std::int32_t* sums) {
    asm volatile(
        "tilezero %%tmm%c[c]\n\t"
        "tileloadd (%[acts],%[stride],1), %%tmm%c[a]\n\t"
        "tileloadd (%[codes],%[line],1), %%tmm%c[b]\n\t"
        "tdpbssd %%tmm%c[b], %%tmm%c[a], %%tmm%c[c]\n\t"
        "tilestored %%tmm%c[c], (%[sums],%[line],1)"
        :
        : [acts] "r"(acts), [stride] "r"(stride), [codes] "r"(codes), [sums] "r"(sums),
          [line] "r"(kLaneBytes), [a] "i"(4 + kSlot % 2), [b] "i"(6 + kSlot % 2), [c] "i"(kSlot)
        : "memory");
  }
  NEMO_SIMD static void release() { asm volatile("tilerelease" : : : "memory"); }
  NEMO_SIMD static const Kernels& vectors() { return kAvx512VnniKernels; }
};

/// Two by two full products a round, operands from L1.
std::int64_t peak_tiles(std::int64_t rounds, std::int32_t* sink) noexcept {
  constexpr std::int64_t kTile = 1024;
  alignas(64) std::byte operands[4 * kTile];
  alignas(64) std::int32_t sums[kTile / 4];
  for (std::int64_t i = 0; i < 4 * kTile; ++i) {
    operands[i] = static_cast<std::byte>((sink[0] + i) % 100);
  }
  AmxUnit::configure(kLanes, kLaneBytes);
  asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3" : : :);
  for (std::int64_t r = 0; r < rounds; ++r) {
    asm volatile(
        "tileloadd (%0,%4,1), %%tmm4\n\t"
        "tileloadd (%2,%4,1), %%tmm6\n\t"
        "tdpbssd %%tmm6, %%tmm4, %%tmm0\n\t"
        "tileloadd (%1,%4,1), %%tmm5\n\t"
        "tdpbssd %%tmm6, %%tmm5, %%tmm1\n\t"
        "tileloadd (%3,%4,1), %%tmm7\n\t"
        "tdpbssd %%tmm7, %%tmm4, %%tmm2\n\t"
        "tdpbssd %%tmm7, %%tmm5, %%tmm3"
        :
        : "r"(operands), "r"(operands + kTile), "r"(operands + 2 * kTile),
          "r"(operands + 3 * kTile), "r"(kLaneBytes)
        : "memory");
  }
  asm volatile("tilestored %%tmm0, (%0,%1,1)" : : "r"(sums), "r"(kLaneBytes) : "memory");
  AmxUnit::release();
  sink[0] = sums[0];
  return 2 * rounds * 4 * kLanes * kLanes * kLaneBytes;
}

}  // namespace

constinit const ProductKernels kAmxProducts = {
    unit_products<AmxUnit>(WeightBlocks{}, PlanarCodes{}), peak_tiles};

}  // namespace nemo
