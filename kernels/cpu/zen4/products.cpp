// What the `zen4` kernel table has of its own: products of 4-bit codes with many tokens, and those
// of kv.cpp.
#include <kernels/cpu/kv_tables.hpp>
#include <kernels/cpu/tables.hpp>

// The shared code is written in terms of vector.hpp.
// clang-format off
#include "../avx512vnni/vector.hpp"
#include "../simd/q8_winograd-inl.hpp"
// clang-format on

namespace nemo {
namespace {

struct Vnni {
  NEMO_SIMD static I add_dot(I acc, I a, I b) { return _mm512_dpbusd_epi32(acc, a, b); }
};

}  // namespace

constinit const WinogradProducts kZen4Products =
    winograd_products<Vnni>(WeightBlocks{}, PlanarCodes{}, &kZen4KvKernels);

}  // namespace nemo
