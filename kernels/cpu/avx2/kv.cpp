// The KV cache kernels of the `avx2` table.
#include "kv.hpp"

#include <kernels/cpu/kv_tables.hpp>

// clang-format off
#include "vector.hpp"
#include "../simd/kv_float-inl.hpp"
// clang-format on

namespace nemo {
namespace {

void pack_queries(const KvSide&, const float*, std::int64_t, std::byte*) noexcept {}

void scores(const KvSide& keys, const KvTiles& tiles, const KvQueries& q, std::int64_t rows,
            float* out, std::int64_t ldo) noexcept {
  scores_float(avx2::decode, keys, tiles, q, rows, out, ldo);
}

void mix(const KvSide& values, const KvTiles& tiles, const float* p, std::int64_t ldp,
         std::int64_t rows, float* out, std::int64_t ldo) noexcept {
  mix_float(avx2::decode, values, tiles, p, ldp, rows, out, ldo);
}

}  // namespace

constinit const KvKernels kAvx2KvKernels = {
    .rotate = avx2::rotate,
    .encode = avx2::encode,
    .decode = avx2::decode,
    .pack_queries = pack_queries,
    .scores = scores,
    .mix = mix,
};

}  // namespace nemo
