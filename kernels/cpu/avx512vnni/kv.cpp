// The KV cache kernels of the `avx512vnni` table.
#include "kv.hpp"

#include <kernels/cpu/kv_tables.hpp>

// clang-format off
#include "vector.hpp"
#include "../simd/kv_products-inl.hpp"
// clang-format on

namespace nemo {

constinit const KvKernels kAvx512VnniKvKernels = {
    .rotate = avx512vnni::rotate,
    .encode = avx512vnni::encode,
    .decode = avx512vnni::decode,
    .pack_queries = pack_queries<PlainKv>,
    .scores = kv_scores<PlainKv>,
    .mix = kv_mix<PlainKv>,
};

}  // namespace nemo
