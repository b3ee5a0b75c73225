// Products on packed KV tiles in float: a few tiles are decoded at a time and serve every query
// row. Included after the instruction set's vector.hpp; `decode` is that set's decoder of one tile.
#pragma once

#include "gemm-inl.hpp"

#include <nemo/kv_kernels.hpp>

namespace nemo {
namespace {

[[maybe_unused]] constexpr auto* kUnusedProduct = gemm_tn;

using KvDecode = void(const KvSide& side, const std::byte* codes, const Half* scales, float* rows,
                      std::int64_t ld) noexcept;

constexpr std::int64_t kDecodedTiles = 4;  // 64 tokens x 128 floats: 32 KiB

/// Calls fn(first tile, tiles, rows [16*tiles, dim]) for all tiles, a few at a time.
template <class Fn>
NEMO_SIMD void for_decoded(KvDecode* decode, const KvSide& side, const KvTiles& tiles, Fn fn) {
  alignas(64) float rows[kDecodedTiles * kKvTileTokens * kKvMaxDim];
  for (std::int64_t first = 0; first < tiles.count; first += kDecodedTiles) {
    const std::int64_t rest = tiles.count - first;
    const std::int64_t n = rest < kDecodedTiles ? rest : kDecodedTiles;
    for (std::int64_t i = 0; i < n; ++i) {
      decode(side, tiles.codes + (first + i) * side.tile_bytes(),
             tiles.scales + (first + i) * side.tile_scales(), rows + i * kKvTileTokens * side.dim,
             side.dim);
    }
    fn(first, n, rows);
  }
}

NEMO_SIMD void scores_float(KvDecode* decode, const KvSide& keys, const KvTiles& tiles,
                            const KvQueries& q, std::int64_t rows, float* out, std::int64_t ldo) {
  for_decoded(decode, keys, tiles, [&](std::int64_t first, std::int64_t n, const float* k) {
    gemm_nt(rows, n * kKvTileTokens, keys.dim, q.rows, keys.dim, k, keys.dim,
            out + first * kKvTileTokens, ldo, false);
  });
}

NEMO_SIMD void mix_float(KvDecode* decode, const KvSide& values, const KvTiles& tiles,
                         const float* p, std::int64_t ldp, std::int64_t rows, float* out,
                         std::int64_t ldo) {
  for_decoded(decode, values, tiles, [&](std::int64_t first, std::int64_t n, const float* v) {
    gemm_nn(rows, values.dim, n * kKvTileTokens, p + first * kKvTileTokens, ldp, v, values.dim, out,
            ldo, true);
  });
}

}  // namespace
}  // namespace nemo
