// The whole network: one norm and one mixer per layer around a residual stream.
//
//   h = Embed[token];   h += Mixer_n(RmsNorm_n(h)) for each layer n;   logits = W_head RmsNorm(h)
//
// Start reading here; the mixers are mamba2.hpp, attention.hpp, mlp.hpp and moe.hpp.
#pragma once

#include <nemo/base/error.hpp>
#include <nemo/cache/kv_cache.hpp>
#include <nemo/model/mtp.hpp>
#include <nemo/model/weights.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace nemo {

/// A Nemotron-H model over one KV cache policy, e.g. NemotronH<Fp16Cache>. Immutable: all that
/// changes lies in State.
template <KvCache Cache>
class NemotronH {
 public:
  /// What verify() leaves for keep() to decide.
  struct Undecided {
    std::vector<std::int32_t> tokens;
    std::vector<Mamba2Replay> mamba;  // as State::mamba
    std::vector<KvReplay> kv;         // one per attention layer
    std::optional<decltype(std::declval<const Cache&>().mark())> before;
    std::vector<float> hidden;  // [tokens, padded(d)] after the last norm
  };

  /// What one sequence has accumulated after `tokens` tokens.
  struct State {
    Cache kv;
    std::vector<Mamba2State> mamba;  // one per Mamba-2 layer, in model order
    std::int64_t tokens = 0;
    std::optional<DraftState<Cache>> draft{};  // when start_drafting() asked for it
    Undecided undecided{};
  };

  /// kv_formats: one per attention layer, for policies that are told their formats (PackedCache).
  /// kv_means: for centering, where a policy quantizes; null: none.
  explicit NemotronH(std::shared_ptr<const ModelWeights> weights,
                     std::vector<KvFormat> kv_formats = {},
                     std::shared_ptr<const KvMeans> kv_means = {})
      : weights_(std::move(weights)),
        kv_formats_(std::move(kv_formats)),
        kv_means_(std::move(kv_means)) {}

  [[nodiscard]] const ModelConfig& config() const noexcept { return weights_->config; }
  [[nodiscard]] const ModelWeights& weights() const noexcept { return *weights_; }

  /// An empty sequence with room for `capacity` tokens.
  [[nodiscard]] State new_state(std::int64_t capacity) const {
    KvShape shape{{}, capacity, kv_formats_, kv_means_};
    std::vector<Mamba2State> mamba;
    for (const LayerConfig& layer : config().layers) {
      if (layer.kind == LayerKind::attention)
        shape.layers.push_back({layer.kv_heads, layer.head_dim});
      if (layer.kind == LayerKind::mamba) mamba.emplace_back(config().mamba);
    }
    return {Cache(shape), std::move(mamba), 0};
  }

  /// Evaluates one chunk of tokens after those in `state` and writes the logits that follow
  /// tokens[positions[i]] to logits[i * vocab ..]. Ids must be in the vocabulary and the state must
  /// have room.
  void forward(Compute& compute, State& state, std::span<const std::int32_t> tokens,
               std::span<const std::int64_t> positions, float* logits) const {
    Arena::Scope scope(compute.arena);
    const std::int64_t d = config().hidden;
    const std::int64_t ld = padded(d);
    const auto count = static_cast<std::int64_t>(tokens.size());
    compute.fine_activations = count <= kFineTokens;
    float* h = embed_all(compute, tokens);
    run_layers(compute, state, h, ld, count, nullptr);
    state.tokens += count;
    if (state.draft) {
      auto* hidden = compute.arena.take<float>(count * ld);
      last_norm(compute, h, ld, count, hidden);
      follow(compute, *weights_, *state.draft, tokens, hidden, ld);
    }
    head(compute, h, ld, positions, logits);
  }

  /// Writes the logits after each token to logits [tokens, vocab], the same bits as forward() of
  /// one token after the other, at about the price of one for few tokens. How many of them count is
  /// open until keep(), which must come next.
  void verify(Compute& compute, State& state, std::span<const std::int32_t> tokens,
              float* logits) const {
    Arena::Scope scope(compute.arena);
    const std::int64_t ld = padded(config().hidden);
    const auto count = static_cast<std::int64_t>(tokens.size());
    compute.fine_activations = true;
    Undecided& u = state.undecided;
    u.tokens.assign(tokens.begin(), tokens.end());
    u.mamba.resize(state.mamba.size());
    u.kv.resize(static_cast<std::size_t>(config().count(LayerKind::attention)));
    u.before = state.kv.mark();
    u.hidden.resize(static_cast<std::size_t>(count * ld));
    float* h = embed_all(compute, tokens);
    run_layers(compute, state, h, ld, count, &u);
    auto* rows = compute.arena.take<float>(count * ld);
    last_norm(compute, h, ld, count, rows);
    std::copy_n(rows, count * ld, u.hidden.data());
    Activations x(compute, rows, count, config().hidden, ld);
    linear(compute, weights_->head, x, logits, config().vocab);
  }

