// Elementwise kernels and row norms, written once over F and compiled by every instruction set.
//   exp(x) = 2^n e^r,  n = round(x / ln 2),  r = x - n ln 2 in [-0.35, 0.35]
// Included after the instruction set's vector.hpp.
#pragma once

#include "lanes-inl.hpp"

namespace nemo {
namespace {

/// About 1 ulp; 0 for -inf, inf from 88.73 on, NaN stays NaN.
NEMO_SIMD F exponential(F x) {
  // Operand order keeps NaN: both functions return their second operand then.
  x = lesser(F(90.0f), greater(F(-110.0f), x));
  const F n = round_even(x * F(1.44269504f));
  // ln 2 in two parts: the first has few enough bits for n * part to be exact.
  F r = fma(n, F(-0.693359375f), x);
  r = fma(n, F(2.12194440e-4f), r);
  F p = fma(r, F(1.0f / 5040), F(1.0f / 720));
  p = fma(p, r, F(1.0f / 120));
  p = fma(p, r, F(1.0f / 24));
  p = fma(p, r, F(1.0f / 6));
  p = fma(p, r, F(0.5f));
  p = fma(p, r * r, r);
  return scale_by_power(p + F(1.0f), n);
}

NEMO_SIMD F silu(F x) { return x / (F(1.0f) + exponential(F(0.0f) - x)); }

void half_from_float(const float* x, std::int64_t n, Half* out) noexcept {
  for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA { at.store(at.load(x), out); });
}

void float_from_half(const Half* x, std::int64_t n, float* out) noexcept {
  for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA { at.store(at.load(x), out); });
}

void add(const float* x, std::int64_t n, float* y) noexcept {
  for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA { at.store(at.load(y) + at.load(x), y); });
}

void axpy(float s, const float* x, std::int64_t n, float* y) noexcept {
  const F factor(s);
  for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA { at.store(fma(factor, at.load(x), at.load(y)), y); });
}

void scale(float s, std::int64_t n, float* y) noexcept {
  const F factor(s);
  for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA { at.store(factor * at.load(y), y); });
}

void relu2(float* x, std::int64_t n) noexcept {
  for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA {
    const F positive = greater(at.load(x), F(0.0f));
    at.store(positive * positive, x);
  });
}

/// Sum of f(vector) over a row in four partial sums, so that additions overlap and rounding errors
/// grow with n/64, not n. f must give zero for lanes of zeros.
template <class Fn>
NEMO_SIMD float sum_lanes(std::int64_t n, Fn f) {
  F partial[4] = {F(0.0f), F(0.0f), F(0.0f), F(0.0f)};
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) partial[j] = f(FullLanes{i + j * kLanes}, partial[j]);
  }
  for (; i + kLanes <= n; i += kLanes) partial[0] = f(FullLanes{i}, partial[0]);
  if (i < n) partial[1] = f(FirstLanes{i, n - i}, partial[1]);
  return sum((partial[0] + partial[1]) + (partial[2] + partial[3]));
}

/// y_i = w_i * x_i / sqrt(square_sum / n + eps)
NEMO_SIMD void normalize(const float* x, const float* w, std::int64_t n, float square_sum,
                         float eps, float* y) {
  const F factor(1.0f / __builtin_sqrtf(square_sum / static_cast<float>(n) + eps));
  for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA { at.store(at.load(w) * (at.load(x) * factor), y); });
}

void rms_norm(const float* x, const float* w, std::int64_t n, float eps, float* y) noexcept {
  const float square_sum = sum_lanes(n, [&](auto at, F partial) NEMO_SIMD_LAMBDA {
    const F v = at.load(x);
    return fma(v, v, partial);
  });
  normalize(x, w, n, square_sum, eps, y);
}

void gated_group_norm(const float* y, const float* z, const float* w, std::int64_t groups,
                      std::int64_t width, float eps, float* out) noexcept {
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t first = g * width;
    const float square_sum = sum_lanes(width, [&](auto at, F partial) NEMO_SIMD_LAMBDA {
      const F v = at.load(y + first) * silu(at.load(z + first));
      at.store(v, out + first);
      return fma(v, v, partial);
    });
    normalize(out + first, w + first, width, square_sum, eps, out + first);
  }
}

float exp_sum(const float* x, std::int64_t n, float shift, float* y) noexcept {
  const F offset(shift);
  return sum_lanes(n, [&](auto at, F partial) NEMO_SIMD_LAMBDA {
    const F v = exponential(at.load(x) - offset);
    at.store(v, y);
    return partial + at.keep(v, F(0.0f));
  });
}

float max(const float* x, std::int64_t n) noexcept {
  const F lowest(-__builtin_inff());
  F most = lowest;
  for_lanes(n,
            [&](auto at) NEMO_SIMD_LAMBDA { most = greater(at.keep(at.load(x), lowest), most); });
  return largest(most);
}

}  // namespace
}  // namespace nemo
