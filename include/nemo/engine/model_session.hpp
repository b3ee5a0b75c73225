// A session over a concrete KV cache policy.
#pragma once

#include <nemo/base/error.hpp>
#include <nemo/base/hash.hpp>
#include <nemo/engine/session.hpp>
#include <nemo/model/nemotron_h.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace nemo {

template <KvCache Cache>
class ModelSession final : public Session {
 public:
  ModelSession(const NemotronH<Cache>& model, const Kernels& kernels, int threads,
               std::int64_t capacity)
      : ModelSession(model, kernels, threads, capacity, model.new_state(capacity)) {}

  void feed(std::span<const std::int32_t> tokens, const FeedOptions& options = {}) override {
    feed(tokens, {}, nullptr, options);
  }

  void feed(std::span<const std::int32_t> tokens, std::span<const std::int64_t> positions,
            float* out, const FeedOptions& options = {}) override {
    check(tokens, positions, options);
    keep_nothing();
    const std::int64_t vocab = model_.config().vocab;
    const auto total = static_cast<std::int64_t>(tokens.size());
    has_logits_ = false;
    compute_.profile = options.profile;
    std::size_t next = 0;  // first position not yet written
    std::vector<std::int64_t> wanted;
    std::vector<float> rows;
    for (std::int64_t begin = 0; begin < total; begin += options.chunk_tokens) {
      const std::int64_t end = std::min(total, begin + options.chunk_tokens);
      wanted.clear();
      for (; next < positions.size() && positions[next] < end; ++next) {
        wanted.push_back(positions[next] - begin);
      }
      const std::size_t asked = wanted.size();
      // The last token's logits are always kept for logits().
      const bool extra = end == total && (asked == 0 || wanted.back() != end - begin - 1);
      if (extra) wanted.push_back(end - begin - 1);
      ProgressCallback proceed;
      if (options.progress && end - begin >= kLongChunk) {
        proceed = [&](std::uint64_t layers_done, std::uint64_t layers) {
          const auto count = static_cast<std::uint64_t>(end - begin);
          return options.progress(static_cast<std::uint64_t>(begin) + count * layers_done / layers,
                                  static_cast<std::uint64_t>(total));
        };
      }
      float* to =
          out == nullptr ? logits_.data() : out + static_cast<std::int64_t>(next - asked) * vocab;
      if (extra && asked > 0) {
        rows.resize(wanted.size() * static_cast<std::size_t>(vocab));
        run(tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
            wanted, rows.data(), proceed);
        std::copy_n(rows.data(), static_cast<std::int64_t>(asked) * vocab, to);
        std::copy_n(rows.data() + static_cast<std::int64_t>(asked) * vocab, vocab, logits_.data());
      } else {
        run(tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
            wanted, extra ? logits_.data() : to, proceed);
        if (end == total && !extra) {
          std::copy_n(to + static_cast<std::int64_t>(asked - 1) * vocab, vocab, logits_.data());
        }
      }
      if (options.progress &&
          !options.progress(static_cast<std::uint64_t>(end), static_cast<std::uint64_t>(total)) &&
          end < total) {
        throw Error(ErrorCode::cancelled, "evaluation cancelled after " + std::to_string(end) +
                                              " of " + std::to_string(total) + " tokens");
      }
    }
    has_logits_ = total > 0;
  }

  [[nodiscard]] std::span<const float> logits() const noexcept override {
    return has_logits_ ? logits_.span() : std::span<const float>{};
  }
  [[nodiscard]] std::span<const std::int32_t> tokens() const noexcept override { return held_; }
  [[nodiscard]] std::int64_t capacity() const noexcept override { return capacity_; }
  [[nodiscard]] std::size_t bytes() const noexcept override {
    std::size_t total = kv_bytes();
    for (const Mamba2State& m : state_.mamba) total += m.bytes();
    if (state_.draft) total += state_.draft->kv.bytes(state_.draft->slots);
    return total;
  }

  [[nodiscard]] std::size_t kv_bytes() const noexcept override {
    return state_.kv.allocated_bytes();
  }
  [[nodiscard]] std::size_t kv_bytes_per_token() const noexcept override {
    constexpr std::int64_t kLate = std::int64_t{1} << 24;
    return state_.kv.bytes(kLate + 1) - state_.kv.bytes(kLate);
  }

  [[nodiscard]] std::unique_ptr<Checkpoint> save() const override {
    // Tokens that verify() left undecided are in the cache but not in the sequence.
    const auto& before = state_.undecided.before;
    auto kv = state_.undecided.tokens.empty() ? state_.kv.mark() : *before;
    auto saved = std::make_unique<Saved>(this, std::move(kv), state_.mamba, held_);
    if (state_.draft) saved->draft = state_.draft->mark();
    return saved;
  }

