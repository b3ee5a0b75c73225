// The dense feed-forward mixer.
#include <nemo/model/mlp.hpp>

namespace nemo {

void mlp(Compute& compute, const MlpWeights& w, Activations& x, float* out, std::int64_t ldo) {
  Arena::Scope scope(compute.arena);
  const std::int64_t ldh = padded(w.up.rows);
  auto* hidden = compute.arena.take<float>(x.rows() * ldh);
  linear(compute, w.up, x, hidden, ldh, biased_relu2(w.up_bias, w.up));
  Activations rows(compute, hidden, x.rows(), w.up.rows, ldh);
  linear(compute, w.down, rows, out, ldo, biased(w.down_bias, w.down));
}

}  // namespace nemo
