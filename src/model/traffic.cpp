// Counting the bytes of a forward pass from the matrices it uses.
#include <nemo/model/traffic.hpp>

#include <cmath>

namespace nemo {
namespace {

/// Bytes of one layer's matrices that a chunk reads.
struct LayerBytes {
  double tokens;

  double operator()(const Mamba2Weights& w) const {
    return static_cast<double>(w.in_proj.bytes() + w.out_proj.bytes());
  }
  double operator()(const AttentionWeights& w) const {
    return static_cast<double>(w.q.bytes() + w.k.bytes() + w.v.bytes() + w.o.bytes());
  }
  double operator()(const MlpWeights& w) const {
    return static_cast<double>(w.up.bytes() + w.down.bytes());
  }
  double operator()(const MoeWeights& w) const {
    const auto experts = static_cast<double>(w.router.gate.rows);
    const double chosen = static_cast<double>(w.router.used) / experts;
    const double distinct = 1.0 - std::pow(1.0 - chosen, tokens);  // of all experts
    const double routed = static_cast<double>(w.up.bytes() + w.down.bytes()) * distinct;
    return routed +
           static_cast<double>(w.router.gate.bytes() + w.latent_down.bytes() +
                               w.latent_up.bytes()) +
           (*this)(w.shared);
  }
};

}  // namespace

std::int64_t prefill_weight_bytes(const ModelWeights& weights, std::int64_t tokens) {
  double total = static_cast<double>(weights.head.bytes() + tokens * weights.embeddings.row_size());
  for (const LayerWeights& layer : weights.layers) {
    total += std::visit(LayerBytes{static_cast<double>(tokens)}, layer.mixer);
  }
  return static_cast<std::int64_t>(total);
}

std::int64_t decode_weight_bytes(const ModelWeights& weights) {
  return prefill_weight_bytes(weights, 1);
}

std::int64_t state_traffic_bytes(const ModelWeights& weights) {
  return 2 * weights.config.mamba_state_bytes();
}

}  // namespace nemo
