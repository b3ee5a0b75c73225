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
  const std::int64_t inner = s.inner();
  const std::int64_t channels = s.conv_channels();

  const std::int64_t ldz = padded(s.in_rows());
  auto* zxbcdt = compute.arena.take<float>(tokens * ldz);  // z [I] | x B C [channels] | dt [heads]
  linear(compute, w.in_proj, x, zxbcdt, ldz);

  const std::int64_t ldx = padded(channels);
  auto* xbc = compute.arena.take<float>(tokens * ldx);
  const std::int64_t block = 256;  // channels per item
  parallel_for(compute.threads, (channels + block - 1) / block, [&](std::int64_t i) {
    compute.kernels.conv_silu(zxbcdt + inner, ldz, tokens, i * block,
                              std::min(channels, (i + 1) * block), w.conv.data(),
                              w.conv_bias.empty() ? nullptr : w.conv_bias.data(), s.conv_kernel,
                              state.conv.data(), xbc, ldx);
  });

  auto* dt = compute.arena.take<float>(s.heads * tokens);  // [heads, tokens]
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float* raw = zxbcdt + t * ldz + inner + channels;
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const float step = softplus(raw[h] + w.dt_bias[static_cast<std::size_t>(h)]);
      dt[h * tokens + t] = std::clamp(step, s.dt_min, s.dt_max);
    }
  }

  const std::int64_t ldy = padded(inner);
  auto* y = compute.arena.take<float>(tokens * ldy);
  const detail::ScanInput in{xbc, ldx, dt, tokens};
  if (tokens < kChunkedFrom) {
    detail::scan_recurrent(compute, w, in, state.ssm.data(), y, ldy);
  } else {
    detail::scan_chunked(compute, w, in, kChunk, state.ssm.data(), y, ldy);
  }

  parallel_for(tokens >= 4 ? compute.threads : 1, tokens, [&](std::int64_t t) {
    compute.kernels.gated_group_norm(y + t * ldy, zxbcdt + t * ldz, w.norm.data(), s.groups,
                                     inner / s.groups, w.norm_eps, y + t * ldy);
  });
  Activations normed(compute, y, tokens, inner, ldy);
  linear(compute, w.out_proj, normed, out, ldo);
}

}  // namespace nemo
