// The Mamba-2 kernels: causal convolution with SiLU, and one step of the state-space recurrence
//   S <- decay S + (dt x) B^T;  y = S C + d x
// Included after the instruction set's vector.hpp.
#pragma once

#include "elementwise-inl.hpp"

namespace nemo {
namespace {

/// Value j of lane r = p[r * stride + j]; lanes from n on are zero.
NEMO_SIMD F gather(const float* p, std::int64_t stride, std::int64_t n) {
  alignas(64) float values[kLanes] = {};
  for (std::int64_t r = 0; r < n; ++r) values[r] = p[r * stride];
  return load(values);
}

/// One vector of channels; `at` addresses them within u, bias and out, n says how many they are.
/// kTaps = 0 stands for any number of taps.
template <int kTaps, class Lanes>
NEMO_SIMD void conv_channels(Lanes at, std::int64_t n, const float* u, std::int64_t ldu,
                             std::int64_t tokens, const float* w, const float* bias,
                             std::int64_t taps, float* history, float* out, std::int64_t ldo) {
  const std::int64_t past = taps - 1;
  w += at.i * taps;
  history += at.i * past;
  const F start = bias != nullptr ? at.load(bias) : F(0.0f);
  if constexpr (kTaps > 0) {
    F weights[kTaps];
    F window[kTaps];  // inputs t - past .. t
    if constexpr (kTaps == 4 && Lanes::kFull) {
      I rows[4];
      I words[4];
      load_rows(reinterpret_cast<const std::byte*>(w), 16, rows);
      transpose(rows, words);
      for (int j = 0; j < 4; ++j) weights[j] = as_floats(words[j]);
    } else {
      for (int j = 0; j < kTaps; ++j) weights[j] = gather(w + j, kTaps, n);
    }
    for (int j = 0; j < kTaps - 1; ++j) window[j] = gather(history + j, kTaps - 1, n);
    for (std::int64_t t = 0; t < tokens; ++t) {
      window[kTaps - 1] = at.load(u + t * ldu);
      F v = start;
      for (int j = 0; j < kTaps; ++j) v = fma(weights[j], window[j], v);
      at.store(silu(v), out + t * ldo);
      for (int j = 0; j < kTaps - 1; ++j) window[j] = window[j + 1];
    }
    for (int j = 0; j < kTaps - 1; ++j) {
      alignas(64) float values[kLanes];
      store(window[j], values);
      for (std::int64_t r = 0; r < n; ++r) history[r * (kTaps - 1) + j] = values[r];
    }
  } else {
    for (std::int64_t t = 0; t < tokens; ++t) {
      F v = start;
      for (std::int64_t j = 0; j < taps; ++j) {
        const std::int64_t from = t - past + j;
        const F input = from < 0 ? gather(history + past + from, past, n) : at.load(u + from * ldu);
        v = fma(gather(w + j, taps, n), input, v);
      }
      at.store(silu(v), out + t * ldo);
    }
    for (std::int64_t r = 0; r < n; ++r) {
      // Ascending order reads history[i + tokens] before it is overwritten.
      for (std::int64_t i = 0; i < past; ++i) {
        const std::int64_t from = tokens - past + i;
        history[r * past + i] =
            from < 0 ? history[r * past + i + tokens] : u[from * ldu + at.i + r];
      }
    }
  }
}

template <int kTaps>
void conv_range(const float* u, std::int64_t ldu, std::int64_t tokens, std::int64_t c0,
                std::int64_t c1, const float* w, const float* bias, std::int64_t taps,
                float* history, float* out, std::int64_t ldo) noexcept {
  std::int64_t c = c0;
  for (; c + kLanes <= c1; c += kLanes) {
    conv_channels<kTaps>(FullLanes{c}, kLanes, u, ldu, tokens, w, bias, taps, history, out, ldo);
  }
  if (c < c1) {
    conv_channels<kTaps>(FirstLanes{c, c1 - c}, c1 - c, u, ldu, tokens, w, bias, taps, history, out,
                         ldo);
  }
}

void conv_silu(const float* u, std::int64_t ldu, std::int64_t tokens, std::int64_t c0,
               std::int64_t c1, const float* w, const float* bias, std::int64_t taps,
               float* history, float* out, std::int64_t ldo) noexcept {
  if (taps == 4) {  // every published model
    conv_range<4>(u, ldu, tokens, c0, c1, w, bias, taps, history, out, ldo);
  } else {
    conv_range<0>(u, ldu, tokens, c0, c1, w, bias, taps, history, out, ldo);
  }
}

// So far ahead the state is read into L2: hardware does not foresee well what is read and written a
// few rows at a time. In floats.
constexpr std::int64_t kStateAhead = 2048;

/// Rows p .. p + kRows-1 of a head; several at once keep several additions in flight.
template <int kRows>
NEMO_SIMD void ssm_rows(float* state, const float* x, const float* b, const float* c, float dt,
                        float decay, float d, std::int64_t state_size, float* y) {
  const F keep(decay);
  F dt_x[kRows];
  F total[kRows];
  for (int p = 0; p < kRows; ++p) {
    dt_x[p] = F(dt * x[p]);
    total[p] = F(0.0f);
  }
  for_lanes(state_size, [&](auto at) NEMO_SIMD_LAMBDA {
    const F vb = at.load(b);
    const F vc = at.load(c);
    for (int p = 0; p < kRows; ++p) {
      float* row = state + p * state_size;
      __builtin_prefetch(row + at.i + kStateAhead, 1, 2);
      const F s = fma(dt_x[p], vb, keep * at.load(row));
      at.store(s, row);
      total[p] = fma(s, vc, total[p]);
    }
  });
  if constexpr (kRows == 4) {
    const Four all = sums(total[0], total[1], total[2], total[3]);
    store_four(all + d * load_four(x), y);
  } else {
    y[0] = sum(total[0]) + d * x[0];
  }
}

void ssm_step(float* state, const float* x, const float* b, const float* c, float dt, float decay,
              float d, std::int64_t head_dim, std::int64_t state_size, float* y) noexcept {
  std::int64_t p = 0;
  for (; p + 4 <= head_dim; p += 4) {
    ssm_rows<4>(state + p * state_size, x + p, b, c, dt, decay, d, state_size, y + p);
  }
  for (; p < head_dim; ++p) {
    ssm_rows<1>(state + p * state_size, x + p, b, c, dt, decay, d, state_size, y + p);
  }
}

}  // namespace
}  // namespace nemo