  /// Makes `state` what forward() of the first `count` tokens of verify() would have made it, bit
  /// by bit.
  void keep(Compute& compute, State& state, std::int64_t count) const {
    Undecided& u = state.undecided;
    const auto total = static_cast<std::int64_t>(u.tokens.size());
    compute.fine_activations = true;
    std::size_t mamba_slot = 0;
    for (const LayerWeights& layer : weights_->layers) {
      const auto* m = std::get_if<Mamba2Weights>(&layer.mixer);
      if (m == nullptr) continue;
      mamba2_advance(compute, *m, u.mamba[mamba_slot], total, count, state.mamba[mamba_slot]);
      ++mamba_slot;
    }
    if (count < total) {
      state.kv.rewind(*u.before);
      for (std::size_t slot = 0; slot < u.kv.size(); ++slot) {
        const KvReplay& rows = u.kv[slot];
        const std::int64_t width = static_cast<std::int64_t>(rows.keys.size()) / total;
        for (std::int64_t t = 0; t < count; ++t) {
          state.kv.append(compute.kernels, static_cast<std::int64_t>(slot), state.tokens + t,
                          rows.keys.data() + t * width, rows.values.data() + t * width, width, 1);
        }
      }
    }
    state.tokens += count;
    if (state.draft) {
      const std::int64_t ld = padded(config().hidden);
      const std::span<const std::int32_t> kept(u.tokens.data(), static_cast<std::size_t>(count));
      follow(compute, *weights_, *state.draft, kept, u.hidden.data(), ld);
    }
    u.tokens.clear();
  }

  /// Whether the checkpoint has a draft head.
  [[nodiscard]] bool can_draft() const noexcept { return weights_->mtp.has_value(); }

  /// From here on the draft head follows the sequence.
  void start_drafting(State& state, std::int64_t capacity) const {
    const AttentionWeights& a = weights_->mtp->attention;
    KvShape shape{{{a.kv_heads, a.head_dim}}, capacity};
    if (!kv_formats_.empty()) shape.formats = {kv_formats_.back()};
    state.draft.emplace(Cache(shape));
  }

  /// The draft head's logits after `token`: guess() of mtp.hpp.
  void draft(Compute& compute, State& state, std::int32_t token, float* logits) const {
    guess(compute, *weights_, *state.draft, token, logits);
  }

  /// For speed measurement only: `tokens` positions of noise in every KV layer, Mamba states left
  /// as they are.
  void fill_with_noise(Compute& compute, State& state, std::int64_t tokens) const {
    constexpr std::int64_t kRows = 256;
    std::int64_t slot = 0;
    for (const LayerConfig& layer : config().layers) {
      if (layer.kind != LayerKind::attention) continue;
      const std::int64_t width = layer.kv_heads * layer.head_dim;
      std::vector<float> rows(static_cast<std::size_t>(kRows * width));
      std::uint32_t bits = 1;
      for (float& x : rows) {
        bits = bits * 1664525u + 1013904223u;
        x = static_cast<float>(bits >> 8) * 0x1p-23f - 1.0f;
      }
      for (std::int64_t t = 0; t < tokens; t += kRows) {
        state.kv.append(compute.kernels, slot, state.tokens + t, rows.data(), rows.data(), width,
                        std::min(kRows, tokens - t));
      }
      ++slot;
    }
    state.tokens += tokens;
  }

 private:
  // Up to here most experts see so few tokens that reading their weights takes longer than
  // multiplying twice; beyond it prefill is bound by arithmetic and plain int8 is twice as fast.
  static constexpr std::int64_t kFineTokens = 64;

