// Perplexity of a text by llama.cpp's definition: the text is cut into windows of n tokens (the
// rest is dropped), each evaluated on its own, and only the second half of a window is scored, so
// that every scored token has at least n/2 tokens before it. Texts shorter than one window are one
// window of which everything after the first token is scored.
//   nll_i = -log softmax(logits after token i)[token i+1];   ppl = exp(mean nll)
//   standard error of ppl = ppl * sqrt((mean nll^2 - mean^2) / (count - 1))
#pragma once

#include <nemo/engine/session.hpp>

#include <cstdint>
#include <optional>
#include <span>

namespace nemo {

struct PerplexityOptions {
  std::int64_t window = 512;        // tokens, at least 4 and at most the session's capacity
  std::optional<std::int32_t> bos;  // takes the place of the first token of every window
  std::int64_t chunk_tokens = 512;  // prefill granularity
  ProgressCallback progress;        // tokens evaluated of all; false cancels
};

struct PerplexityResult {
  double perplexity = 0.0;
  double standard_error = 0.0;  // 0 for a single scored token
  double mean_nll = 0.0;        // nats per token
  std::int64_t scored_tokens = 0;
  std::int64_t tokens = 0;  // evaluated
  std::int64_t windows = 0;
  double seconds = 0.0;
};

/// Resets `session` and uses it. Throws Error{usage} for a bad window, {bad_input} for fewer than
/// two tokens, {internal} for logits that are not numbers, {cancelled}, and what feed throws.
[[nodiscard]] PerplexityResult perplexity(Session& session, std::span<const std::int32_t> tokens,
                                          std::int64_t vocab,
                                          const PerplexityOptions& options = {});

}  // namespace nemo
