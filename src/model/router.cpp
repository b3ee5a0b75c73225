// Choosing experts: sigmoid scores, a bias that only selects, an optional limit to expert groups.
#include <nemo/model/moe.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace nemo {
namespace detail {

void select_experts(const RouterWeights& w, const float* logits, float* scratch, Route* out) {
  const std::int64_t experts = w.gate.rows;
  float* p = scratch;
  float* biased = scratch + experts;
  for (std::int64_t e = 0; e < experts; ++e) {
    p[e] = 1.0f / (1.0f + std::exp(-logits[e]));
    biased[e] = p[e] + (w.bias.empty() ? 0.0f : w.bias[static_cast<std::size_t>(e)]);
  }
  constexpr float kExcluded = -std::numeric_limits<float>::infinity();

  if (w.groups > 1 && w.groups_used < w.groups) {
    // A group counts as the sum of its two best biased scores; losers are out of the selection.
    const std::int64_t width = experts / w.groups;
    std::vector<float> group_score(static_cast<std::size_t>(w.groups));
    for (std::int64_t g = 0; g < w.groups; ++g) {
      float best = kExcluded;
      float second = kExcluded;
      for (std::int64_t e = g * width; e < (g + 1) * width; ++e) {
        if (biased[e] > best) {
          second = best;
          best = biased[e];
        } else {
          second = std::max(second, biased[e]);
        }
      }
      group_score[static_cast<std::size_t>(g)] = width > 1 ? best + second : best;
    }
    std::vector<bool> kept(static_cast<std::size_t>(w.groups), false);
    for (std::int64_t n = 0; n < w.groups_used; ++n) {
      std::int64_t pick = -1;
      for (std::int64_t g = 0; g < w.groups; ++g) {
        const auto i = static_cast<std::size_t>(g);
        if (!kept[i] && (pick < 0 || group_score[i] > group_score[static_cast<std::size_t>(pick)]))
          pick = g;
      }
      kept[static_cast<std::size_t>(pick)] = true;
    }
    for (std::int64_t e = 0; e < experts; ++e) {
      if (!kept[static_cast<std::size_t>(e / width)]) biased[e] = kExcluded;
    }
  }

  float sum = 0;
  for (std::int64_t n = 0; n < w.used; ++n) {
    // Ties go to the lowest index; a NaN never wins, so a pick always exists.
    std::int64_t pick = -1;
    for (std::int64_t e = 0; e < experts; ++e) {
      if (biased[e] > kExcluded && (pick < 0 || biased[e] > biased[pick])) pick = e;
    }
    if (pick < 0) pick = n;  // fewer candidates than k: only with NaN input
    out[n] = {static_cast<std::int32_t>(pick), p[pick]};
    sum += p[pick];
    biased[pick] = kExcluded;
  }
  const float factor = w.normalise ? w.scale / (sum + 1e-20f) : w.scale;
  for (std::int64_t n = 0; n < w.used; ++n) out[n].weight *= factor;
}

}  // namespace detail

void route(Compute& compute, const RouterWeights& w, Activations& x, Route* out) {
  Arena::Scope scope(compute.arena);
  const std::int64_t tokens = x.rows();
  const std::int64_t experts = w.gate.rows;
  const std::int64_t ldl = padded(experts);
  auto* logits = compute.arena.take<float>(tokens * ldl);
  linear(compute, w.gate, x, logits, ldl);
  auto* scratch = compute.arena.take<float>(compute.threads * 2 * ldl);
  parallel_for(tokens >= 8 ? compute.threads : 1, tokens, [&](std::int64_t t) {
    detail::select_experts(w, logits + t * ldl, scratch + omp_get_thread_num() * 2 * ldl,
                           out + t * w.used);
  });
}

}  // namespace nemo
