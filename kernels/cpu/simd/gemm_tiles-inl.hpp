// Register tiles of matrix products; included after the instruction set's vector.hpp.
// Lanes run over the columns of B and C, A's elements are broadcast. Every element of C is
// accumulated in an order that depends on k alone, not on tile or matrix size.
#pragma once

#include "ahead-inl.hpp"

namespace nemo {
namespace {

// What outer_tile() reads of B is best laid out in strips as wide as a tile: rows further apart
// would fall on the same few lines of L1.
constexpr std::int64_t kStrip = kTileVectors * kLanes;
// Columns of A to a step of reading ahead.
constexpr std::int64_t kAheadStep = 4;
constexpr std::int64_t ahead_steps(std::int64_t k) { return (k + kAheadStep - 1) / kAheadStep; }

/// What a tile does with an element of A and a vector of B.
struct MultiplyAdd {
  NEMO_SIMD static F add(F acc, F a, F b) { return fma(a, b, acc); }
};

/// c[i, to] (+)= sum_p a[i*rs + p*cs] * b[p, from] for i < kRows over kVectors vectors.
template <class Op, int kRows, int kVectors, class From, class To>
NEMO_SIMD void outer_tile(From from, To to, std::int64_t k, const float* a, std::int64_t rs,
                          std::int64_t cs, const float* b, std::int64_t ldb, float* c,
                          std::int64_t ldc, bool accumulate, Ahead& ahead) {
  Ahead next = ahead;
  F acc[kRows][kVectors];
  for (auto& row : acc) {
    for (F& v : row) v = F(0.0f);
  }
  for (std::int64_t p = 0; p < k; ++p) {
    if (p % kAheadStep == 0) next.step();
    F vb[kVectors];
    for (int j = 0; j < kVectors; ++j) vb[j] = from.load(b + p * ldb + j * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const F va(a[i * rs + p * cs]);
      for (int j = 0; j < kVectors; ++j) acc[i][j] = Op::add(acc[i][j], va, vb[j]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      float* row = c + i * ldc + j * kLanes;
      to.store(accumulate ? to.load(row) + acc[i][j] : acc[i][j], row);
    }
  }
  ahead = next;
}

/// The last 0 <= rows < kRows rows.
template <class Op, int kVectors, int kRows, class From, class To>
NEMO_SIMD void outer_rest(std::int64_t rows, From from, To to, std::int64_t k, const float* a,
                          std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                          float* c, std::int64_t ldc, bool accumulate, Ahead& ahead) {
  if constexpr (kRows > 1) {
    if (rows == kRows - 1) {
      outer_tile<Op, kRows - 1, kVectors>(from, to, k, a, rs, cs, b, ldb, c, ldc, accumulate,
                                          ahead);
    } else {
      outer_rest<Op, kVectors, kRows - 1>(rows, from, to, k, a, rs, cs, b, ldb, c, ldc, accumulate,
                                          ahead);
    }
  }
}

/// kVectors vectors of columns: `from` in b, `to` in c.
template <class Op, int kVectors, class From, class To>
NEMO_SIMD void outer_columns(From from, To to, std::int64_t m, std::int64_t k, const float* a,
                             std::int64_t rs, std::int64_t cs, const float* b, std::int64_t ldb,
                             float* c, std::int64_t ldc, bool accumulate, Ahead& ahead) {
  std::int64_t i = 0;
  for (; i + kTileRows <= m; i += kTileRows) {
    outer_tile<Op, kTileRows, kVectors>(from, to, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc,
                                        accumulate, ahead);
  }
  outer_rest<Op, kVectors, kTileRows>(m - i, from, to, k, a + i * rs, rs, cs, b, ldb, c + i * ldc,
                                      ldc, accumulate, ahead);
}

/// Calls fn(Index<vectors>, lanes) for all n columns: kTileVectors vectors at a time, then one.
template <class Fn>
NEMO_SIMD void for_columns(std::int64_t n, Fn fn) {
  std::int64_t j = 0;
  for (; j + kStrip <= n; j += kStrip) fn(Index<kTileVectors>{}, FullLanes{j});
  for (; j + kLanes <= n; j += kLanes) fn(Index<1>{}, FullLanes{j});
  if (j < n) fn(Index<1>{}, FirstLanes{j, n - j});
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

/// C[m,n] (+)= A[m,k] * B[k,n], B in strips of `strip_floats` floats: B[p, j] lies at
/// (j / kStrip) * strip_floats + p * kStrip + j % kStrip. Takes strip_steps(m, n, k) steps ahead.
template <class Op = MultiplyAdd>
NEMO_SIMD void strip_product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
                             std::int64_t lda, const float* strips, std::int64_t strip_floats,
                             float* c, std::int64_t ldc, bool accumulate, Ahead& ahead) {
  for_columns(n, [&](auto vectors, auto at) NEMO_SIMD_LAMBDA {
    outer_columns<Op, vectors.k>(FullLanes{at.i % kStrip}, at, m, k, a, lda, 1,
                                 strips + at.i / kStrip * strip_floats, kStrip, c, ldc, accumulate,
                                 ahead);
  });
}
/// For columns in whole strips.
constexpr std::int64_t strip_steps(std::int64_t m, std::int64_t n, std::int64_t k) {
  return n / kStrip * ((m + kTileRows - 1) / kTileRows) * ahead_steps(k);
}

}  // namespace
}  // namespace nemo
