// The state-space scan, token by token and in chunks.
#include <nemo/model/mamba2.hpp>

#include <algorithm>
#include <cmath>

namespace nemo::detail {
namespace {

/// Pointers into one token's x|B|C row.
struct Columns {
  std::int64_t x, b, c;
};

Columns columns(const MambaConfig& s, std::int64_t head) {
  const std::int64_t group =
      head / (s.heads / s.groups);  // contiguous blocks of heads share B and C
  return {head * s.head_dim, s.inner() + group * s.state,
          s.inner() + s.groups * s.state + group * s.state};
}

}  // namespace

void scan_head(const Compute& compute, const Mamba2Weights& w, const ScanInput& in,
               std::int64_t head, float* state, float* y, std::int64_t ldy) {
  const MambaConfig& s = w.shape;
  const Columns at = columns(s, head);
  const auto i = static_cast<std::size_t>(head);
  for (std::int64_t t = 0; t < in.tokens; ++t) {
    const float* row = in.xbc + t * in.ldx;
    const float dt = in.dt[head * in.dt_stride + t];
    compute.kernels.ssm_step(state, row + at.x, row + at.b, row + at.c, dt, std::exp(dt * w.a[i]),
                             w.d[i], s.head_dim, s.state, y + t * ldy + at.x);
  }
}

void scan_recurrent(Compute& compute, const Mamba2Weights& w, const ScanInput& in, float* ssm,
                    float* y, std::int64_t ldy) {
  const std::int64_t size = w.shape.head_dim * w.shape.state;
  parallel_for(compute.threads, w.shape.heads,
               [&](std::int64_t h) { scan_head(compute, w, in, h, ssm + h * size, y, ldy); });
}

void scan_chunked(Compute& compute, const Mamba2Weights& w, const ScanInput& in, std::int64_t chunk,
                  float* ssm, float* y, std::int64_t ldy) {
  Arena::Scope scope(compute.arena);
  const MambaConfig& s = w.shape;
  const Kernels& kernels = compute.products();
  const std::int64_t chunks = (in.tokens + chunk - 1) / chunk;
  const std::int64_t square = chunk * chunk;

  // C_i . B_j depends on the group only: made once, used by all heads of the group.
  auto* gram = compute.arena.take<float>(s.groups * chunks * square);  // [groups, chunks, i, j]
  parallel_for(compute.threads, s.groups * chunks, [&](std::int64_t item) {
    const Columns at = columns(s, item / chunks * (s.heads / s.groups));
    const std::int64_t t0 = item % chunks * chunk;
    const std::int64_t q = std::min(chunk, in.tokens - t0);
    const float* row = in.xbc + t0 * in.ldx;
    kernels.gemm_nt(q, q, s.state, row + at.c, in.ldx, row + at.b, in.ldx, gram + item * square,
                    chunk, false);
  });

  // Per thread: masked decay matrix [chunk, chunk], dt x [chunk, head_dim], running sums [chunk].
  const std::int64_t spare_floats = square + padded(chunk * s.head_dim) + 2 * padded(chunk);
  auto* spare = compute.arena.take<float>(compute.threads * spare_floats);
  parallel_for(compute.threads, s.heads, [&](std::int64_t h) {
    float* m = spare + omp_get_thread_num() * spare_floats;
    float* dtx = m + square;
    float* sum = dtx + padded(chunk * s.head_dim);  // c_i
    float* decay = sum + padded(chunk);             // exp(c_i), then exp(c_last - c_j)
    const Columns at = columns(s, h);
    const auto head = static_cast<std::size_t>(h);
    float* state = ssm + h * s.head_dim * s.state;  // [head_dim, state]
    for (std::int64_t n = 0; n < chunks; ++n) {
      const std::int64_t t0 = n * chunk;
      const std::int64_t q = std::min(chunk, in.tokens - t0);
      const float* rows = in.xbc + t0 * in.ldx;
      const float* dt = in.dt + h * in.dt_stride + t0;
      float* out = y + t0 * ldy + at.x;

      float running = 0;
      for (std::int64_t i = 0; i < q; ++i) {
        running += dt[i] * w.a[head];
        sum[i] = running;
        for (std::int64_t p = 0; p < s.head_dim; ++p) {
          dtx[i * s.head_dim + p] = dt[i] * rows[i * in.ldx + at.x + p];
        }
      }
      // M_ij = exp(c_i - c_j) (C_i . B_j) for j <= i; from the difference, since exp(c_i)
      // underflows.
      const float* g = gram + (h / (s.heads / s.groups) * chunks + n) * square;
      for (std::int64_t i = 0; i < q; ++i) {
        float* row = m + i * chunk;
        for (std::int64_t j = 0; j <= i; ++j) row[j] = sum[i] - sum[j];
        kernels.exp_sum(row, i + 1, 0.0f, row);
        for (std::int64_t j = 0; j <= i; ++j) row[j] *= g[i * chunk + j];
        std::fill(row + i + 1, row + q, 0.0f);
      }
      kernels.exp_sum(sum, q, 0.0f, decay);

      // carry, then intra, then skip
      kernels.gemm_nt(q, s.head_dim, s.state, rows + at.c, in.ldx, state, s.state, out, ldy, false);
      for (std::int64_t i = 0; i < q; ++i) kernels.scale(decay[i], s.head_dim, out + i * ldy);
      kernels.gemm_nn(q, s.head_dim, q, m, chunk, dtx, s.head_dim, out, ldy, true);
      for (std::int64_t i = 0; i < q; ++i) {
        kernels.axpy(w.d[head], rows + i * in.ldx + at.x, s.head_dim, out + i * ldy);
      }

      // S <- exp(c_last) S + sum_j exp(c_last - c_j) dt_j x_j (outer) B_j
      const float last = sum[q - 1];
      for (std::int64_t j = 0; j < q; ++j) {
        kernels.scale(std::exp(last - sum[j]), s.head_dim, dtx + j * s.head_dim);
      }
      kernels.scale(decay[q - 1], s.head_dim * s.state, state);
      kernels.gemm_tn(s.head_dim, s.state, q, dtx, s.head_dim, rows + at.b, in.ldx, state, s.state,
                      true);
    }
  });
}

}  // namespace nemo::detail
