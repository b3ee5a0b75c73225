// The Mamba-2 mixer around the scan: projections, convolution, step sizes, gated norm.
#include <nemo/model/mamba2.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nemo {
namespace {

// Below this many tokens stepping through the recurrence is cheaper than the chunk's products.
constexpr std::int64_t kChunkedFrom = 16;
// Cost per token of the products grows with the chunk, cost of state traffic shrinks; 64 is the
// flat minimum for head_dim 64-80, state 128.
constexpr std::int64_t kChunk = 64;

/// log(1 + e^x) without overflow.
float softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

/// W_in u: z [I] | x B C [channels] | dt [heads], rows `ld` floats apart.
struct Projected {
  float* rows;
  std::int64_t ld;
};

Projected project(Compute& compute, const Mamba2Weights& w, Activations& x) {
  const std::int64_t ld = padded(w.shape.in_rows());
  auto* rows = compute.arena.take<float>(x.rows() * ld);
  linear(compute, w.in_proj, x, rows, ld, biased(w.in_bias, w.in_proj));
  return {rows, ld};
}

/// xbc [tokens, conv_channels] <- silu(conv(x B C)); `history` as in Mamba2State::conv.
void convolve(Compute& compute, const Mamba2Weights& w, const Projected& in, std::int64_t tokens,
              float* history, float* xbc, std::int64_t ldx) {
  const std::int64_t channels = w.shape.conv_channels();
  constexpr std::int64_t kBlock = 256;  // channels per item
  parallel_for(compute.threads, (channels + kBlock - 1) / kBlock, [&](std::int64_t i) {
    compute.kernels.conv_silu(in.rows + w.shape.inner(), in.ld, tokens, i * kBlock,
                              std::min(channels, (i + 1) * kBlock), w.conv.data(),
                              w.conv_bias.empty() ? nullptr : w.conv_bias.data(),
                              w.shape.conv_kernel, history, xbc, ldx);
  });
}

/// dt [heads, tokens] <- clamp(softplus(dt + dt_bias))
void step_sizes(Compute& compute, const Mamba2Weights& w, const Projected& in, std::int64_t tokens,
                float* dt) {
  const MambaConfig& s = w.shape;
  parallel_for(tokens >= 8 ? compute.threads : 1, tokens, [&](std::int64_t t) {
    const float* raw = in.rows + t * in.ld + s.inner() + s.conv_channels();
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const float step = softplus(raw[h] + w.dt_bias[static_cast<std::size_t>(h)]);
      dt[h * tokens + t] = std::clamp(step, s.dt_min, s.dt_max);
    }
  });
}

/// out = W_out norm(y * silu(z)); y [tokens, I] is overwritten.
void gate_and_project(Compute& compute, const Mamba2Weights& w, const Projected& in,
                      std::int64_t tokens, float* y, std::int64_t ldy, float* out,
                      std::int64_t ldo) {
  const MambaConfig& s = w.shape;
  parallel_for(tokens >= 4 ? compute.threads : 1, tokens, [&](std::int64_t t) {
    compute.kernels.gated_group_norm(y + t * ldy, in.rows + t * in.ld, w.norm.data(), s.groups,
                                     s.inner() / s.groups, w.norm_eps, y + t * ldy);
  });
  Activations normed(compute, y, tokens, s.inner(), ldy);
  linear(compute, w.out_proj, normed, out, ldo, biased(w.out_bias, w.out_proj));
}

}  // namespace

Mamba2State::Mamba2State(const MambaConfig& shape)
    : conv(static_cast<std::size_t>(shape.conv_channels() * (shape.conv_kernel - 1))),
      ssm(static_cast<std::size_t>(shape.inner() * shape.state)) {
  clear();
}

Mamba2State& Mamba2State::operator=(const Mamba2State& other) {
  if (this == &other) return *this;
  if (conv.size() != other.conv.size()) conv = AlignedBuffer<float>(other.conv.size());
  if (ssm.size() != other.ssm.size()) ssm = AlignedBuffer<float>(other.ssm.size());
  std::copy_n(other.conv.data(), other.conv.size(), conv.data());
  std::copy_n(other.ssm.data(), other.ssm.size(), ssm.data());
  return *this;
}

