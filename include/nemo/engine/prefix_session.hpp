// A session that keeps what it has computed when prompts share a beginning: the next turn of a chat
// repeats the last one's prompt. The KV cache can be cut at any token but the Mamba state cannot,
// so states are saved at places where later prompts are likely to differ, and a new prompt starts
// from the longest saved state (or the present one) that is a prefix of it.
#pragma once

#include <nemo/engine/session.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace nemo {

class PrefixSession {
 public:
  /// Keeps at most `max_checkpoints` saved states, the latest ones; each holds the Mamba states
  /// (Session::Checkpoint::bytes()).
  explicit PrefixSession(std::unique_ptr<Session> session, std::size_t max_checkpoints = 4);

  [[nodiscard]] Session& session() noexcept { return *session_; }
  [[nodiscard]] const Session& session() const noexcept { return *session_; }

  /// Makes the session hold exactly `prompt`, with logits() for the token after it, and saves a
  /// state after each of `boundaries` (ascending token counts; those outside the prompt are
  /// ignored). Returns how many tokens were taken over instead of computed. The result is a fresh
  /// session's up to rounding: every kernel sees the same numbers, in other chunks. Throws
  /// Error{bad_input} for an empty prompt, {capacity} before anything changes when the prompt
  /// exceeds the context, and what Session::feed throws; the next call is right after any of them.
  std::int64_t feed(std::span<const std::int32_t> prompt,
                    std::span<const std::int64_t> boundaries = {}, const FeedOptions& options = {});

  /// Forgets everything.
  void reset();

 private:
  void drop_beyond(std::int64_t tokens);

  std::unique_ptr<Session> session_;
  std::size_t max_checkpoints_;
  std::vector<std::unique_ptr<Session::Checkpoint>> checkpoints_;  // ascending; prefixes of held
};

}  // namespace nemo
