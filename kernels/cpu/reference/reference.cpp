// The `reference` kernel table: plain scalar C++, the definition that every other table is tested
// against. Values are float; sums are carried in double and rounded once.
#include "formats.hpp"

#include <nemo/tensor/hadamard.hpp>

#include <cmath>
#include <kernels/cpu/kv_tables.hpp>
#include <kernels/cpu/tables.hpp>
#include <limits>

namespace nemo {
namespace reference {
namespace {

/// Codes up to `most`, and scales.
void quantize_codes(const float* x, std::int64_t n, int most, const Q8Row& row,
                    float* error) noexcept {
  const auto bound = static_cast<float>(most);
  for (std::int64_t block = 0; block < n / 32; ++block) {
    const float* from = x + 32 * block;
    std::int8_t* codes = row.codes + 32 * block;
    float absmax = 0.0f;
    for (int j = 0; j < 32; ++j) absmax = std::fabs(from[j]) > absmax ? std::fabs(from[j]) : absmax;
    const float scale = Q8Row::scale_for(absmax, most);
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    row.scales[block] = scale;
    for (int j = 0; j < 32; ++j) {
      float code = std::nearbyint(from[j] * inverse);
      code = code < bound ? code : bound;  // NaN (of an infinite input) becomes the bound
      code = code > -bound ? code : -bound;
      codes[j] = static_cast<std::int8_t>(code);
      if (error != nullptr) error[32 * block + j] = from[j] - row.scales[block] * code;
    }
  }
}

void quantize_q8(const float* x, std::int64_t n, void* out, float* error) noexcept {
  const Q8Row row = Q8Row::at(out, n);
  quantize_codes(x, n, Q8Row::kMostCode, row, error);
  for (std::int64_t i = 0; i < n / 16; ++i) {
    row.sums[i] = 0;
    for (int j = 0; j < 16; ++j) row.sums[i] += row.codes[16 * i + j];
  }
}

void quantize_q8_winograd(const float* x, std::int64_t n, void* out) noexcept {
  const Q8Row row = Q8Row::at(out, n);
  quantize_codes(x, n, Q8Row::kMostWinogradCode, row, nullptr);
  for (std::int64_t block = 0; block < n / 32; ++block) {
    const std::int8_t* c = row.codes + 32 * block;
    std::int32_t sum = 0;
    std::int32_t pairs = 0;
    for (int j = 0; j < 32; ++j) sum += c[j];
    for (const int first : {8, 24}) {
      for (int i = first; i < first + 4; ++i) pairs += c[i] * c[i + 4] - 8 * c[i] + 120 * c[i + 4];
    }
    row.sums[2 * block] = sum - pairs;
    row.sums[2 * block + 1] = pairs;
  }
}

void half_from_float(const float* x, std::int64_t n, Half* out) noexcept {
  for (std::int64_t i = 0; i < n; ++i) out[i] = to_half(x[i]);
}

void float_from_half(const Half* x, std::int64_t n, float* out) noexcept {
  for (std::int64_t i = 0; i < n; ++i) out[i] = to_float(x[i]);
}

void rotate(const float* x, const float* signs, std::int64_t n, std::int64_t block,
            float* y) noexcept {
  const int m = hadamard_order(block);
  const std::int64_t width = block / m;
  const HadamardRows h = hadamard_rows(m);
  const float norm = 1.0f / std::sqrt(static_cast<float>(block));
  for (std::int64_t b = 0; b < n; b += block) {
    for (std::int64_t i = b; i < b + block; ++i) y[i] = x[i] * signs[i];
    for (std::int64_t r = 0; r < m; ++r) {
      float* row = y + b + r * width;
      for (std::int64_t stride = 1; stride < width; stride *= 2) {
        for (std::int64_t i = 0; i < width; ++i) {
          if ((i & stride) != 0) continue;
          const float sum = row[i] + row[i + stride];
          row[i + stride] = row[i] - row[i + stride];
          row[i] = sum;
        }
      }
    }
    for (std::int64_t c = 0; c < width; ++c) {
      double column[kMaxHadamard];
      for (int r = 0; r < m; ++r) column[r] = static_cast<double>(y[b + r * width + c]);
      for (int r = 0; r < m; ++r) {
        double sum = m == 1 ? column[0] : 0.0;
        for (int k = 0; m > 1 && k < m; ++k) sum += static_cast<double>(h.at(r, k)) * column[k];
        y[b + r * width + c] = static_cast<float>(sum) * norm;
      }
    }
  }
}

void gemm_nt(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const float sum = dot(a + i * lda, b + j * ldb, k);
      c[i * ldc + j] = accumulate ? c[i * ldc + j] + sum : sum;
    }
  }
}

/// out[j] (+)= sum_t weight(t) * row(t)[j] for j in [0, n), with columns in blocks whose double
/// sums fit in a few registers' worth of stack. Value may be float or Half.
template <class Value>
[[gnu::always_inline]] inline void weighted_sum(const float* weights, std::int64_t weight_stride,
                                                const Value* rows, std::int64_t row_stride,
                                                std::int64_t count, std::int64_t n, float* out,
                                                bool accumulate) noexcept {
  constexpr std::int64_t kBlock = 64;
  for (std::int64_t j0 = 0; j0 < n; j0 += kBlock) {
    const std::int64_t width = n - j0 < kBlock ? n - j0 : kBlock;
    double sums[kBlock] = {};
    for (std::int64_t t = 0; t < count; ++t) {
      const auto weight = static_cast<double>(weights[t * weight_stride]);
      const Value* row = rows + t * row_stride + j0;
      for (std::int64_t j = 0; j < width; ++j) {
        sums[j] += weight * static_cast<double>(to_float(row[j]));
      }
    }
    for (std::int64_t j = 0; j < width; ++j) {
      const auto sum = static_cast<float>(sums[j]);
      out[j0 + j] = accumulate ? out[j0 + j] + sum : sum;
    }
  }
}

void gemm_nn(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  for (std::int64_t i = 0; i < m; ++i) {
    weighted_sum(a + i * lda, 1, b, ldb, k, n, c + i * ldc, accumulate);
  }
}

void gemm_tn(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
             const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) noexcept {
  for (std::int64_t i = 0; i < m; ++i) {
    weighted_sum(a + i, lda, b, ldb, k, n, c + i * ldc, accumulate);
  }
}

void add(const float* x, std::int64_t n, float* y) noexcept {
  for (std::int64_t i = 0; i < n; ++i) y[i] += x[i];
}

void axpy(float s, const float* x, std::int64_t n, float* y) noexcept {
  for (std::int64_t i = 0; i < n; ++i) y[i] += s * x[i];
}

void scale(float s, std::int64_t n, float* y) noexcept {
  for (std::int64_t i = 0; i < n; ++i) y[i] *= s;
}

void relu2(float* x, std::int64_t n) noexcept {
  for (std::int64_t i = 0; i < n; ++i) x[i] = x[i] > 0.0f ? x[i] * x[i] : 0.0f;
}

/// 1 / sqrt(mean(x^2) + eps)
[[gnu::always_inline]] inline float inverse_rms(const float* x, std::int64_t n,
                                                float eps) noexcept {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return static_cast<float>(1.0 /
                            std::sqrt(sum / static_cast<double>(n) + static_cast<double>(eps)));
}

void rms_norm(const float* x, const float* w, std::int64_t n, float eps, float* y) noexcept {
  const float factor = inverse_rms(x, n, eps);
  for (std::int64_t i = 0; i < n; ++i) y[i] = w[i] * (x[i] * factor);
}

[[gnu::always_inline]] inline float silu(float x) noexcept { return x / (1.0f + std::exp(-x)); }

void gated_group_norm(const float* y, const float* z, const float* w, std::int64_t groups,
                      std::int64_t width, float eps, float* out) noexcept {
  for (std::int64_t i = 0; i < groups * width; ++i) out[i] = y[i] * silu(z[i]);
  for (std::int64_t g = 0; g < groups; ++g) {
    rms_norm(out + g * width, w + g * width, width, eps, out + g * width);
  }
}

float exp_sum(const float* x, std::int64_t n, float shift, float* y) noexcept {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    y[i] = std::exp(x[i] - shift);
    sum += static_cast<double>(y[i]);
  }
  return static_cast<float>(sum);
}

