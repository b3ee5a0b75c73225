// Speculative decoding: cheap guesses of the next tokens, checked by the model all at once.
//
//   draft d_1..d_n after token t;   verify t, d_1..d_n in one pass;   keep t and the d_i that
//   equal what is sampled after the token before them
//
// Sampling happens exactly as without drafts: from the same logits (Session::verify gives the bits
// of single steps), with the same penalties and the same random numbers. So the tokens are the
// same, whatever the guesses, greedy or not. The draft head's guesses are sampled too, from its own
// logits with the random number that will pick the real token: where both distributions agree, both
// pick the same token.
#pragma once

#include <nemo/engine/sampler.hpp>
#include <nemo/engine/session.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace nemo {

/// At most one of the two.
struct DraftOptions {
  std::int64_t mtp = 0;     // guesses by the model's draft head, up to 6; 0 = off
  std::int64_t lookup = 0;  // tokens copied from where the text repeats itself, up to 15; 0 = off
};

/// Throws Error{usage} that names the flag and its range.
void validate(const DraftOptions& options);

struct DraftStatistics {
  std::int64_t passes = 0;    // of the model, after the prompt's; 0 without drafting
  std::int64_t drafted = 0;   // guesses checked
  std::int64_t accepted = 0;  // of them right

  [[nodiscard]] double acceptance() const noexcept {
    return drafted > 0 ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0.0;
  }
  [[nodiscard]] double tokens_per_pass() const noexcept {
    return passes > 0 ? static_cast<double>(passes + accepted) / static_cast<double>(passes) : 0.0;
  }
};

/// What followed the last time that the end of `tokens` occurred in it, at most `count` tokens: the
/// latest place where the last 3 tokens occurred before, or else the last 2.
[[nodiscard]] std::span<const std::int32_t> lookup_draft(std::span<const std::int32_t> tokens,
                                                         std::int64_t count);

/// Gives the logits that a generation samples from, one token after the other.
class SpeculativeDecoder {
 public:
  /// What guessing must know of the generation.
  struct Context {
    const Sampler& sampler;              // has accepted all tokens, the one to advance by included
    std::int64_t generated;              // tokens so far
    std::span<const std::int32_t> ends;  // nothing is guessed from these on
    std::int64_t most;                   // guesses that can still be of use
  };

  /// Starts from what `session` holds and its logits(). For options.mtp it must be drafting.
  SpeculativeDecoder(Session& session, const DraftOptions& options);

  /// Appends a token; logits() are then those after it.
  void advance(std::int32_t token, const Context& context);
  [[nodiscard]] std::span<const float> logits() const noexcept { return logits_; }
  /// How many the session will hold after finish().
  [[nodiscard]] std::int64_t tokens() const noexcept;
  /// Leaves the session with exactly the tokens advanced by.
  void finish();
  [[nodiscard]] const DraftStatistics& statistics() const noexcept { return statistics_; }

 private:
  void guess(std::int32_t token, const Context& context);
  void guess_with_head(std::int32_t token, const Context& context, std::int64_t count);

  Session& session_;
  DraftOptions options_;
  std::vector<std::int32_t> batch_;  // what verify() saw: a certain token, then guesses
  std::size_t confirmed_ = 0;        // of batch_
  std::span<const float> rows_;      // [batch_, vocab]
  std::span<const float> logits_;
  std::optional<Sampler> sampler_;  // copy that the guesses are drawn with
  std::vector<std::int32_t> text_;  // all tokens, for lookups
  DraftStatistics statistics_;
};

}  // namespace nemo
