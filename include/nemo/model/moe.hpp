// The mixture-of-experts mixer: sigmoid router, top-k experts, a shared expert, latent projections.
//
//   p = sigmoid(W_gate u)      idx = top-k of p + b      w_i = scale * p_i / sum p
//   out = F2 sum_i w_i E_i(F1 u) + shared(u),            E(v) = W_down relu(W_up v)^2
// where F1 and F2 are absent unless the experts live in a latent space. No published model has
// biases; where a checkpoint does, each product is followed by its own.
#pragma once

#include <nemo/model/matrix.hpp>
#include <nemo/model/mlp.hpp>

#include <cstdint>
#include <vector>

namespace nemo {

struct RouterWeights {
  Matrix gate;              // [experts, d]; float, never products with int8 activations
  std::vector<float> bias;  // [experts]; picks experts but does not weight them
  std::int64_t used = 0;    // k experts per token
  std::int64_t groups = 1;  // experts in equal blocks, of which the best groups_used compete
  std::int64_t groups_used = 1;
  bool normalise = true;  // weights of a token sum to `scale`
  float scale = 1;
};

struct MoeWeights {
  RouterWeights router;
  Matrix up;           // [E] of [m, L]
  Matrix down;         // [E] of [L, m]
  MlpWeights shared;   // absent when shared.up is
  Matrix latent_down;  // [L, d] or absent
  Matrix latent_up;    // [d, L] or absent
  // Empty, or [E, m], [E, L], [L] and [d].
  std::vector<float> up_bias, down_bias, latent_down_bias, latent_up_bias;
};

/// The experts one token goes to, best first, and their weights.
struct Route {
  std::int32_t expert;
  float weight;
};

/// Routes of `tokens` rows: out [tokens, router.used]. x must be the unquantized normalised input.
void route(Compute& compute, const RouterWeights& w, Activations& x, Route* out);

/// x: normalised input rows; out: [tokens, d], ldo floats apart.
void moe(Compute& compute, const MoeWeights& w, Activations& x, float* out, std::int64_t ldo);

namespace detail {
/// Top-k for one token from router logits [experts]; `scratch` holds 2 * experts floats.
void select_experts(const RouterWeights& w, const float* logits, float* scratch, Route* out);
}  // namespace detail

}  // namespace nemo
