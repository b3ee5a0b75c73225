// The KV cache kernels of the `avx2` table.
#include "kv.hpp"

#include <kernels/cpu/kv_tables.hpp>

namespace nemo {

constinit const KvKernels kAvx2KvKernels = {
    .rotate = avx2::rotate,
    .encode = avx2::encode,
    .decode = avx2::decode,
    .pack_queries = avx2::pack_queries,
    .scores = avx2::scores,
    .mix = avx2::mix,
};

}  // namespace nemo