void Mamba2State::clear() noexcept {
  std::fill_n(conv.data(), conv.size(), 0.0f);
  std::fill_n(ssm.data(), ssm.size(), 0.0f);
}

void mamba2(Compute& compute, const Mamba2Weights& w, Activations& x, Mamba2State& state,
            float* out, std::int64_t ldo) {
  Arena::Scope scope(compute.arena);
  const MambaConfig& s = w.shape;
  const std::int64_t tokens = x.rows();
  const std::int64_t ldx = padded(s.conv_channels());
  const std::int64_t ldy = padded(s.inner());
  auto* xbc = compute.arena.take<float>(tokens * ldx);
  auto* dt = compute.arena.take<float>(s.heads * tokens);  // [heads, tokens]
  auto* y = compute.arena.take<float>(tokens * ldy);

  const Projected in = project(compute, w, x);
  convolve(compute, w, in, tokens, state.conv.data(), xbc, ldx);
  step_sizes(compute, w, in, tokens, dt);
  const detail::ScanInput scan{xbc, ldx, dt, tokens, tokens};
  if (tokens < kChunkedFrom) {
    detail::scan_recurrent(compute, w, scan, state.ssm.data(), y, ldy);
  } else {
    detail::scan_chunked(compute, w, scan, kChunk, state.ssm.data(), y, ldy);
  }
  gate_and_project(compute, w, in, tokens, y, ldy, out, ldo);
}

void mamba2(Compute& compute, const Mamba2Weights& w, Activations& x, const Mamba2State& state,
            float* out, std::int64_t ldo, Mamba2Replay& replay) {
  Arena::Scope scope(compute.arena);
  const MambaConfig& s = w.shape;
  const std::int64_t tokens = x.rows();
  const std::int64_t channels = s.conv_channels();
  const auto size = static_cast<std::size_t>(tokens * channels);
  replay.inputs.resize(size);
  replay.xbc.resize(size);
  replay.dt.resize(static_cast<std::size_t>(s.heads * tokens));
  const std::int64_t ldy = padded(s.inner());
  auto* y = compute.arena.take<float>(tokens * ldy);
  const auto kept = static_cast<std::int64_t>(state.conv.size());
  auto* history = compute.arena.take<float>(kept);
  std::copy_n(state.conv.data(), kept, history);

  const Projected in = project(compute, w, x);
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::copy_n(in.rows + t * in.ld + s.inner(), channels, replay.inputs.data() + t * channels);
  }
  convolve(compute, w, in, tokens, history, replay.xbc.data(), channels);
  step_sizes(compute, w, in, tokens, replay.dt.data());
  const detail::ScanInput scan{replay.xbc.data(), channels, replay.dt.data(), tokens, tokens};
  detail::scan_ahead(compute, w, scan, state.ssm.data(), y, ldy);
  gate_and_project(compute, w, in, tokens, y, ldy, out, ldo);
}

void mamba2_advance(Compute& compute, const Mamba2Weights& w, const Mamba2Replay& replay,
                    std::int64_t tokens, std::int64_t count, Mamba2State& state) {
  Arena::Scope scope(compute.arena);
  const std::int64_t channels = w.shape.conv_channels();
  const std::int64_t taps = w.shape.conv_kernel - 1;
  for (std::int64_t c = 0; c < channels; ++c) {
    float* history = state.conv.data() + c * taps;
    for (std::int64_t j = 0; j < taps; ++j) {
      const std::int64_t t = count - taps + j;  // of the batch; negative: before it
      history[j] =
          t < 0 ? history[j + count] : replay.inputs[static_cast<std::size_t>(t * channels + c)];
    }
  }
  const std::int64_t ldy = padded(w.shape.inner());
  auto* y = compute.arena.take<float>(count * ldy);  // computed before, not needed again
  const detail::ScanInput scan{replay.xbc.data(), channels, replay.dt.data(), tokens, count};
  detail::scan_recurrent(compute, w, scan, state.ssm.data(), y, ldy);
}

}  // namespace nemo
