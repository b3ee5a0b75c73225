// The block Hadamard rotation of TurboQuant-MLX's inputs; included after the instruction set's
// vector.hpp.
//
//   y = H (signs * x) / sqrt(block),   H = H_m (x) H_2^k,   H_2^k = H_(2^k / lanes) (x) H_lanes
#pragma once

#include "lanes-inl.hpp"

#include <nemo/tensor/hadamard.hpp>

namespace nemo {
namespace {

/// The Sylvester matrix of order kLanes.
struct LaneHadamard {
  alignas(64) float columns[kLanes][kLanes];
};
constexpr LaneHadamard make_lane_hadamard() {
  LaneHadamard h{};
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < kLanes; ++j) {
      int common = i & j;
      float sign = 1.0f;
      for (; common != 0; common &= common - 1) sign = -sign;
      h.columns[i][j] = sign;
    }
  }
  return h;
}
constexpr LaneHadamard kLaneHadamard = make_lane_hadamard();

/// Strides 1 .. kLanes/2 of n consecutive floats, a multiple of kLanes, as one small product for
/// each vector: a multiplication an element, where shuffles would cost as much for each stride.
NEMO_SIMD void rotate_lanes(float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    F sum(0.0f);
    for (int j = 0; j < kLanes; ++j) {
      sum = fma(F(y[i + j]), load(kLaneHadamard.columns[j]), sum);
    }
    store(sum, y + i);
  }
}

/// y[j] and y[j + stride] become their sum and difference for every stride from `first` on.
NEMO_SIMD void rotate_strides(float* y, std::int64_t n, std::int64_t first) {
  for (std::int64_t stride = first; stride < n; stride *= 2) {
    for (std::int64_t i = 0; i < n; i += 2 * stride) {
      for_lanes(stride, [&](auto at) NEMO_SIMD_LAMBDA {
        const F a = at.load(y + i);
        const F b = at.load(y + i + stride);
        at.store(a + b, y + i);
        at.store(a - b, y + i + stride);
      });
    }
  }
}

/// H_m down the rows of y [m, width].
NEMO_SIMD void rotate_rows(float* y, int m, std::int64_t width) {
  const HadamardRows h = hadamard_rows(m);
  float signs[kMaxHadamard * kMaxHadamard];
  for (int r = 0; r < m; ++r) {
    for (int c = 0; c < m; ++c) signs[r * m + c] = h.at(r, c);
  }
  for_lanes(width, [&](auto at) NEMO_SIMD_LAMBDA {
    F column[kMaxHadamard];
    for (int r = 0; r < m; ++r) column[r] = at.load(y + r * width);
    for (int r = 0; r < m; ++r) {
      F sum(0.0f);
      for (int c = 0; c < m; ++c) sum = fma(F(signs[r * m + c]), column[c], sum);
      at.store(sum, y + r * width);
    }
  });
}

void rotate(const float* x, const float* signs, std::int64_t n, std::int64_t block,
            float* y) noexcept {
  const int m = hadamard_order(block);
  const std::int64_t width = block / m;
  const F norm(1.0f / __builtin_sqrtf(static_cast<float>(block)));
  for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA { at.store(at.load(x) * at.load(signs) * norm, y); });
  for (std::int64_t b = 0; b < n; b += block) {
    for (std::int64_t r = 0; r < m; ++r) {
      float* row = y + b + r * width;
      if (width >= kLanes) rotate_lanes(row, width);
      rotate_strides(row, width, width >= kLanes ? kLanes : 1);
    }
    if (m > 1) rotate_rows(y + b, m, width);
  }
}

}  // namespace
}  // namespace nemo
