// The KV cache kernels of the `avx512vnni` table.
#include "kv.hpp"

#include <kernels/cpu/kv_tables.hpp>

namespace nemo {

constinit const KvKernels kAvx512VnniKvKernels = {
    .rotate = avx512vnni::rotate,
    .encode = avx512vnni::encode,
    .decode = avx512vnni::decode,
    .pack_queries = avx512vnni::pack_queries,
    .scores = avx512vnni::scores,
    .mix = avx512vnni::mix,
};

}  // namespace nemo