float max(const float* x, std::int64_t n) noexcept {
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

void conv_silu(const float* u, std::int64_t ldu, std::int64_t tokens, std::int64_t c0,
               std::int64_t c1, const float* w, const float* bias, std::int64_t taps,
               float* history, float* out, std::int64_t ldo) noexcept {
  const std::int64_t past = taps - 1;
  for (std::int64_t c = c0; c < c1; ++c) {
    float* old = history + c * past;
    // The input `t` tokens after the start; negative t reads the history, oldest first.
    const auto input = [&](std::int64_t t) { return t < 0 ? old[past + t] : u[t * ldu + c]; };
    for (std::int64_t t = 0; t < tokens; ++t) {
      double sum = bias != nullptr ? static_cast<double>(bias[c]) : 0.0;
      for (std::int64_t j = 0; j < taps; ++j) {
        sum += static_cast<double>(w[c * taps + j]) * static_cast<double>(input(t - past + j));
      }
      out[t * ldo + c] = silu(static_cast<float>(sum));
    }
    // Ascending order reads old[i + tokens] before it is overwritten.
    for (std::int64_t i = 0; i < past; ++i) old[i] = input(tokens - past + i);
  }
}

void ssm_step(float* state, const float* x, const float* b, const float* c, float dt, float decay,
              float d, std::int64_t head_dim, std::int64_t state_size, float* y) noexcept {
  for (std::int64_t p = 0; p < head_dim; ++p) {
    float* row = state + p * state_size;
    const float dt_x = dt * x[p];
    double sum = static_cast<double>(d) * static_cast<double>(x[p]);
    for (std::int64_t n = 0; n < state_size; ++n) {
      row[n] = decay * row[n] + dt_x * b[n];
      sum += static_cast<double>(row[n]) * static_cast<double>(c[n]);
    }
    y[p] = static_cast<float>(sum);
  }
}

void scores_half(const float* q, std::int64_t ldq, std::int64_t rows, const Half* k,
                 std::int64_t ldk, std::int64_t tokens, std::int64_t dim, float* scores,
                 std::int64_t lds) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      scores[r * lds + t] = dot(q + r * ldq, k + t * ldk, dim);
    }
  }
}

