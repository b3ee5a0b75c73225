// The KV cache kernels of the `zen4` table: those of `avx512vnni` but for the products.
#include "../avx512vnni/kv.hpp"

#include <kernels/cpu/kv_tables.hpp>

// clang-format off
#include "../avx512vnni/vector.hpp"
#include "../simd/kv_winograd-inl.hpp"
// clang-format on

namespace nemo {

constinit const KvKernels kZen4KvKernels = {
    .rotate = avx512vnni::rotate,
    .encode = avx512vnni::encode,
    .decode = avx512vnni::decode,
    .pack_queries = pack_queries<WinogradKv>,
    .scores = kv_scores<WinogradKv>,
    .mix = kv_mix<WinogradKv>,
};

}  // namespace nemo
