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

/// What comes out of the convolution, the step sizes and the scan, and where the inputs of earlier
/// tokens lie.
struct Scanned {
  float* history;  // as Mamba2State::conv
  float* xbc;      // [tokens, conv_channels]
  std::int64_t ldx;
  float* dt;  // [heads, tokens]
  float* y;   // [tokens, inner]
  std::int64_t ldy;

  [[nodiscard]] detail::ScanInput input(std::int64_t tokens) const {
    return {xbc, ldx, dt, tokens, tokens};
  }
};

/// Channels [first, first + count) of xbc <- silu(conv(x B C))
void convolve(Compute& compute, const Mamba2Weights& w, const Projected& in, std::int64_t tokens,
              std::int64_t first, std::int64_t count, const Scanned& out) {
  compute.kernels.conv_silu(in.rows + w.shape.inner(), in.ld, tokens, first, first + count,
                            w.conv.data(), w.conv_bias.empty() ? nullptr : w.conv_bias.data(),
                            w.shape.conv_kernel, out.history, out.xbc, out.ldx);
}

/// dt of heads [first, last) and a token <- clamp(softplus(dt + dt_bias))
void step_sizes(const Mamba2Weights& w, const Projected& in, std::int64_t tokens, std::int64_t t,
                std::int64_t first, std::int64_t last, float* dt) {
  const MambaConfig& s = w.shape;
  const float* raw = in.rows + t * in.ld + s.inner() + s.conv_channels();
  for (std::int64_t h = first; h < last; ++h) {
    const float step = softplus(raw[h] + w.dt_bias[static_cast<std::size_t>(h)]);
    dt[h * tokens + t] = std::clamp(step, s.dt_min, s.dt_max);
  }
}

/// y of groups [first, first + count) and a token <- norm(y * silu(z))
void gate(Compute& compute, const Mamba2Weights& w, const Projected& in, std::int64_t t,
          std::int64_t first, std::int64_t count, const Scanned& out) {
  const std::int64_t width = w.shape.inner() / w.shape.groups;
  float* y = out.y + t * out.ldy + first * width;
  compute.kernels.gated_group_norm(y, in.rows + t * in.ld + first * width,
                                   w.norm.data() + first * width, count, width, w.norm_eps, y);
}

/// All between the projections for few tokens: one group of heads after the other in a single
/// region, so that what one step leaves in cache serves the next. scan(head) makes the head's y.
template <class Scan>
void mix_by_groups(Compute& compute, const Mamba2Weights& w, const Projected& in,
                   std::int64_t tokens, const Scanned& out, Scan scan) {
  const MambaConfig& s = w.shape;
  const std::int64_t width = s.inner() / s.groups;
  const std::int64_t heads = s.heads / s.groups;
  parallel_for(compute.threads, s.groups, [&](std::int64_t g) {
    convolve(compute, w, in, tokens, g * width, width, out);
    convolve(compute, w, in, tokens, s.inner() + g * s.state, s.state, out);
    convolve(compute, w, in, tokens, s.inner() + (s.groups + g) * s.state, s.state, out);
    for (std::int64_t t = 0; t < tokens; ++t) {
      step_sizes(w, in, tokens, t, g * heads, (g + 1) * heads, out.dt);
    }
    for (std::int64_t h = g * heads; h < (g + 1) * heads; ++h) scan(h);
    for (std::int64_t t = 0; t < tokens; ++t) gate(compute, w, in, t, g, 1, out);
  });
}

/// The same for many: one step after the other, each split as suits it best.
void mix_in_chunks(Compute& compute, const Mamba2Weights& w, const Projected& in,
                   std::int64_t tokens, const Scanned& out, float* ssm) {
  const MambaConfig& s = w.shape;
  constexpr std::int64_t kBlock = 256;  // channels per item
  const std::int64_t channels = s.conv_channels();
  parallel_for(compute.threads, (channels + kBlock - 1) / kBlock, [&](std::int64_t i) {
    const std::int64_t first = i * kBlock;
    convolve(compute, w, in, tokens, first, std::min(kBlock, channels - first), out);
  });
  parallel_for(compute.threads, tokens,
               [&](std::int64_t t) { step_sizes(w, in, tokens, t, 0, s.heads, out.dt); });
  detail::scan_chunked(compute, w, out.input(tokens), kChunk, ssm, out.y, out.ldy);
  parallel_for(compute.threads, tokens,
               [&](std::int64_t t) { gate(compute, w, in, t, 0, s.groups, out); });
}

/// out = W_out y
void project_out(Compute& compute, const Mamba2Weights& w, std::int64_t tokens, const Scanned& in,
                 float* out, std::int64_t ldo) {
  Activations y(compute, in.y, tokens, w.shape.inner(), in.ldy);
  linear(compute, w.out_proj, y, out, ldo, biased(w.out_bias, w.out_proj));
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
  auto* dt = compute.arena.take<float>(s.heads * tokens);
  auto* y = compute.arena.take<float>(tokens * ldy);
  const Scanned scanned{state.conv.data(), xbc, ldx, dt, y, ldy};

  const Projected in = project(compute, w, x);
  if (tokens < kChunkedFrom) {
    const std::int64_t size = s.head_dim * s.state;
    mix_by_groups(compute, w, in, tokens, scanned, [&](std::int64_t h) {
      detail::scan_head(compute, w, scanned.input(tokens), h, state.ssm.data() + h * size, y, ldy);
    });
  } else {
    mix_in_chunks(compute, w, in, tokens, scanned, state.ssm.data());
  }
  project_out(compute, w, tokens, scanned, out, ldo);
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
  const Scanned scanned{history, replay.xbc.data(), channels, replay.dt.data(), y, ldy};

  const Projected in = project(compute, w, x);
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::copy_n(in.rows + t * in.ld + s.inner(), channels, replay.inputs.data() + t * channels);
  }
  // The state stays: each head steps on a copy.
  const std::int64_t head_size = s.head_dim * s.state;
  auto* copies = compute.arena.take<float>(compute.threads * padded(head_size));
  mix_by_groups(compute, w, in, tokens, scanned, [&](std::int64_t h) {
    float* copy = copies + omp_get_thread_num() * padded(head_size);
    std::copy_n(state.ssm.data() + h * head_size, head_size, copy);
    detail::scan_head(compute, w, scanned.input(tokens), h, copy, y, ldy);
  });
  project_out(compute, w, tokens, scanned, out, ldo);
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