  void restore(const Checkpoint& checkpoint) override {
    const auto* saved = dynamic_cast<const Saved*>(&checkpoint);
    if (saved == nullptr || saved->owner != this || saved->held.size() > held_.size() ||
        !std::equal(saved->held.begin(), saved->held.end(), held_.begin())) {
      throw Error(
          ErrorCode::bad_input,
          "restore: the checkpoint is not of this session's present tokens; save a new one");
    }
    keep_nothing();
    state_.mamba = saved->mamba;
    cut(static_cast<std::int64_t>(saved->held.size()));
    state_.kv.rewind(saved->kv);
    if (state_.draft && saved->draft) {
      state_.draft->rewind(*saved->draft);
    } else if (state_.draft) {
      state_.draft->clear();
    }
  }

  void reset() override {
    state_.undecided.tokens.clear();
    for (Mamba2State& m : state_.mamba) m.clear();
    if (state_.draft) state_.draft->clear();
    cut(0);
  }

  [[nodiscard]] std::span<const float> verify(std::span<const std::int32_t> tokens) override {
    check(tokens, {}, {});
    keep_nothing();
    has_logits_ = false;
    verified_.resize(tokens.size() * logits_.size());
    if (tokens.empty()) return {};
    try {
      model_.verify(compute_, state_, tokens, verified_.data());
    } catch (...) {
      reset();
      throw;
    }
    return verified_;
  }

  void keep(std::int64_t count) override {
    std::vector<std::int32_t>& open = state_.undecided.tokens;
    if (count < 0 || std::cmp_greater(count, open.size())) {
      throw Error(ErrorCode::internal, "keep: " + std::to_string(count) + " of " +
                                           std::to_string(open.size()) + " undecided tokens");
    }
    if (open.empty()) return;
    has_logits_ = count > 0;
    if (has_logits_) {
      const auto vocab = static_cast<std::int64_t>(logits_.size());
      std::copy_n(verified_.data() + (count - 1) * vocab, vocab, logits_.data());
    }
    held_.insert(held_.end(), open.begin(), open.begin() + static_cast<std::ptrdiff_t>(count));
    try {
      model_.keep(compute_, state_, count);
    } catch (...) {
      reset();
      throw;
    }
  }

  [[nodiscard]] std::unique_ptr<Session> fork() const override {
    auto copy = std::unique_ptr<ModelSession>(
        new ModelSession(model_, compute_.kernels, compute_.threads, capacity_,
                         {state_.kv.fork(), state_.mamba, state_.tokens}));
    if (!state_.undecided.tokens.empty()) copy->state_.kv.rewind(*state_.undecided.before);
    copy->held_ = held_;
    return copy;
  }

  /// u64 "nemoSes" 1, u64 fingerprint of the model, u64 tokens, i32 ids, the Mamba states, the KV
  /// cache in its own form.
  void write(const ByteSink& sink) const override {
    if (!state_.undecided.tokens.empty()) return fork()->write(sink);
    const std::uint64_t header[] = {kMagic, fingerprint(), held_.size()};
    sink(header, sizeof header);
    sink(held_.data(), held_.size() * sizeof(std::int32_t));
    for (const Mamba2State& m : state_.mamba) {
      sink(m.conv.data(), m.conv.bytes());
      sink(m.ssm.data(), m.ssm.bytes());
    }
    state_.kv.save(sink);
  }

  void read(const ByteSource& source) override {
    reset();
    try {
      std::uint64_t header[3] = {};
      source(header, sizeof header);
      const auto refuse = [](const char* why) {
        throw Error(ErrorCode::bad_file, std::string("saved session: ") + why);
      };
      if (header[0] != kMagic) refuse("this is none, or of another version");
      if (header[1] != fingerprint()) refuse("it is of another model");
      if (header[2] > static_cast<std::uint64_t>(capacity_)) {
        refuse("it holds more tokens than this context; use a larger --ctx-size");
      }
      held_.resize(header[2]);
      source(held_.data(), held_.size() * sizeof(std::int32_t));
      for (const std::int32_t id : held_) {
        if (id < 0 || id >= model_.config().vocab) refuse("a token is outside the vocabulary");
      }
      for (Mamba2State& m : state_.mamba) {
        source(m.conv.data(), m.conv.bytes());
        source(m.ssm.data(), m.ssm.bytes());
      }
      state_.kv.load(source);
      state_.tokens = static_cast<std::int64_t>(held_.size());
      if (model_.config().has(LayerKind::attention) && state_.kv.tokens() != state_.tokens) {
        refuse("its KV cache holds another number of tokens");
      }
    } catch (...) {
      reset();
      throw;
    }
  }

  [[nodiscard]] bool has_draft_head() const noexcept override { return model_.can_draft(); }

  void start_drafting() override {
    if (!model_.can_draft()) {
      throw Error(ErrorCode::unsupported,
                  "this model has no draft head (multi-token prediction): use --draft-lookup");
    }
    if (!state_.draft) model_.start_drafting(state_, capacity_);
  }

  [[nodiscard]] std::span<const float> draft(std::int32_t token) override {
    check({&token, 1}, {}, {});
    keep_nothing();
    if (!state_.draft || state_.draft->hidden.empty() ||
        state_.draft->slots + state_.draft->guesses == capacity_) {
      return {};
    }
    draft_logits_.resize(static_cast<std::size_t>(model_.config().vocab));
    model_.draft(compute_, state_, token, draft_logits_.data());
    return draft_logits_;
  }

