// Perplexity over windows of a text.
#include <nemo/base/error.hpp>
#include <nemo/engine/perplexity.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace nemo {
namespace {

// -log softmax(logits)[token]
double negative_log_likelihood(std::span<const float> logits, std::int32_t token) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l - best));
  return std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(token)] - best);
}

}  // namespace

PerplexityResult perplexity(Session& session, std::span<const std::int32_t> tokens,
                            std::int64_t vocab, const PerplexityOptions& options) {
  if (options.window < 4) throw Error(ErrorCode::usage, "--ctx must be at least 4 tokens");
  if (options.window > session.capacity()) {
    throw Error(ErrorCode::usage, "--ctx " + std::to_string(options.window) +
                                      " exceeds the session's context of " +
                                      std::to_string(session.capacity()) + " tokens");
  }
  if (vocab < 1) throw Error(ErrorCode::usage, "perplexity needs the size of the vocabulary");
  if (tokens.size() < 2) {
    throw Error(ErrorCode::bad_input, "the text has " + std::to_string(tokens.size()) +
                                          " tokens: perplexity needs at least 2");
  }
  const auto total = static_cast<std::int64_t>(tokens.size());
  const std::int64_t window = std::min(options.window, total);
  const std::int64_t first = total < options.window ? 0 : window / 2;  // predicts first + 1
  // Rows of logits are asked for in batches of at most 64 MiB.
  const std::int64_t rows = std::clamp<std::int64_t>((std::int64_t{16} << 20) / vocab, 1, 512);
  std::vector<float> logits(static_cast<std::size_t>(std::min(rows, window) * vocab));
  std::vector<std::int64_t> positions;

  PerplexityResult result;
  result.windows = total / window;
  double sum = 0.0;
  double squares = 0.0;
  const auto begin = std::chrono::steady_clock::now();
  FeedOptions feed;
  feed.chunk_tokens = options.chunk_tokens;
  if (options.progress) {
    feed.progress = [&](std::uint64_t done, std::uint64_t) {
      return options.progress(static_cast<std::uint64_t>(result.tokens) + done,
                              static_cast<std::uint64_t>(result.windows * window));
    };
  }
  for (std::int64_t w = 0; w < result.windows; ++w) {
    std::vector<std::int32_t> text(tokens.begin() + w * window, tokens.begin() + (w + 1) * window);
    if (options.bos) text.front() = *options.bos;
    session.reset();
    const auto part = [&](std::int64_t from, std::int64_t to) {
      return std::span<const std::int32_t>(text).subspan(static_cast<std::size_t>(from),
                                                         static_cast<std::size_t>(to - from));
    };
    if (first > 0) session.feed(part(0, first), feed);
    result.tokens += first;
    for (std::int64_t at = first; at < window - 1;) {
      const std::int64_t count = std::min(rows, window - 1 - at);
      positions.resize(static_cast<std::size_t>(count));
      std::iota(positions.begin(), positions.end(), 0);
      session.feed(part(at, at + count), positions, logits.data(), feed);
      for (std::int64_t i = 0; i < count; ++i, ++at) {
        const double nll =
            negative_log_likelihood({logits.data() + i * vocab, static_cast<std::size_t>(vocab)},
                                    text[static_cast<std::size_t>(at + 1)]);
        if (!std::isfinite(nll)) {
          throw Error(ErrorCode::internal,
                      "the model computed logits that are not finite numbers "
                      "after token " +
                          std::to_string(w * window + at) + ": try --kernels reference");
        }
        sum += nll;
        squares += nll * nll;
        ++result.scored_tokens;
      }
      result.tokens += count;
    }
    ++result.tokens;  // the last token of a window is only predicted
  }
  const auto n = static_cast<double>(result.scored_tokens);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.mean_nll = sum / n;
  result.perplexity = std::exp(result.mean_nll);
  if (result.scored_tokens > 1) {
    const double variance = std::max(0.0, squares / n - result.mean_nll * result.mean_nll);
    result.standard_error = result.perplexity * std::sqrt(variance / (n - 1.0));
  }
  return result;
}

}  // namespace nemo
