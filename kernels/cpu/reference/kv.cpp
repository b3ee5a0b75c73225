// The KV cache kernels of the `reference` table: the definition, in float throughout.
#include <kernels/cpu/kv_tables.hpp>
#include <type_traits>

// clang-format off
#include "../simd/kv_codec-inl.hpp"
// clang-format on

namespace nemo {
namespace {

void pack_queries(const KvSide&, const float*, std::int64_t, std::byte*) noexcept {}

void scores(const KvSide& keys, const KvTiles& tiles, const KvQueries& q, std::int64_t rows,
            float* out, std::int64_t ldo) noexcept {
  alignas(64) float k[kKvTileTokens * kKvMaxDim];
  for (std::int64_t tile = 0; tile < tiles.count; ++tile) {
    kv_decode(keys, tiles.codes + tile * keys.tile_bytes(),
              tiles.scales + tile * keys.tile_scales(), k, keys.dim);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t t = 0; t < kKvTileTokens; ++t) {
        float sum = 0.0f;
        for (std::int64_t c = 0; c < keys.dim; ++c) {
          sum += q.rows[r * keys.dim + c] * k[t * keys.dim + c];
        }
        out[r * ldo + tile * kKvTileTokens + t] = sum;
      }
    }
  }
}

void mix(const KvSide& values, const KvTiles& tiles, const float* p, std::int64_t ldp,
         std::int64_t rows, float* out, std::int64_t ldo) noexcept {
  alignas(64) float v[kKvTileTokens * kKvMaxDim];
  for (std::int64_t tile = 0; tile < tiles.count; ++tile) {
    kv_decode(values, tiles.codes + tile * values.tile_bytes(),
              tiles.scales + tile * values.tile_scales(), v, values.dim);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t t = 0; t < kKvTileTokens; ++t) {
        const float weight = p[r * ldp + tile * kKvTileTokens + t];
        for (std::int64_t c = 0; c < values.dim; ++c) {
          out[r * ldo + c] += weight * v[t * values.dim + c];
        }
      }
    }
  }
}

}  // namespace

constinit const KvKernels kReferenceKvKernels = {
    .rotate = kv_rotate,
    .encode = kv_encode,
    .decode = kv_decode,
    .pack_queries = pack_queries,
    .scores = scores,
    .mix = mix,
};

}  // namespace nemo
