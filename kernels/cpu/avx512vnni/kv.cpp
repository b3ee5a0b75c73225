// The KV cache kernels of the `avx512vnni` table.
#include "kv.hpp"

#include <kernels/cpu/kv_tables.hpp>

// clang-format off
#include "vector.hpp"
#include "../simd/kv_float-inl.hpp"
#include "kv_products.hpp"
// clang-format on

namespace nemo {
namespace {

template <bool kAffine>
void scores_of(const KvSide& keys, const KvTiles& tiles, const KvPackedQueries& q,
               std::int64_t rows, float* out, std::int64_t ldo) noexcept {
  switch (keys.bits) {
    case 2:
      return score_tiles<2, kAffine>(keys, tiles, q, rows, out, ldo);
    case 3:
      return score_tiles<3, kAffine>(keys, tiles, q, rows, out, ldo);
    case 4:
      return score_tiles<4, kAffine>(keys, tiles, q, rows, out, ldo);
    case 5:
      return score_tiles<5, kAffine>(keys, tiles, q, rows, out, ldo);
    case 6:
      return score_tiles<6, kAffine>(keys, tiles, q, rows, out, ldo);
    case 7:
      return score_tiles<7, kAffine>(keys, tiles, q, rows, out, ldo);
    default:
      return score_tiles<8, kAffine>(keys, tiles, q, rows, out, ldo);
  }
}

void scores(const KvSide& keys, const KvTiles& tiles, const KvQueries& q, std::int64_t rows,
            float* out, std::int64_t ldo) noexcept {
  const KvPackedQueries packed = KvPackedQueries::at(const_cast<std::byte*>(q.packed), keys, rows);
  if (keys.code == KvCode::affine) return scores_of<true>(keys, tiles, packed, rows, out, ldo);
  scores_of<false>(keys, tiles, packed, rows, out, ldo);
}

void mix(const KvSide& values, const KvTiles& tiles, const float* p, std::int64_t ldp,
         std::int64_t rows, float* out, std::int64_t ldo) noexcept {
  // Affine scales may be negative, integer weights not.
  if (values.code == KvCode::affine) {
    mix_float(avx512vnni::decode, values, tiles, p, ldp, rows, out, ldo);
    return;
  }
  switch (values.bits) {
    case 2:
      return mix_tiles<2>(values, tiles, p, ldp, rows, out, ldo);
    case 3:
      return mix_tiles<3>(values, tiles, p, ldp, rows, out, ldo);
    case 4:
      return mix_tiles<4>(values, tiles, p, ldp, rows, out, ldo);
    case 5:
      return mix_tiles<5>(values, tiles, p, ldp, rows, out, ldo);
    case 6:
      return mix_tiles<6>(values, tiles, p, ldp, rows, out, ldo);
    case 7:
      return mix_tiles<7>(values, tiles, p, ldp, rows, out, ldo);
    default:
      return mix_tiles<8>(values, tiles, p, ldp, rows, out, ldo);
  }
}

}  // namespace

constinit const KvKernels kAvx512VnniKvKernels = {
    .rotate = avx512vnni::rotate,
    .encode = avx512vnni::encode,
    .decode = avx512vnni::decode,
    .pack_queries = pack_queries,
    .scores = scores,
    .mix = mix,
};

}  // namespace nemo