  /// The residual stream [tokens, padded(d)] before the first layer.
  float* embed_all(Compute& compute, std::span<const std::int32_t> tokens) const {
    const Profile::Scope timer(compute.profile, Profile::Part::embed);
    const std::int64_t ld = padded(config().hidden);
    auto* h = compute.arena.take<float>(static_cast<std::int64_t>(tokens.size()) * ld);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      embed(compute, weights_->embeddings, tokens[t], h + static_cast<std::int64_t>(t) * ld);
    }
    return h;
  }

  /// `undecided`: null, or where what verify() has to keep goes.
  void run_layers(Compute& compute, State& state, float* h, std::int64_t ld, std::int64_t tokens,
                  Undecided* undecided) const {
    const std::int64_t d = config().hidden;
    std::int64_t attention_slot = 0;
    std::size_t mamba_slot = 0;
    std::uint64_t layers_done = 0;
    for (const LayerWeights& layer : weights_->layers) {
      if (compute.proceed && !compute.proceed(layers_done++, weights_->layers.size())) {
        throw Error(ErrorCode::cancelled, "evaluation cancelled between two layers");
      }
      Arena::Scope scope(compute.arena);
      auto* normed = compute.arena.take<float>(tokens * ld);
      auto* mixed = compute.arena.take<float>(tokens * ld);
      const int norm_threads = tokens >= 8 ? compute.threads : 1;
      {
        const Profile::Scope timer(compute.profile, Profile::Part::norm);
        parallel_for(norm_threads, tokens, [&](std::int64_t t) {
          compute.kernels.rms_norm(h + t * ld, layer.norm.data(), d, config().norm_eps,
                                   normed + t * ld);
        });
      }
      Activations x(compute, normed, tokens, d, ld);
      if (const auto* m = std::get_if<Mamba2Weights>(&layer.mixer)) {
        const Profile::Scope timer(compute.profile, Profile::Part::mamba);
        if (undecided == nullptr) {
          mamba2(compute, *m, x, state.mamba[mamba_slot], mixed, ld);
        } else {
          mamba2(compute, *m, x, state.mamba[mamba_slot], mixed, ld, undecided->mamba[mamba_slot]);
        }
        ++mamba_slot;
      } else if (const auto* a = std::get_if<AttentionWeights>(&layer.mixer)) {
        const Profile::Scope timer(compute.profile, Profile::Part::attention);
        if (undecided == nullptr) {
          attention(compute, *a, x, state.kv, attention_slot, state.tokens, mixed, ld);
        } else {
          attention(compute, *a, x, state.kv, attention_slot, state.tokens, mixed, ld,
                    undecided->kv[static_cast<std::size_t>(attention_slot)]);
        }
        ++attention_slot;
      } else if (const auto* f = std::get_if<MlpWeights>(&layer.mixer)) {
        const Profile::Scope timer(compute.profile, Profile::Part::mlp);
        mlp(compute, *f, x, mixed, ld);
      } else {
        const Profile::Scope timer(compute.profile, Profile::Part::moe);
        moe(compute, std::get<MoeWeights>(layer.mixer), x, mixed, ld);
      }
      const Profile::Scope timer(compute.profile, Profile::Part::norm);
      parallel_for(norm_threads, tokens,
                   [&](std::int64_t t) { compute.kernels.add(mixed + t * ld, d, h + t * ld); });
    }
  }

  void last_norm(Compute& compute, const float* h, std::int64_t ld, std::int64_t tokens,
                 float* out) const {
    parallel_for(tokens >= 8 ? compute.threads : 1, tokens, [&](std::int64_t t) {
      compute.kernels.rms_norm(h + t * ld, weights_->final_norm.data(), config().hidden,
                               config().norm_eps, out + t * ld);
    });
  }

  void head(Compute& compute, const float* h, std::int64_t ld,
            std::span<const std::int64_t> positions, float* logits) const {
    if (positions.empty()) return;
    const Profile::Scope timer(compute.profile, Profile::Part::head);
    const std::int64_t d = config().hidden;
    const auto count = static_cast<std::int64_t>(positions.size());
    auto* rows = compute.arena.take<float>(count * ld);
    for (std::int64_t i = 0; i < count; ++i) {
      compute.kernels.rms_norm(h + positions[static_cast<std::size_t>(i)] * ld,
                               weights_->final_norm.data(), d, config().norm_eps, rows + i * ld);
    }
    Activations x(compute, rows, count, d, ld);
    linear(compute, weights_->head, x, logits, config().vocab);
  }

  std::shared_ptr<const ModelWeights> weights_;
  std::vector<KvFormat> kv_formats_;
  std::shared_ptr<const KvMeans> kv_means_;
};

}  // namespace nemo
