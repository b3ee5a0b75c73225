// One conversation's memory on a shared model: KV cache, Mamba states and the tokens they hold.
#pragma once

#include <nemo/base/byte_stream.hpp>
#include <nemo/base/progress.hpp>
#include <nemo/model/profile.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace nemo {

struct FeedOptions {
  std::int64_t chunk_tokens = 1024;  // prefill granularity; changes rounding only
  ProgressCallback progress;   // (tokens done, tokens total), of long chunks after each layer too
  Profile* profile = nullptr;  // collects where the time went; null: not measured
};

/// What a session looks like whatever its KV policy. Not thread-safe itself; any number of sessions
/// may run on one model from different threads.
class Session {
 public:
  /// The state after some number of tokens, to come back to (the Mamba state cannot be cut).
  class Checkpoint {
   public:
    virtual ~Checkpoint() = default;
    [[nodiscard]] virtual std::int64_t size() const noexcept = 0;  // tokens it stands after
    [[nodiscard]] virtual std::size_t bytes() const noexcept = 0;
  };

  virtual ~Session() = default;

  /// Evaluates tokens after those already held; logits() then predicts the token after the last.
  /// Throws Error{capacity} when the context is full, {bad_input} for ids outside the vocabulary,
  /// {cancelled} when the callback says so; in each case the session still holds exactly the
  /// tokens it held before, plus the chunks that completed when cancelled.
  virtual void feed(std::span<const std::int32_t> tokens, const FeedOptions& options = {}) = 0;

  /// As feed, and writes the logits after each tokens[positions[i]] (ascending) to
  /// out[i * vocab .. ).
  virtual void feed(std::span<const std::int32_t> tokens, std::span<const std::int64_t> positions,
                    float* out, const FeedOptions& options = {}) = 0;

  /// [vocab]; valid after a feed, until the next call.
  [[nodiscard]] virtual std::span<const float> logits() const noexcept = 0;

  [[nodiscard]] virtual std::span<const std::int32_t> tokens() const noexcept = 0;
  [[nodiscard]] virtual std::int64_t capacity() const noexcept = 0;  // context length in tokens
  [[nodiscard]] virtual std::size_t bytes() const noexcept = 0;      // KV and state memory now held

  /// What is allocated for keys and values now (half or full precision: what has been written).
  [[nodiscard]] virtual std::size_t kv_bytes() const noexcept = 0;
  /// What a late token takes, over all layers; the first ones may be stored with more bits.
  [[nodiscard]] virtual std::size_t kv_bytes_per_token() const noexcept = 0;

  [[nodiscard]] virtual std::unique_ptr<Checkpoint> save() const = 0;
  /// Back to the moment of save(). The checkpoint must be of this session and its tokens a prefix
  /// of the held ones. logits() is empty until the next feed.
  virtual void restore(const Checkpoint& checkpoint) = 0;
  virtual void reset() = 0;

  /// The logits after each of `tokens` [tokens, vocab], bit by bit what feeding them one by one
  /// would give, at about the price of one when they are few. How many of them the session will
  /// hold is for keep() to say, which must be the next call; any other one takes them all back.
  /// Throws as feed().
  [[nodiscard]] virtual std::span<const float> verify(std::span<const std::int32_t> tokens) = 0;
  /// Holds the first `count` of verify()'s tokens, as if they had been fed.
  virtual void keep(std::int64_t count) = 0;

  /// Whether the model has a draft head (multi-token prediction).
  [[nodiscard]] virtual bool has_draft_head() const noexcept = 0;
  /// From here on the draft head follows what is fed and kept; costs a few percent of a feed.
  /// Throws Error{unsupported} when there is none.
  virtual void start_drafting() = 0;
  /// The logits the draft head expects after `token`, which follows the tokens held or, in further
  /// calls, the token of the last one. Empty when the head has not seen the last token held. Valid
  /// until the next call of anything.
  [[nodiscard]] virtual std::span<const float> draft(std::int32_t token) = 0;
  /// A second session with the same content; both go on by themselves. Quantized caches share what
  /// they hold until one of them writes there. logits() is empty until the next feed.
  [[nodiscard]] virtual std::unique_ptr<Session> fork() const = 0;
  /// All it holds as bytes, and back into a session of the same model and KV policy: what follows
  /// has the same bits. read() throws Error{bad_file} for anything else and then holds nothing.
  virtual void write(const ByteSink& sink) const = 0;
  virtual void read(const ByteSource& source) = 0;

  /// For speed measurement only: appends `tokens` positions whose keys and values are noise, so
  /// that decoding at depth can be timed without computing a prompt of that depth.
  virtual void fill_with_noise(std::int64_t tokens) = 0;
};

}  // namespace nemo
