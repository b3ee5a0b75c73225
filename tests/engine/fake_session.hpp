// A session without a model for tests: the logits are a function of the tokens held, and it checks
// that it is used as Session's contract says.
#pragma once

#include <nemo/base/error.hpp>
#include <nemo/engine/session.hpp>

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace nemo_test {

using Tokens = std::vector<std::int32_t>;

class FakeSession final : public nemo::Session {
 public:
  /// `next` names the token that gets the highest logit after the given ones.
  using Next = std::function<std::int32_t(const Tokens&)>;

  FakeSession(std::int64_t vocab, std::int64_t capacity, Next next)
      : capacity_(capacity), next_(std::move(next)), logits_(static_cast<std::size_t>(vocab)) {}

  void feed(std::span<const std::int32_t> tokens, const nemo::FeedOptions& options) override {
    const auto total = static_cast<std::int64_t>(tokens.size());
    if (std::cmp_greater(held_.size() + tokens.size(), capacity_)) {
      throw nemo::Error(nemo::ErrorCode::capacity, "context full");
    }
    ready_ = false;
    for (std::int64_t begin = 0; begin < total; begin += options.chunk_tokens) {
      const auto end = std::min(total, begin + options.chunk_tokens);
      if (fail_at_chunk > 0 && --fail_at_chunk == 0) {
        held_.clear();  // as a real session whose layers got out of step
        throw nemo::Error(nemo::ErrorCode::internal, "a chunk failed");
      }
      held_.insert(held_.end(), tokens.begin() + begin, tokens.begin() + end);
      fed += end - begin;
      if (options.progress &&
          !options.progress(static_cast<std::uint64_t>(end), static_cast<std::uint64_t>(total)) &&
          end < total) {
        throw nemo::Error(nemo::ErrorCode::cancelled, "cancelled");
      }
    }
    std::fill(logits_.begin(), logits_.end(), 0.0F);
    logits_[static_cast<std::size_t>(next_(held_))] = peak;
    ready_ = true;
  }

  void feed(std::span<const std::int32_t> tokens, std::span<const std::int64_t> positions,
            float* out, const nemo::FeedOptions& options) override {
    const auto vocab = static_cast<std::int64_t>(logits_.size());
    for (std::size_t i = 0, row = 0; i < tokens.size(); ++i) {
      feed(tokens.subspan(i, 1), options);
      if (row < positions.size() && std::cmp_equal(positions[row], i)) {
        std::copy(logits_.begin(), logits_.end(), out + static_cast<std::int64_t>(row++) * vocab);
      }
    }
  }

  [[nodiscard]] std::span<const float> logits() const noexcept override {
    return ready_ ? std::span<const float>(logits_) : std::span<const float>();
  }
  [[nodiscard]] std::span<const std::int32_t> tokens() const noexcept override { return held_; }
  [[nodiscard]] std::int64_t capacity() const noexcept override { return capacity_; }
  [[nodiscard]] std::size_t bytes() const noexcept override { return held_.size(); }

  [[nodiscard]] std::size_t kv_bytes() const noexcept override { return held_.size(); }
  [[nodiscard]] std::size_t kv_bytes_per_token() const noexcept override { return 1; }
  void fill_with_noise(std::int64_t tokens) override {
    held_.resize(held_.size() + static_cast<std::size_t>(tokens));
    ready_ = false;
  }

  [[nodiscard]] std::unique_ptr<Checkpoint> save() const override {
    return std::make_unique<Saved>(held_);
  }
  void restore(const Checkpoint& checkpoint) override {
    const auto& saved = dynamic_cast<const Saved&>(checkpoint);
    if (saved.held.size() > held_.size() ||
        !std::equal(saved.held.begin(), saved.held.end(), held_.begin())) {
      throw nemo::Error(nemo::ErrorCode::bad_input, "not a prefix");
    }
    held_ = saved.held;
    ready_ = false;
  }
  void reset() override {
    held_.clear();
    ready_ = false;
  }

  [[nodiscard]] std::span<const float> verify(std::span<const std::int32_t> tokens) override {
    const Tokens held = held_;
    open_.assign(tokens.begin(), tokens.end());
    verified_.clear();
    for (const std::int32_t token : tokens) {
      feed({&token, 1}, nemo::FeedOptions{});
      verified_.insert(verified_.end(), logits_.begin(), logits_.end());
    }
    held_ = held;
    ready_ = false;
    return verified_;
  }
  void keep(std::int64_t count) override {
    if (count == 0) return;
    const auto vocab = static_cast<std::int64_t>(logits_.size());
    held_.insert(held_.end(), open_.begin(), open_.begin() + count);
    std::copy_n(verified_.begin() + (count - 1) * vocab, vocab, logits_.begin());
    ready_ = true;
  }
  [[nodiscard]] bool has_draft_head() const noexcept override { return false; }
  void start_drafting() override {
    throw nemo::Error(nemo::ErrorCode::unsupported, "no draft head");
  }
  [[nodiscard]] std::span<const float> draft(std::int32_t) override { return {}; }
  [[nodiscard]] std::unique_ptr<Session> fork() const override {
    auto copy =
        std::make_unique<FakeSession>(static_cast<std::int64_t>(logits_.size()), capacity_, next_);
    copy->held_ = held_;
    return copy;
  }
  void write(const nemo::ByteSink& sink) const override {
    sink(held_.data(), held_.size() * sizeof(held_[0]));
  }
  void read(const nemo::ByteSource&) override {
    throw nemo::Error(nemo::ErrorCode::internal, "a fake session cannot be read");
  }

  float peak = 10.0F;     // the highest logit
  std::int64_t fed = 0;   // tokens evaluated so far
  int fail_at_chunk = 0;  // 1 = the next chunk throws

 private:
  struct Saved final : Checkpoint {
    explicit Saved(Tokens tokens) : held(std::move(tokens)) {}
    [[nodiscard]] std::int64_t size() const noexcept override {
      return static_cast<std::int64_t>(held.size());
    }
    [[nodiscard]] std::size_t bytes() const noexcept override { return held.size(); }
    Tokens held;
  };

  std::int64_t capacity_;
  Next next_;
  Tokens held_, open_;
  std::vector<float> logits_, verified_;
  bool ready_ = false;
};

}  // namespace nemo_test
