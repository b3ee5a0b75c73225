// The dense feed-forward mixer.
#include <nemo/model/mlp.hpp>

namespace nemo {

void mlp(Compute& compute, const MlpWeights& w, Activations& x, float* out, std::int64_t ldo) {
  Arena::Scope scope(compute.arena);
  const std::int64_t ldh = padded(w.up.rows);
  auto* hidden = compute.arena.take<float>(x.rows() * ldh);
  linear(compute, w.up, x, hidden, ldh);
  add_bias(compute, w.up_bias, x.rows(), hidden, ldh);
  parallel_for(x.rows() >= 8 ? compute.threads : 1, x.rows(),
               [&](std::int64_t t) { compute.kernels.relu2(hidden + t * ldh, w.up.rows); });
  Activations rows(compute, hidden, x.rows(), w.up.rows, ldh);
  linear(compute, w.down, rows, out, ldo);
  add_bias(compute, w.down_bias, x.rows(), out, ldo);
}

}  // namespace nemo
