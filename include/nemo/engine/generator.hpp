// The loop that turns logits into text: sample, look for an end, decode, hold back stop strings,
// hand out what is certain, feed the token, again.
#pragma once

#include <nemo/engine/prefix_session.hpp>
#include <nemo/engine/sampler.hpp>
#include <nemo/engine/session.hpp>
#include <nemo/engine/speculative.hpp>
#include <nemo/text/detokenizer.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

enum class FinishReason {
  stop,         // the model ended its answer
  stop_string,  // one of GenerateOptions::stop appeared
  length,       // max_tokens reached, or the context is full
  cancelled,    // the callback or the flag said so
};

/// "stop", "stop_string", "length", "cancelled".
[[nodiscard]] std::string_view name(FinishReason reason) noexcept;

/// Receives text as it becomes certain, in whole characters; returning false ends the generation.
using PieceCallback = std::function<bool(std::string_view piece)>;

struct GenerateOptions {
  SamplingOptions sampling;
  std::int64_t max_tokens = -1;          // -1: until the context is full
  std::vector<std::string> stop;         // searched in all generated text, reasoning included
  std::vector<std::int32_t> end_tokens;  // besides the tokenizer's own end tokens
  bool ignore_end = false;               // go on after end tokens (measurements)
  text::SpecialText special = text::SpecialText::tags_only;  // what the text shows of them
  FeedOptions feed;                                          // of the prompt
  DraftOptions draft;                                        // changes the speed and not one token
  const std::atomic<bool>* cancel = nullptr;  // looked at after every token and prompt chunk
};

struct GenerateResult {
  std::string text;                  // all that was handed out
  std::vector<std::int32_t> tokens;  // generated, without the end token
  FinishReason finish = FinishReason::stop;
  std::uint64_t seed = 0;          // what repeats this generation
  std::int64_t prompt_tokens = 0;  // of the whole prompt
  std::int64_t reused_tokens = 0;  // of it, not computed again
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  DraftStatistics drafts;
};

/// Feeds `prompt` after the tokens that `session` holds, then generates. `prompt` may be empty when
/// the session has logits already. Afterwards the session holds prompt and generated tokens, except
/// possibly the last one. Throws Error{capacity} before anything is computed when the prompt does
/// not fit, {bad_input} when there is nothing to continue from, {usage} for options outside their
/// range, and what Session::feed throws; cancelling is a FinishReason, not an error.
GenerateResult generate(Session& session, const text::Tokenizer& tokenizer,
                        std::span<const std::int32_t> prompt, const GenerateOptions& options = {},
                        const PieceCallback& callback = {});

/// The same from a whole prompt of which the session may have computed a part before; states are
/// saved at `boundaries` (PrefixSession::feed).
GenerateResult generate(PrefixSession& session, const text::Tokenizer& tokenizer,
                        std::span<const std::int32_t> prompt,
                        std::span<const std::int64_t> boundaries,
                        const GenerateOptions& options = {}, const PieceCallback& callback = {});

}  // namespace nemo
