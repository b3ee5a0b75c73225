// Attention products over a half-precision cache;
// included after the instruction set's vector.hpp.
//
// A strip of keys or a tile of values is expanded once to float in a stack buffer, small enough for
// L1, and then serves every query row: 16 query heads share one K/V head, so the expansion costs a
// sixteenth or less of the products. Keys are expanded transposed, which turns scores into sums
// down the lanes.
#pragma once

#include "elementwise-inl.hpp"
#include "gemm-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kKeyDim = 128;      // kStrip keys: 8 KiB, or 32 where 64 make a strip
constexpr std::int64_t kValueTokens = 32;  // 16 KiB of values
constexpr std::int64_t kValueDim = 128;
static_assert(kValueDim % kStrip == 0);

/// out[c * kStrip + t] = k[t * ldk + c] for `dim` elements of kLanes keys.
NEMO_SIMD void expand_keys(const Half* k, std::int64_t ldk, std::int64_t dim, float* out) {
  const std::int64_t whole = dim / kHalfColumns * kHalfColumns;
  for (std::int64_t c = 0; c < whole; c += kHalfColumns) {
    F columns[kHalfColumns];
    load_columns(k + c, ldk, columns);
    for (int i = 0; i < kHalfColumns; ++i) store(columns[i], out + (c + i) * kStrip);
  }
  for (int t = 0; t < kLanes; ++t) {
    for (std::int64_t c = whole; c < dim; ++c) out[c * kStrip + t] = to_float(k[t * ldk + c]);
  }
}

/// The same for `tokens` <= kStrip keys, zeros behind them up to a full vector.
NEMO_SIMD void expand_key_strip(const Half* k, std::int64_t ldk, std::int64_t tokens,
                                std::int64_t dim, float* out) {
  for (std::int64_t t = 0; t < tokens; t += kLanes) {
    if (t + kLanes <= tokens) {
      expand_keys(k + t * ldk, ldk, dim, out + t);
      continue;
    }
    alignas(64) Half copy[kLanes * kKeyDim] = {};
    for (std::int64_t r = t; r < tokens; ++r) {
      __builtin_memcpy(copy + (r - t) * kKeyDim, k + r * ldk,
                       static_cast<std::size_t>(dim) * sizeof(Half));
    }
    expand_keys(copy, kKeyDim, dim, out + t);
  }
}

void scores_half(const float* q, std::int64_t ldq, std::int64_t rows, const Half* k,
                 std::int64_t ldk, std::int64_t tokens, std::int64_t dim, float* scores,
                 std::int64_t lds) noexcept {
  alignas(64) float keys[kKeyDim * kStrip];
  for (std::int64_t t = 0; t < tokens; t += kStrip) {
    const std::int64_t count = tokens - t < kStrip ? tokens - t : kStrip;
    for (std::int64_t c = 0; c < dim; c += kKeyDim) {
      const std::int64_t width = dim - c < kKeyDim ? dim - c : kKeyDim;
      expand_key_strip(k + t * ldk + c, ldk, count, width, keys);
      const std::int64_t steps = c == 0 ? strip_steps(rows, count, width) : 0;
      Ahead ahead = rows_ahead(k + t * ldk, ldk, count, steps);
      strip_product(rows, count, width, q + c, ldq, keys, 0, scores + t, lds, c > 0, ahead);
    }
  }
}

void mix_half(const float* p, std::int64_t ldp, std::int64_t rows, const Half* v, std::int64_t ldv,
              std::int64_t tokens, std::int64_t dim, float* out, std::int64_t ldo) noexcept {
  constexpr std::int64_t kStripFloats = kValueTokens * kStrip;
  alignas(64) float values[kValueTokens * kValueDim];
  for (std::int64_t t = 0; t < tokens; t += kValueTokens) {
    const std::int64_t count = tokens - t < kValueTokens ? tokens - t : kValueTokens;
    for (std::int64_t c = 0; c < dim; c += kValueDim) {
      const std::int64_t width = dim - c < kValueDim ? dim - c : kValueDim;
      for (std::int64_t r = 0; r < count; ++r) {
        const Half* row = v + (t + r) * ldv + c;
        for_lanes(width, [&](auto at) NEMO_SIMD_LAMBDA {
          float* strip = values + at.i / kStrip * kStripFloats + r * kStrip;
          store(at.load(row), strip + at.i % kStrip);
        });
      }
      const std::int64_t steps = c == 0 ? strip_steps(rows, width, count) : 0;
      Ahead ahead = rows_ahead(v + t * ldv, ldv, count, steps);
      strip_product(rows, width, count, p + t, ldp, values, kStripFloats, out + c, ldo, true,
                    ahead);
    }
  }
}

}  // namespace
}  // namespace nemo
