// Walking a row vector by vector, and loops over compile-time indices; included after the
// instruction set's vector.hpp.
#pragma once

#include <nemo/kernels.hpp>

namespace nemo {
namespace {

#define NEMO_SIMD_LAMBDA __attribute__((always_inline, nothrow))

/// Four floats side by side, what sums() gives.
using Four = float __attribute__((vector_size(16)));
NEMO_SIMD Four load_four(const float* p) {
  Four v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
NEMO_SIMD void store_four(Four v, float* p) { __builtin_memcpy(p, &v, sizeof v); }

/// load(), where a member has that name; finds those of element types declared later, too.
template <class T>
NEMO_SIMD F load_lanes(const T* p) {
  return load(p);
}

/// The first n elements of a vector, zero behind; n may be anything.
template <class T>
NEMO_SIMD F load_upto(const T* from, std::int64_t n) {
  return n >= kLanes ? load(from) : n > 0 ? load_first(from, n) : F(0.0f);
}

/// Stores the first n > 0 elements of a vector.
NEMO_SIMD void store_upto(F v, float* to, std::int64_t n) {
  if (n >= kLanes) {
    store(v, to);
  } else {
    store_first(v, to, n);
  }
}

/// A full vector at element i of a row.
struct FullLanes {
  static constexpr bool kFull = true;
  std::int64_t i;
  template <class T>
  NEMO_SIMD F load(const T* p) const {
    return load_lanes(p + i);
  }
  template <class T>
  NEMO_SIMD void store(F v, T* p) const {
    nemo::store(v, p + i);
  }
  NEMO_SIMD F keep(F v, F) const { return v; }
};
/// The last n < kLanes elements of a row; lanes behind them read as zero and are not written.
struct FirstLanes {
  static constexpr bool kFull = false;
  std::int64_t i, n;
  template <class T>
  NEMO_SIMD F load(const T* p) const {
    return load_first(p + i, n);
  }
  template <class T>
  NEMO_SIMD void store(F v, T* p) const {
    store_first(v, p + i, n);
  }
  NEMO_SIMD F keep(F v, F rest) const { return keep_first(v, n, rest); }
};

/// Calls fn(lanes) for every vector of a row of n elements.
template <class Fn>
NEMO_SIMD void for_lanes(std::int64_t n, Fn fn) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) fn(FullLanes{i});
  if (i < n) fn(FirstLanes{i, n - i});
}

template <int kValue>
struct Index {
  static constexpr int k = kValue;
};

/// Calls fn(Index<0>{}), ..., fn(Index<kCount - 1>{}).
template <int kCount, class Fn>
NEMO_SIMD void unroll(Fn fn) {
  if constexpr (kCount > 0) {
    unroll<kCount - 1>(fn);
    fn(Index<kCount - 1>{});
  }
}

}  // namespace
}  // namespace nemo
