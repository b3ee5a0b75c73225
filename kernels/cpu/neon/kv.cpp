// The KV cache kernels of the `neon` table.
#include "kv.hpp"

#include <kernels/cpu/kv_tables.hpp>

// clang-format off
#include "vector.hpp"
#include "../simd/kv_products-inl.hpp"
// clang-format on

namespace nemo {

constinit const KvKernels kNeonKvKernels = {
    .rotate = neon::rotate,
    .encode = neon::encode,
    .decode = neon::decode,
    .pack_queries = pack_queries<PlainKv>,
    .scores = kv_scores<PlainKv>,
    .mix = kv_mix<PlainKv>,
};

}  // namespace nemo
