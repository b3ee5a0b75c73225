// The draft head (multi-token prediction): guesses the token after the next one from what the trunk
// made of the last.
//
//   e = RmsNorm(Embed[token_{t+1}])   g = RmsNorm(H_t)   x = W_eh [e; g]
//   x += Attention(RmsNorm(x));   x += MoE(RmsNorm(x));   x = RmsNorm(x);   logits = W_head x
//
// H_t is the trunk's output after its last norm; for the guess after that, x takes its place. Slot
// i of the head's own KV cache pairs H_i with token i+1; of the tokens held, the last has no slot
// yet.
#pragma once

#include <nemo/cache/kv_cache.hpp>
#include <nemo/model/weights.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace nemo {

/// What the draft head knows of one sequence, and the guesses it is making.
template <KvCache Cache>
struct DraftState {
  explicit DraftState(Cache cache) : kv(std::move(cache)) {}

  using KvMark = decltype(std::declval<const Cache&>().mark());

  /// To come back to, like a cache's mark.
  struct Mark {
    KvMark kv;
    std::int64_t slots;
    std::vector<float> hidden;
  };
  [[nodiscard]] Mark mark() const {
    return {guesses > 0 ? *before_guesses : kv.mark(), slots, hidden};
  }
  void rewind(const Mark& mark) {
    kv.rewind(mark.kv);
    slots = mark.slots;
    hidden = mark.hidden;
    guesses = 0;
  }
  void clear() {
    kv.truncate(0);
    slots = 0;
    hidden.clear();
    guesses = 0;
  }

  Cache kv;                   // one layer
  std::int64_t slots = 0;     // held
  std::vector<float> hidden;  // [d] after the last token held; empty: not known
  std::int64_t guesses = 0;   // each with a slot behind those held
  std::optional<KvMark> before_guesses;
  std::vector<float> x;  // [d] of the last guess
};

namespace detail {

/// Rows [tokens, d] of x = W_eh [e; g]. `hidden(i)` is what goes with tokens[i].
template <class Hidden>
float* fuse(Compute& compute, const ModelWeights& w, std::span<const std::int32_t> tokens,
            Hidden hidden) {
  const std::int64_t d = w.config.hidden;
  const std::int64_t ld = padded(2 * d);
  const auto count = static_cast<std::int64_t>(tokens.size());
  auto* x = compute.arena.take<float>(count * padded(d));
  Arena::Scope scope(compute.arena);
  auto* pairs = compute.arena.take<float>(count * ld);
  for (std::int64_t i = 0; i < count; ++i) {
    float* row = pairs + i * ld;
    embed(compute, w.embeddings, tokens[static_cast<std::size_t>(i)], row);
    compute.kernels.rms_norm(row, w.mtp->token_norm.data(), d, w.config.norm_eps, row);
    compute.kernels.rms_norm(hidden(i), w.mtp->hidden_norm.data(), d, w.config.norm_eps, row + d);
  }
  Activations both(compute, pairs, count, 2 * d, ld);
  linear(compute, w.mtp->fuse, both, x, padded(d));
  return x;
}

}  // namespace detail

/// Takes back all guesses.
template <KvCache Cache>
void drop_guesses(DraftState<Cache>& state) {
  if (state.guesses == 0) return;
  state.kv.rewind(*state.before_guesses);
  state.guesses = 0;
}

/// Follows the trunk over `tokens`, whose outputs after the last norm are hidden [tokens, d], rows
/// `ld` floats apart. Only keys and values are computed: later queries need no more.
template <KvCache Cache>
void follow(Compute& compute, const ModelWeights& w, DraftState<Cache>& state,
            std::span<const std::int32_t> tokens, const float* hidden, std::int64_t ld) {
  drop_guesses(state);
  if (tokens.empty()) return;
  const std::int64_t d = w.config.hidden;
  const std::int64_t known = state.hidden.empty() ? 1 : 0;  // first token with something before it
  const auto paired = tokens.subspan(static_cast<std::size_t>(known));
  if (!paired.empty()) {
    Arena::Scope scope(compute.arena);
    const auto count = static_cast<std::int64_t>(paired.size());
    float* x = detail::fuse(compute, w, paired, [&](std::int64_t i) {
      return i + known == 0 ? state.hidden.data() : hidden + (i + known - 1) * ld;
    });
    for (std::int64_t i = 0; i < count; ++i) {
      float* row = x + i * padded(d);
      compute.kernels.rms_norm(row, w.mtp->attention_norm.data(), d, w.config.norm_eps, row);
    }
    Activations normed(compute, x, count, d, padded(d));
    cache_keys(compute, w.mtp->attention, normed, state.kv, 0, state.slots);
    state.slots += count;
  }
  const float* last = hidden + (static_cast<std::int64_t>(tokens.size()) - 1) * ld;
  state.hidden.assign(last, last + d);
}

/// Writes the logits that the head expects after `token`, which follows the tokens held or, after
/// other guesses, the last of them. The state must know what came before (state.hidden).
template <KvCache Cache>
void guess(Compute& compute, const ModelWeights& w, DraftState<Cache>& state, std::int32_t token,
           float* logits) {
  Arena::Scope scope(compute.arena);
  compute.fine_activations = true;  // as for the few tokens of decoding
  const MtpWeights& m = *w.mtp;
  const std::int64_t d = w.config.hidden;
  const float eps = w.config.norm_eps;
  const float* before = state.guesses == 0 ? state.hidden.data() : state.x.data();
  float* x = detail::fuse(compute, w, {&token, 1}, [&](std::int64_t) { return before; });
  auto* normed = compute.arena.take<float>(padded(d));
  auto* mixed = compute.arena.take<float>(padded(d));

  if (state.guesses == 0) state.before_guesses = state.kv.mark();
  compute.kernels.rms_norm(x, m.attention_norm.data(), d, eps, normed);
  Activations first(compute, normed, 1, d, padded(d));
  attention(compute, m.attention, first, state.kv, 0, state.slots + state.guesses, mixed,
            padded(d));
  compute.kernels.add(mixed, d, x);
  compute.kernels.rms_norm(x, m.experts_norm.data(), d, eps, normed);
  Activations second(compute, normed, 1, d, padded(d));
  moe(compute, m.experts, second, mixed, padded(d));
  compute.kernels.add(mixed, d, x);
  compute.kernels.rms_norm(x, m.final_norm.data(), d, eps, normed);
  state.x.assign(normed, normed + d);
  ++state.guesses;
  Activations last(compute, normed, 1, d, padded(d));
  linear(compute, w.head, last, logits, w.config.vocab);
}

}  // namespace nemo
