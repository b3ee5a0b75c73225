// Attention products over a half-precision cache;
// included after the instruction set's vector.hpp.
//
// Tiles of the cache are expanded once to float in a stack buffer and then serve every query row:
// 16 query heads share one K/V head, so the expansion costs a sixteenth or less of the products.
// Keys are expanded transposed, [dim, tokens], which turns scores into sums down the lanes.
#pragma once

#include "elementwise-inl.hpp"
#include "gemm-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kTileTokens = 64;
constexpr std::int64_t kTileDim = 128;  // 64 x 128 floats: 32 KiB of stack, resident in L2

/// Writes 8 elements of kLanes keys, transposed: out[j * kTileTokens + t] = k[t * ldk + j].
NEMO_SIMD void expand_keys(const Half* k, std::int64_t ldk, float* out) {
  I rows[4];
  I pairs[4];  // word t of pairs[j] = elements 2j, 2j+1 of key t
  load_rows(reinterpret_cast<const std::byte*>(k), 2 * ldk, rows);
  transpose(rows, pairs);
  for (int j = 0; j < 4; ++j) {
    store(low_halves(pairs[j]), out + (2 * j) * kTileTokens);
    store(high_halves(pairs[j]), out + (2 * j + 1) * kTileTokens);
  }
}

/// Expands keys [0, tokens) x elements [0, dim) into out[dim, kTileTokens].
NEMO_SIMD void expand_key_tile(const Half* k, std::int64_t ldk, std::int64_t tokens,
                               std::int64_t dim, float* out) {
  const std::int64_t dim8 = dim / 8 * 8;
  std::int64_t t = 0;
  for (; t + kLanes <= tokens; t += kLanes) {
    for (std::int64_t c = 0; c < dim8; c += 8) {
      expand_keys(k + t * ldk + c, ldk, out + c * kTileTokens + t);
    }
  }
  if (t < tokens) {  // a copy padded to full vectors
    alignas(64) Half copy[kLanes * kTileDim] = {};
    const auto bytes = static_cast<std::size_t>(dim8) * sizeof(Half);
    for (std::int64_t r = 0; t + r < tokens; ++r) {
      __builtin_memcpy(copy + r * kTileDim, k + (t + r) * ldk, bytes);
    }
    for (std::int64_t c = 0; c < dim8; c += 8) {
      expand_keys(copy + c, kTileDim, out + c * kTileTokens + t);
    }
  }
  for (std::int64_t c = dim8; c < dim; ++c) {
    for (std::int64_t r = 0; r < tokens; ++r) {
      out[c * kTileTokens + r] = to_float(k[r * ldk + c]);
    }
  }
}

void scores_half(const float* q, std::int64_t ldq, std::int64_t rows, const Half* k,
                 std::int64_t ldk, std::int64_t tokens, std::int64_t dim, float* scores,
                 std::int64_t lds) noexcept {
  alignas(64) float keys[kTileDim * kTileTokens];
  for (std::int64_t t = 0; t < tokens; t += kTileTokens) {
    const std::int64_t count = tokens - t < kTileTokens ? tokens - t : kTileTokens;
    for (std::int64_t c = 0; c < dim; c += kTileDim) {
      const std::int64_t width = dim - c < kTileDim ? dim - c : kTileDim;
      expand_key_tile(k + t * ldk + c, ldk, count, width, keys);
      outer_product(rows, count, width, q + c, ldq, 1, keys, kTileTokens, scores + t, lds, c > 0);
    }
  }
}

void mix_half(const float* p, std::int64_t ldp, std::int64_t rows, const Half* v, std::int64_t ldv,
              std::int64_t tokens, std::int64_t dim, float* out, std::int64_t ldo) noexcept {
  alignas(64) float values[kTileTokens * kTileDim];
  for (std::int64_t t = 0; t < tokens; t += kTileTokens) {
    const std::int64_t count = tokens - t < kTileTokens ? tokens - t : kTileTokens;
    for (std::int64_t c = 0; c < dim; c += kTileDim) {
      const std::int64_t width = dim - c < kTileDim ? dim - c : kTileDim;
      for (std::int64_t r = 0; r < count; ++r) {
        float_from_half(v + (t + r) * ldv + c, width, values + r * kTileDim);
      }
      outer_product(rows, width, count, p + t, ldp, 1, values, kTileDim, out + c, ldo, true);
    }
  }
}

}  // namespace
}  // namespace nemo
