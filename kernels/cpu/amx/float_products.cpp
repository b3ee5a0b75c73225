// What the `amx` kernel table has of its own on CPUs with AMX bf16: float products on tiles.
#include "tiles.hpp"

// The shared code is written in terms of the vector operations.
// clang-format off
#include "../avx512vnni/vector.hpp"
#include "../simd/bf16_matmul-inl.hpp"
// clang-format on

namespace nemo {
namespace {

// Inline assembly, because gcc 12's intrinsics do not tell it which memory they read.
struct AmxBf16Unit {
  NEMO_SIMD static void configure(std::int64_t rows, std::int64_t words) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      const bool whole = i == 4 || i == 5;
      config.rows[i] = static_cast<std::uint8_t>(whole ? kLanes : rows);
      config.row_bytes[i] = static_cast<std::uint16_t>(whole ? kLineBytes : 4 * words);
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  template <int kRegister>
  NEMO_SIMD static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kRegister));
  }
  template <int kRegister>
  NEMO_SIMD static void load(const std::byte* tile, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
                 :
                 : "r"(tile), "r"(stride), "i"(kRegister)
                 : "memory");
  }
  template <int kSums, int kFirst, int kSecond>
  NEMO_SIMD static void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0"
                 :
                 : "i"(kSums), "i"(kFirst), "i"(kSecond));
  }
  template <int kRegister>
  NEMO_SIMD static void store(float* tile) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                 :
                 : "r"(tile), "r"(kLineBytes), "i"(kRegister)
                 : "memory");
  }
  NEMO_SIMD static void release() { asm volatile("tilerelease" : : : "memory"); }
  NEMO_SIMD static const Kernels& vectors() { return kAvx512VnniKernels; }
};

}  // namespace

constinit const FloatProducts kAmxFloatProducts = unit_float_products<AmxBf16Unit, 2>();
constinit const FloatProducts kAmxPrefillProducts = unit_float_products<AmxBf16Unit, 1>();

}  // namespace nemo
