// Attention products over a half-precision cache;
// included after the instruction set's vector.hpp.
//
// Tiles of the cache are expanded once to float in a stack buffer and then serve every query row:
// 16 query heads share one K/V head, so the expansion costs a sixteenth or less of the products.
// Keys are expanded transposed, which turns scores into sums down the lanes.
#pragma once

#include "elementwise-inl.hpp"
#include "gemm-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kTileTokens = 64;
constexpr std::int64_t kTileDim = 128;  // 64 x 128 floats: 32 KiB of stack, resident in L2
static_assert(kTileTokens % kStrip == 0 && kTileDim % kStrip == 0);

/// Fetches the row that is read a tile later: rows are short runs far apart, which hardware does
/// not foresee. Behind the last row nothing happens.
NEMO_SIMD void fetch_ahead(const Half* row, std::int64_t ld, std::int64_t dim) {
  const auto* at = reinterpret_cast<const std::byte*>(row + kTileTokens * ld);
  for (std::int64_t i = 0; i < 2 * dim; i += 64) __builtin_prefetch(at + i, 0, 3);
}

/// Writes 8 elements of kLanes keys, transposed: out[j * kStrip + t] = k[t * ldk + j].
NEMO_SIMD void expand_keys(const Half* k, std::int64_t ldk, float* out) {
  I rows[4];
  I pairs[4];  // word t of pairs[j] = elements 2j, 2j+1 of key t
  load_rows(reinterpret_cast<const std::byte*>(k), 2 * ldk, rows);
  transpose(rows, pairs);
  for (int j = 0; j < 4; ++j) {
    F even, odd;
    split_halves(pairs[j], even, odd);
    store(even, out + (2 * j) * kStrip);
    store(odd, out + (2 * j + 1) * kStrip);
  }
}

/// Expands keys [0, tokens) x elements [0, dim) into strips of [kTileDim, kStrip].
NEMO_SIMD void expand_key_tile(const Half* k, std::int64_t ldk, std::int64_t tokens,
                               std::int64_t dim, float* out) {
  const std::int64_t dim8 = dim / 8 * 8;
  const auto strip_of = [&](std::int64_t t) {
    return out + t / kStrip * kStrip * kTileDim + t % kStrip;
  };
  std::int64_t t = 0;
  for (; t + kLanes <= tokens; t += kLanes) {
    for (std::int64_t r = t; r < t + kLanes; ++r) fetch_ahead(k + r * ldk, ldk, dim);
    for (std::int64_t c = 0; c < dim8; c += 8) {
      expand_keys(k + t * ldk + c, ldk, strip_of(t) + c * kStrip);
    }
  }
  if (t < tokens) {  // a copy padded to full vectors
    alignas(64) Half copy[kLanes * kTileDim] = {};
    const auto bytes = static_cast<std::size_t>(dim8) * sizeof(Half);
    for (std::int64_t r = 0; t + r < tokens; ++r) {
      __builtin_memcpy(copy + r * kTileDim, k + (t + r) * ldk, bytes);
    }
    for (std::int64_t c = 0; c < dim8; c += 8) {
      expand_keys(copy + c, kTileDim, strip_of(t) + c * kStrip);
    }
  }
  for (std::int64_t c = dim8; c < dim; ++c) {
    for (std::int64_t r = 0; r < tokens; ++r) {
      strip_of(r)[c * kStrip] = to_float(k[r * ldk + c]);
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
      strip_product(rows, count, width, q + c, ldq, keys, kTileDim * kStrip, scores + t, lds,
                    c > 0);
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
        const Half* row = v + (t + r) * ldv + c;
        float* to = values + r * kStrip;
        fetch_ahead(row, ldv, width);
        for (std::int64_t i = 0; i < width; i += kStrip, to += kTileTokens * kStrip) {
          float_from_half(row + i, width - i < kStrip ? width - i : kStrip, to);
        }
      }
      strip_product(rows, width, count, p + t, ldp, values, kTileTokens * kStrip, out + c, ldo,
                    true);
    }
  }
}

}  // namespace
}  // namespace nemo
