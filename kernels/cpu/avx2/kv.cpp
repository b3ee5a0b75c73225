// The KV cache kernels of the `avx2` table.
#include "kv.hpp"

#include <kernels/cpu/kv_tables.hpp>

// clang-format off
#include "vector.hpp"
#include "../simd/kv_products-inl.hpp"
// clang-format on

namespace nemo {

constinit const KvKernels kAvx2KvKernels = {
    .rotate = avx2::rotate,
    .encode = avx2::encode,
    .decode = avx2::decode,
    .pack_queries = pack_queries<PlainKv>,
    .scores = kv_scores<PlainKv>,
    .mix = kv_mix<PlainKv>,
};

}  // namespace nemo