void mix_half(const float* p, std::int64_t ldp, std::int64_t rows, const Half* v, std::int64_t ldv,
              std::int64_t tokens, std::int64_t dim, float* out, std::int64_t ldo) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    weighted_sum(p + r * ldp, 1, v, ldv, tokens, dim, out + r * ldo, true);
  }
}

// Scalar yardsticks: one chain each, which is what a plain loop reaches.
std::int64_t peak_f32(std::int64_t rounds, float* sink) noexcept {
  float acc = 0.0f;
  for (std::int64_t r = 0; r < rounds; ++r) acc = acc * 0.5f + sink[0];
  sink[0] = acc;
  return 2 * rounds;
}

std::int64_t peak_dot(std::int64_t rounds, std::int32_t* sink) noexcept {
  const auto code = static_cast<std::int8_t>(sink[0] & 15);
  auto act = static_cast<std::int8_t>(1);
  std::uint32_t acc = 0;
  for (std::int64_t r = 0; r < rounds; ++r) {
    acc += static_cast<std::uint32_t>(code * act);
    act = static_cast<std::int8_t>((act + 3) & 63);
  }
  sink[0] = static_cast<std::int32_t>(acc);
  return 2 * rounds;
}

}  // namespace
}  // namespace reference

constinit const Kernels kReferenceKernels = {
    .name = "reference",
    .formats = reference::kFormatTable.formats,
    .quantize_q8 = reference::quantize_q8,
    .quantize_q8_winograd = reference::quantize_q8_winograd,
    .half_from_float = reference::half_from_float,
    .float_from_half = reference::float_from_half,
    .rotate = reference::rotate,
    .gemm_nt = reference::gemm_nt,
    .gemm_nn = reference::gemm_nn,
    .gemm_tn = reference::gemm_tn,
    .add = reference::add,
    .axpy = reference::axpy,
    .scale = reference::scale,
    .relu2 = reference::relu2,
    .rms_norm = reference::rms_norm,
    .gated_group_norm = reference::gated_group_norm,
    .exp_sum = reference::exp_sum,
    .max = reference::max,
    .conv_silu = reference::conv_silu,
    .ssm_step = reference::ssm_step,
    .scores_half = reference::scores_half,
    .mix_half = reference::mix_half,
    .kv = &kReferenceKvKernels,
    .peak_f32 = reference::peak_f32,
    .peak_dot4 = reference::peak_dot,
    .peak_dot8 = reference::peak_dot,
};

}  // namespace nemo
