// The Mamba-2 mixer: projections, causal convolution, state-space scan, gated group norm.
//
//   z | x B C | dt = W_in u           x B C <- silu(conv(x B C))      dt <- softplus(dt + dt_bias)
//   S <- exp(dt A) S + dt x (outer) B       y = S C + D x             out = W_out norm(y * silu(z))
#pragma once

#include <nemo/base/aligned.hpp>
#include <nemo/checkpoint/config.hpp>
#include <nemo/model/matrix.hpp>

#include <cstdint>
#include <vector>

namespace nemo {

struct Mamba2Weights {
  MambaConfig shape;
  Matrix in_proj;                        // [in_rows, d]
  Matrix out_proj;                       // [d, I]
  std::vector<float> in_bias, out_bias;  // [in_rows] and [d], or empty: as in all published models
  std::vector<float> conv;  // [conv_channels, conv_kernel], the last tap meets the current token
  std::vector<float> conv_bias;  // [conv_channels] or empty
  std::vector<float> a;          // [heads], negative: -exp(A_log)
  std::vector<float> d;          // [heads]
  std::vector<float> dt_bias;    // [heads]
  std::vector<float> norm;       // [I]
  float norm_eps = 0;
};

/// What a sequence carries from token to token in one Mamba-2 layer. All zero at the start.
struct Mamba2State {
  explicit Mamba2State(const MambaConfig& shape);
  Mamba2State(const Mamba2State& other) { *this = other; }
  Mamba2State& operator=(const Mamba2State& other);
  Mamba2State(Mamba2State&&) = default;
  Mamba2State& operator=(Mamba2State&&) = default;
  void clear() noexcept;
  [[nodiscard]] std::size_t bytes() const noexcept { return conv.bytes() + ssm.bytes(); }

  AlignedBuffer<float>
      conv;                  // [conv_channels, conv_kernel-1], oldest first, before the convolution
  AlignedBuffer<float> ssm;  // [heads, head_dim, state]
};

/// x: normalised input rows; out: [tokens, d], ldo floats apart. Advances `state` by x.rows()
/// tokens.
void mamba2(Compute& compute, const Mamba2Weights& w, Activations& x, Mamba2State& state,
            float* out, std::int64_t ldo);

/// What some tokens would do to a state, kept until it is known how many of them count: for each
/// token some two hundredths of the state's size.
struct Mamba2Replay {
  std::vector<float> inputs;  // [tokens, conv_channels], before the convolution
  std::vector<float> xbc;     // [tokens, conv_channels], after it
  std::vector<float> dt;      // [heads, tokens]
};

/// As mamba2() of each token by itself, bit by bit, but `state` stays and `replay` is written.
void mamba2(Compute& compute, const Mamba2Weights& w, Activations& x, const Mamba2State& state,
            float* out, std::int64_t ldo, Mamba2Replay& replay);

/// Advances `state` by the first `count` of the `tokens` tokens in `replay`.
void mamba2_advance(Compute& compute, const Mamba2Weights& w, const Mamba2Replay& replay,
                    std::int64_t tokens, std::int64_t count, Mamba2State& state);

namespace detail {

/// Rows of one scan: post-convolution x|B|C and the step sizes.
struct ScanInput {
  const float* xbc;  // [tokens, conv_channels]
  std::int64_t ldx;
  const float* dt;  // [heads, dt_stride], after softplus and clamp
  std::int64_t dt_stride;
  std::int64_t tokens;
};

/// The recurrence of one head token by token: the definition, used for decoding. state: the head's
/// own, [head_dim, state].
void scan_head(const Compute& compute, const Mamba2Weights& w, const ScanInput& in,
               std::int64_t head, float* state, float* y, std::int64_t ldy);

/// The same of all heads.
void scan_recurrent(Compute& compute, const Mamba2Weights& w, const ScanInput& in, float* ssm,
                    float* y, std::int64_t ldy);

/// The same in chunks of `chunk` tokens as matrix products (Mamba-2's state-space duality):
///   y_i = sum_{j<=i} exp(c_i - c_j) (C_i . B_j) dt_j x_j + exp(c_i) S C_i + D x_i,  c = cumsum(dt
///   A)
void scan_chunked(Compute& compute, const Mamba2Weights& w, const ScanInput& in, std::int64_t chunk,
                  float* ssm, float* y, std::int64_t ldy);

}  // namespace detail
}  // namespace nemo
