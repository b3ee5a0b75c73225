// Float matrix products with register tiles; included after the instruction set's vector.hpp.
// Lanes run over the columns of B and C, A's elements are broadcast; nt transposes B for that, some
// columns at a time.
// Every element of C is accumulated in an order that depends on k alone, not on tile or matrix
// size.
#pragma once

#include "ahead-inl.hpp"

namespace nemo {
namespace {

// Operands are often columns of wide rows (B and C of all groups side by side). Rows that lie a
// multiple of 4 KiB apart share the same few lines of L1, so what is read again and again is first
// copied together, into at most this much stack.
constexpr std::int64_t kPackFloats = 8192;
// What outer_tile() reads of B is best laid out in strips as wide as a tile: rows further apart
// would fall on the same few lines of L1.
constexpr std::int64_t kStrip = kTileVectors * kLanes;
constexpr std::int64_t kWideStride = 512;  // floats; rows closer than that spread well enough
// Columns of A to a step of reading ahead.
constexpr std::int64_t kAheadStep = 4;
constexpr std::int64_t ahead_steps(std::int64_t k) { return (k + kAheadStep - 1) / kAheadStep; }

/// c[i, to] (+)= sum_p a[i*rs + p*cs] * b[p, from] for i < kRows over kVectors vectors.
template <int kRows, int kVectors, class From, class To>
NEMO_SIMD void outer_tile(From from, To to, std::int64_t k, const float* a, std::int64_t rs,
                          std::int64_t cs, const float* b, std::int64_t ldb, float* c,
                          std::int64_t ldc, bool accumulate, const Ahead& ahead) {
  const std::byte* line = ahead.at;
  F acc[kRows][kVectors];
  for (auto& row : acc) {
    for (F& v : row) v = F(0.0f);
  }
  for (std::int64_t p = 0; p < k; ++p) {
    if (p % kAheadStep == 0) ahead.fetch(line);
    F vb[kVectors];
    for (int j = 0; j < kVectors; ++j) vb[j] = from.load(b + p * ldb + j * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const F va(a[i * rs + p * cs]);
      for (int j = 0; j < kVectors; ++j) acc[i][j] = fma(va, vb[j], acc[i][j]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      float* row = c + i * ldc + j * kLanes;
      to.store(accumulate ? to.load(row) + acc[i][j] : acc[i][j], row);
    }
  }
}

/// The last 0 <= rows < kRows rows.
template <int kVectors, int kRows, class From, class To>
NEMO_SIMD void outer_rest(std::int64_t rows, From from, To to, std::int64_t k, const float* a,
                          std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                          float* c, std::int64_t ldc, bool accumulate, Ahead& ahead) {
  if constexpr (kRows > 1) {
    if (rows == kRows - 1) {
      outer_tile<kRows - 1, kVectors>(from, to, k, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
      ahead.advance(ahead_steps(k));
    } else {
      outer_rest<kVectors, kRows - 1>(rows, from, to, k, a, rs, cs, b, ldb, c, ldc, accumulate,
                                      ahead);
    }
  }
}

/// kVectors vectors of columns: `from` in b, `to` in c.
template <int kVectors, class From, class To>
NEMO_SIMD void outer_columns(From from, To to, std::int64_t m, std::int64_t k, const float* a,
                             std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                             float* c, std::int64_t ldc, bool accumulate, Ahead& ahead) {
  std::int64_t i = 0;
  for (; i + kTileRows <= m; i += kTileRows) {
    outer_tile<kTileRows, kVectors>(from, to, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc,
                                    accumulate, ahead);
    ahead.advance(ahead_steps(k));
  }
  outer_rest<kVectors, kTileRows>(m - i, from, to, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc,
                                  accumulate, ahead);
}

/// outer_columns of the same columns of b and c, copied together first where that pays.
template <int kVectors, class Lanes>
NEMO_SIMD void outer_columns_of(Lanes at, std::int64_t m, std::int64_t k, const float* a,
                                std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                                float* c, std::int64_t ldc, bool accumulate) {
  constexpr std::int64_t kWidth = kVectors * kLanes;
  Ahead none;
  if (ldb < kWideStride || m < 16 || k * kWidth > kPackFloats) {
    outer_columns<kVectors>(at, at, m, k, a, rs, cs, b, ldb, c, ldc, accumulate, none);
    return;
  }
  alignas(64) float packed[kPackFloats];
  for (std::int64_t p = 0; p < k; ++p) {
    for (int j = 0; j < kVectors; ++j) {
      store(at.load(b + p * ldb + j * kLanes), packed + p * kWidth + j * kLanes);
    }
  }
  outer_columns<kVectors>(FullLanes{0}, at, m, k, a, rs, cs, packed, kWidth, c, ldc, accumulate,
                          none);
}

/// Calls fn(Index<vectors>, lanes) for all n columns: kTileVectors vectors at a time, then one.
template <class Fn>
NEMO_SIMD void for_columns(std::int64_t n, Fn fn) {
  std::int64_t j = 0;
  for (; j + kStrip <= n; j += kStrip) fn(Index<kTileVectors>{}, FullLanes{j});
  for (; j + kLanes <= n; j += kLanes) fn(Index<1>{}, FullLanes{j});
  if (j < n) fn(Index<1>{}, FirstLanes{j, n - j});
}

/// C[m,n] (+)= A * B[k,n] where A[i,p] = a[i*rs + p*cs].
void outer_product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t rs,
                   std::int64_t cs, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                   bool accumulate) noexcept {
  for_columns(n, [&](auto vectors, auto at) NEMO_SIMD_LAMBDA {
    outer_columns_of<vectors.k>(at, m, k, a, rs, cs, b, ldb, c, ldc, accumulate);
  });
}

/// C[m,n] (+)= A[m,k] * B[k,n], B in strips of `strip_floats` floats: B[p, j] lies at
/// (j / kStrip) * strip_floats + p * kStrip + j % kStrip. Takes strip_steps(m, n, k) steps ahead.
NEMO_SIMD void strip_product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
                             std::int64_t lda, const float* strips, std::int64_t strip_floats,
                             float* c, std::int64_t ldc, bool accumulate, Ahead ahead = {}) {
  for_columns(n, [&](auto vectors, auto at) NEMO_SIMD_LAMBDA {
    outer_columns<vectors.k>(FullLanes{at.i % kStrip}, at, m, k, a, lda, 1,
                             strips + at.i / kStrip * strip_floats, kStrip, c, ldc, accumulate,
                             ahead);
  });
}
/// For columns in whole strips.
constexpr std::int64_t strip_steps(std::int64_t m, std::int64_t n, std::int64_t k) {
  return n / kStrip * ((m + kTileRows - 1) / kTileRows) * ahead_steps(k);
}

/// strip[p * kStrip + j] = b[j, p] for p < k, j < n <= kStrip; zeros behind them.
NEMO_SIMD void transpose_strip(std::int64_t n, std::int64_t k, const float* b, std::int64_t ldb,
                               float* strip) {
  const std::int64_t k4 = k / 4 * 4;
  for (std::int64_t j = 0; j < kStrip; j += kLanes) {
    if (j + kLanes <= n) {
      const float* rows = b + j * ldb;
      for (std::int64_t p = 0; p < k4; p += 4) {
        I four[4];
        I columns[4];
        load_rows(reinterpret_cast<const std::byte*>(rows + p), 4 * ldb, four);
        transpose(four, columns);
        for (int i = 0; i < 4; ++i) store_bytes(columns[i], strip + (p + i) * kStrip + j);
      }
    }
    for (std::int64_t p = j + kLanes <= n ? k4 : 0; p < k; ++p) {
      for (std::int64_t i = j; i < j + kLanes; ++i) {
        strip[p * kStrip + i] = i < n ? b[i * ldb + p] : 0.0f;
      }
    }
  }
}

void gemm_nt(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  constexpr std::int64_t kDepth = kPackFloats / kStrip;
  alignas(64) float strip[kPackFloats];
  for (std::int64_t j = 0; j < n; j += kStrip) {
    const std::int64_t width = n - j < kStrip ? n - j : kStrip;
    for (std::int64_t p = 0; p < k || p == 0; p += kDepth) {
      const std::int64_t depth = k - p < kDepth ? k - p : kDepth;
      const bool add = accumulate || p > 0;
      transpose_strip(width, depth, b + j * ldb + p, ldb, strip);
      strip_product(m, width, depth, a + p, lda, strip, kPackFloats, c + j, ldc, add);
    }
  }
}

void gemm_nn(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  outer_product(m, n, k, a, lda, 1, b, ldb, c, ldc, accumulate);
}

void gemm_tn(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  outer_product(m, n, k, a, 1, lda, b, ldb, c, ldc, accumulate);
}

}  // namespace
}  // namespace nemo