  void fill_with_noise(std::int64_t tokens) override {
    const std::vector<std::int32_t> padding(
        static_cast<std::size_t>(std::max<std::int64_t>(0, tokens)), 0);
    check(padding, {}, {});
    keep_nothing();
    if (state_.draft) state_.draft->clear();
    model_.fill_with_noise(compute_, state_, tokens);
    held_.insert(held_.end(), padding.begin(), padding.end());
    has_logits_ = false;
  }

 private:
  ModelSession(const NemotronH<Cache>& model, const Kernels& kernels, int threads,
               std::int64_t capacity, typename NemotronH<Cache>::State state)
      : model_(model),
        compute_(kernels, threads),
        capacity_(capacity),
        state_(std::move(state)),
        logits_(static_cast<std::size_t>(model_.config().vocab)) {}

  using KvMark = decltype(std::declval<const Cache&>().mark());

  struct Saved final : Checkpoint {
    Saved(const ModelSession* session, KvMark mark, std::vector<Mamba2State> states,
          std::vector<std::int32_t> tokens)
        : owner(session), kv(std::move(mark)), mamba(std::move(states)), held(std::move(tokens)) {}
    [[nodiscard]] std::int64_t size() const noexcept override {
      return static_cast<std::int64_t>(held.size());
    }
    [[nodiscard]] std::size_t bytes() const noexcept override {
      std::size_t total = held.size() * sizeof(std::int32_t);
      for (const Mamba2State& m : mamba) total += m.bytes();
      return total;
    }
    const ModelSession* owner;
    KvMark kv;
    std::vector<Mamba2State> mamba;
    std::vector<std::int32_t> held;
    std::optional<typename DraftState<Cache>::Mark> draft{};
  };

  void check(std::span<const std::int32_t> tokens, std::span<const std::int64_t> positions,
             const FeedOptions& options) const {
    const auto total = static_cast<std::int64_t>(tokens.size());
    if (options.chunk_tokens < 1) throw Error(ErrorCode::usage, "chunk: must be at least 1 token");
    const std::int64_t room = capacity_ - state_.tokens;
    if (total > room) {
      throw Error(ErrorCode::capacity,
                  "context full: " + std::to_string(total) + " more tokens do not fit beside the " +
                      std::to_string(state_.tokens) + " held in a context of " +
                      std::to_string(capacity_) + "; use a larger --ctx-size");
    }
    const std::int64_t vocab = model_.config().vocab;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0 || tokens[i] >= vocab) {
        throw Error(ErrorCode::bad_input, "token " + std::to_string(tokens[i]) + " at position " +
                                              std::to_string(i) + " is outside the vocabulary of " +
                                              std::to_string(vocab));
      }
    }
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (positions[i] < 0 || positions[i] >= total ||
          (i > 0 && positions[i] <= positions[i - 1])) {
        throw Error(ErrorCode::bad_input,
                    "logit positions must ascend and lie among the fed tokens");
      }
    }
  }

  /// With `proceed` an error leaves the session as it was before the chunk.
  void run(std::span<const std::int32_t> chunk, std::span<const std::int64_t> wanted, float* out,
           const ProgressCallback& proceed) {
    const std::unique_ptr<Checkpoint> before = proceed ? save() : nullptr;
    compute_.proceed = proceed;
    try {
      model_.forward(compute_, state_, chunk, wanted, out);
    } catch (...) {
      // Some layers have advanced and others not.
      if (before) {
        restore(*before);
      } else {
        reset();
      }
      compute_.proceed = nullptr;
      throw;
    }
    compute_.proceed = nullptr;
    held_.insert(held_.end(), chunk.begin(), chunk.end());
  }

  void keep_nothing() {
    if (!state_.undecided.tokens.empty()) model_.keep(compute_, state_, 0);
  }

  // Chunks that take long enough to be interrupted, which costs a copy of the Mamba states.
  static constexpr std::int64_t kLongChunk = 64;

  // "nemoSes" and the version in the last byte.
  static constexpr std::uint64_t kMagic = std::uint64_t{1} << 56 | std::uint64_t{0x7365536f6d656e};

  /// A hash of the model's norms: small, and trained differently in every model.
  [[nodiscard]] std::uint64_t fingerprint() const {
    std::uint64_t hash = hash_bytes(std::as_bytes(std::span(model_.weights().final_norm)));
    for (const LayerWeights& layer : model_.weights().layers) {
      hash = hash_bytes(std::as_bytes(std::span(layer.norm)), hash);
    }
    return hash;
  }

  void cut(std::int64_t tokens) {
    state_.kv.truncate(tokens);
    state_.tokens = tokens;
    held_.resize(static_cast<std::size_t>(tokens));
    has_logits_ = false;
  }

  NemotronH<Cache> model_;
  Compute compute_;
  std::int64_t capacity_;
  typename NemotronH<Cache>::State state_;
  std::vector<std::int32_t> held_;
  AlignedBuffer<float> logits_;
  bool has_logits_ = false;
  std::vector<float> verified_;  // [tokens, vocab] of verify()
  std::vector<float> draft_logits_;
};

}  // namespace nemo
