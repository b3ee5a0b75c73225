// The mixture-of-experts mixer: tokens sorted by expert, one grouped product up and one down.
#include <nemo/model/moe.hpp>

#include <algorithm>
#include <cstring>
#include <vector>

namespace nemo {
namespace {

/// Where each (token, choice) pair lies once pairs are sorted by expert.
struct Grouping {
  std::vector<std::int32_t> experts;      // those with at least one pair, ascending
  std::vector<std::int64_t> first;        // [experts.size() + 1] offsets into sorted pairs
  std::vector<std::int64_t> pair_of;      // sorted position -> token * k + choice
  std::vector<std::int64_t> position_of;  // token * k + choice -> sorted position
};

Grouping group_by_expert(const Route* routes, std::int64_t pairs, std::int64_t experts) {
  std::vector<std::int64_t> start(static_cast<std::size_t>(experts) + 1, 0);
  for (std::int64_t i = 0; i < pairs; ++i) ++start[static_cast<std::size_t>(routes[i].expert) + 1];
  Grouping g;
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto i = static_cast<std::size_t>(e);
    if (start[i + 1] > 0) {
      g.experts.push_back(static_cast<std::int32_t>(e));
      g.first.push_back(start[i]);
    }
    start[i + 1] += start[i];
  }
  g.first.push_back(pairs);
  g.pair_of.resize(static_cast<std::size_t>(pairs));
  g.position_of.resize(static_cast<std::size_t>(pairs));
  for (std::int64_t i = 0; i < pairs; ++i) {
    const std::int64_t at = start[static_cast<std::size_t>(routes[i].expert)]++;
    g.pair_of[static_cast<std::size_t>(at)] = i;
    g.position_of[static_cast<std::size_t>(i)] = at;
  }
  return g;
}

/// Rows of `tokens` tokens as pairs lie, so that those of an expert are consecutive.
Activations::Form gathered(Compute& compute, const Activations::Form& rows, const Grouping& g,
                           std::int64_t tokens, std::int64_t k) {
  auto* to = compute.arena.take<std::byte>(tokens * k * rows.stride);
  parallel_for(tokens >= 8 ? compute.threads : 1, tokens, [&](std::int64_t t) {
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t at = g.position_of[static_cast<std::size_t>(t * k + i)];
      std::memcpy(to + at * rows.stride, rows.data + t * rows.stride,
                  static_cast<std::size_t>(rows.stride));
    }
  });
  return {to, rows.stride, rows.planes};
}

/// Products of every chosen expert with its own consecutive rows, which start `step` bytes apart.
void append_expert_products(const Matrix& w, const Grouping& g, Activations::Form rows,
                            std::int64_t step, float* y, std::int64_t ldy,
                            const std::vector<float>& biases, decltype(biased)* epilogue,
                            std::vector<Product>& out) {
  for (std::size_t i = 0; i < g.experts.size(); ++i) {
    const std::int64_t first = g.first[i];
    const std::int64_t expert = g.experts[i];
    out.push_back({&w,
                   expert,
                   {rows.data + first * step, rows.stride, rows.planes},
                   g.first[i + 1] - first,
                   y + first * ldy,
                   ldy,
                   epilogue(biases, w, expert)});
  }
}

}  // namespace

void moe(Compute& compute, const MoeWeights& w, Activations& x, float* out, std::int64_t ldo) {
  Arena::Scope scope(compute.arena);
  const Kernels& kernels = compute.kernels;
  const std::int64_t tokens = x.rows();
  const std::int64_t k = w.router.used;
  const std::int64_t pairs = tokens * k;
  const std::int64_t latent =
      w.up.cols;  // expert input and output width; d without latent projections
  const std::int64_t inner = w.up.rows;
  const bool has_shared = static_cast<bool>(w.shared.up);

  auto* routes = compute.arena.take<Route>(pairs);
  route(compute, w.router, x, routes);
  const Grouping group = group_by_expert(routes, pairs, w.router.gate.rows);

  // Expert input in the form the expert format wants, one row per pair, pairs of an expert
  // together.
  const std::int64_t ldv = padded(latent);
  const float* expert_input = nullptr;
  if (w.latent_down) {
    auto* v = compute.arena.take<float>(tokens * ldv);
    linear(compute, w.latent_down, x, v, ldv, biased(w.latent_down_bias, w.latent_down));
    expert_input = v;
  }
  Activations latent_rows(compute, expert_input, tokens, latent, ldv);
  Activations& source = w.latent_down ? latent_rows : x;
  // All pairs of a single token are of the same row.
  Activations::Form rows = source.form(w.up);
  if (tokens > 1) rows = gathered(compute, rows, group, tokens, k);
  const std::int64_t row_step = tokens > 1 ? rows.stride : 0;

  // Up projections of all chosen experts and of the shared expert in one region; likewise down.
  const std::int64_t ldh = padded(inner);
  auto* hidden = compute.arena.take<float>(pairs * ldh);
  const std::int64_t shared_inner = w.shared.up.rows;
  const std::int64_t lds = padded(shared_inner);
  auto* shared_hidden = compute.arena.take<float>(has_shared ? tokens * lds : 0);
  std::vector<Product> products;
  if (has_shared) {
    products.push_back({&w.shared.up, 0, x.form(w.shared.up), tokens, shared_hidden, lds,
                        biased_relu2(w.shared.up_bias, w.shared.up)});
  }
  append_expert_products(w.up, group, rows, row_step, hidden, ldh, w.up_bias, biased_relu2,
                         products);
  run_products(compute, products);

  Activations hidden_rows(compute, hidden, pairs, inner, ldh);
  Activations shared_rows(compute, shared_hidden, tokens, shared_inner, lds);
  auto* expert_out = compute.arena.take<float>(pairs * ldv);
  products.clear();
  if (has_shared) {
    products.push_back({&w.shared.down, 0, shared_rows.form(w.shared.down), tokens, out, ldo,
                        biased(w.shared.down_bias, w.shared.down)});
  }
  const Activations::Form inner_rows = hidden_rows.form(w.down);
  append_expert_products(w.down, group, inner_rows, inner_rows.stride, expert_out, ldv, w.down_bias,
                         biased, products);
  run_products(compute, products);

  // Weighted sum in the order of choice, whatever order experts were computed in.
  const std::int64_t d = w.latent_up ? w.latent_up.rows : latent;
  auto* mixed = compute.arena.take<float>(tokens * ldv);
  parallel_for(tokens >= 8 ? compute.threads : 1, tokens, [&](std::int64_t t) {
    float* row = mixed + t * ldv;
    std::fill_n(row, latent, 0.0f);
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t at = group.position_of[static_cast<std::size_t>(t * k + i)];
      kernels.axpy(routes[t * k + i].weight, expert_out + at * ldv, latent, row);
    }
  });
  const float* routed = mixed;
  std::int64_t ldr = ldv;
  if (w.latent_up) {
    ldr = padded(d);
    auto* full = compute.arena.take<float>(tokens * ldr);
    Activations mixed_rows(compute, mixed, tokens, latent, ldv);
    linear(compute, w.latent_up, mixed_rows, full, ldr, biased(w.latent_up_bias, w.latent_up));
    routed = full;
  }
  parallel_for(tokens >= 8 ? compute.threads : 1, tokens, [&](std::int64_t t) {
    if (has_shared) {
      kernels.add(routed + t * ldr, d, out + t * ldo);
    } else {
      std::copy_n(routed + t * ldr, d, out + t * ldo);
    }
  });
}

}  // namespace nemo
