// Winograd's inner products of bytes, with an emulated instruction.
#include "emulated_unit.hpp"

#include <kernels/cpu/tables.hpp>

// clang-format off
#include <kernels/cpu/avx2/vector.hpp>
#include <kernels/cpu/simd/q8_winograd-inl.hpp>
// clang-format on

namespace nemo {
namespace {

struct EmulatedDot {
  static I add_dot(I acc, I a, I b) {
    alignas(64) std::int32_t sums[kLanes];
    alignas(64) std::uint8_t x[4 * kLanes];
    alignas(64) std::int8_t y[4 * kLanes];
    store_bytes(acc, sums);
    store_bytes(a, x);
    store_bytes(b, y);
    for (int i = 0; i < 4 * kLanes; ++i) sums[i / 4] += x[i] * y[i];
    return load_bytes(sums);
  }
};

}  // namespace

namespace test {

constinit const WinogradProducts kEmulatedWinogradProducts =
    winograd_products<EmulatedDot>(WeightBlocks{}, PlanarCodes{}, &kWinogradKvKernels);

}  // namespace test
}  // namespace nemo
