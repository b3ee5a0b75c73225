// The generation loop.
#include <nemo/base/error.hpp>
#include <nemo/engine/generator.hpp>
#include <nemo/engine/stop_strings.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

namespace nemo {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

bool cancelled(const GenerateOptions& options) {
  return options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed);
}

void check(const text::Tokenizer& tokenizer, const GenerateOptions& options) {
  if (options.max_tokens < -1) {
    throw Error(ErrorCode::usage, "--max-tokens must be -1 (until the context is full) or more");
  }
  validate(options.sampling, tokenizer.vocab_size());
  validate(options.draft);
  (void)StopStrings(options.stop);
}

// Calls feed(FeedOptions) with a progress callback that also looks at the cancel flag, and times
// it; false when cancelled.
template <class Feed>
bool prefill(const GenerateOptions& options, GenerateResult& result, const Feed& feed) {
  const auto begin = Clock::now();
  bool ready = !cancelled(options);
  FeedOptions feed_options = options.feed;
  feed_options.progress = [&](std::uint64_t done, std::uint64_t total) {
    return (!options.feed.progress || options.feed.progress(done, total)) && !cancelled(options);
  };
  try {
    if (ready) feed(feed_options);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::cancelled) throw;
    ready = false;
  }
  result.prefill_seconds = seconds_since(begin);
  if (!ready) result.finish = FinishReason::cancelled;
  return ready;
}

// Generates from the logits that the session has.
void decode(Session& session, const text::Tokenizer& tokenizer, const GenerateOptions& options,
            const PieceCallback& callback, GenerateResult& result) {
  std::vector<std::int32_t> ends = options.end_tokens;
  ends.insert(ends.end(), tokenizer.end_tokens().begin(), tokenizer.end_tokens().end());
  if (options.ignore_end) ends.clear();
  Sampler sampler(options.sampling, ends, static_cast<std::int64_t>(session.logits().size()));
  result.seed = sampler.seed();
  for (const auto token : session.tokens()) sampler.accept(token);

  StopStrings stops(options.stop);
  text::StreamDecoder decoder(tokenizer, options.special);
  const auto hand_out = [&](const std::string& piece) {
    result.text += piece;
    return piece.empty() || !callback || callback(piece);
  };
  const auto begin = Clock::now();
  bool wanted = true;  // the callback wants more
  SpeculativeDecoder decoding(session, options.draft);
  for (;;) {
    const auto generated = static_cast<std::int64_t>(result.tokens.size());
    if (cancelled(options)) {
      result.finish = FinishReason::cancelled;
      break;
    }
    if (generated == options.max_tokens ||
        (generated > 0 && decoding.tokens() == session.capacity())) {
      result.finish = FinishReason::length;
      break;
    }
    if (generated > 0) {
      const std::int64_t most =
          options.max_tokens < 0 ? session.capacity() : options.max_tokens - generated - 1;
      decoding.advance(result.tokens.back(), {sampler, generated, ends, most});
    }
    const auto token = sampler.sample(decoding.logits(), generated);
    if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
      result.finish = FinishReason::stop;
      break;
    }
    sampler.accept(token);
    result.tokens.push_back(token);
    wanted = hand_out(stops.push(decoder.push(token)));
    if (!wanted || stops.stopped()) {
      result.finish = wanted ? FinishReason::stop_string : FinishReason::cancelled;
      break;
    }
  }
  decoding.finish();
  result.drafts = decoding.statistics();
  if (wanted && !stops.stopped()) {
    std::string rest = stops.push(decoder.flush());
    rest += stops.flush();
    (void)hand_out(rest);  // the end was decided before
  }
  result.decode_seconds = seconds_since(begin);
}

}  // namespace

std::string_view name(FinishReason reason) noexcept {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::stop_string:
      return "stop_string";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      break;
  }
  return "cancelled";
}

GenerateResult generate(Session& session, const text::Tokenizer& tokenizer,
                        std::span<const std::int32_t> prompt, const GenerateOptions& options,
                        const PieceCallback& callback) {
  check(tokenizer, options);
  GenerateResult result;
  result.reused_tokens = static_cast<std::int64_t>(session.tokens().size());
  result.prompt_tokens = result.reused_tokens + static_cast<std::int64_t>(prompt.size());
  if (result.prompt_tokens > session.capacity()) {
    throw Error(ErrorCode::capacity, "the prompt has " + std::to_string(result.prompt_tokens) +
                                         " tokens but the context holds " +
                                         std::to_string(session.capacity()) +
                                         ": shorten it or use a larger --ctx-size");
  }
  if (options.draft.mtp > 0) session.start_drafting();
  if (prompt.empty() && session.logits().empty()) {
    throw Error(ErrorCode::bad_input, "the prompt is empty: give at least one token");
  }
  const auto feed = [&](const FeedOptions& how) {
    if (!prompt.empty()) session.feed(prompt, how);
  };
  if (prefill(options, result, feed)) decode(session, tokenizer, options, callback, result);
  return result;
}

GenerateResult generate(PrefixSession& session, const text::Tokenizer& tokenizer,
                        std::span<const std::int32_t> prompt,
                        std::span<const std::int64_t> boundaries, const GenerateOptions& options,
                        const PieceCallback& callback) {
  check(tokenizer, options);
  GenerateResult result;
  result.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  if (options.draft.mtp > 0) session.session().start_drafting();
  const auto feed = [&](const FeedOptions& how) {
    result.reused_tokens = session.feed(prompt, boundaries, how);
  };
  if (prefill(options, result, feed)) {
    decode(session.session(), tokenizer, options, callback, result);
  }
  return result;
}

}  // namespace nemo
