// Winograd's inner products with packed KV tiles, of AVX2's instructions.
#include "emulated_unit.hpp"

// clang-format off
#include <kernels/cpu/avx2/vector.hpp>
#include <kernels/cpu/simd/kv_winograd-inl.hpp>
// clang-format on

namespace nemo::test {

constinit const KvKernels kWinogradKvKernels = {
    .rotate = nullptr,
    .encode = nullptr,
    .decode = nullptr,
    .pack_queries = pack_queries<WinogradKv>,
    .scores = kv_scores<WinogradKv>,
    .mix = kv_mix<WinogradKv>,
};

}  // namespace nemo::test
