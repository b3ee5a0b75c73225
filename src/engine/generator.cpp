// The generation loop.
#include <nemo/base/error.hpp>
#include <nemo/engine/generator.hpp>
#include <nemo/engine/stop_strings.hpp>

#include <algorithm>
#include <chrono>

namespace nemo {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

bool cancelled(const GenerateOptions& options) {
  return options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed);
}

void check(const Session& session, const text::Tokenizer& tokenizer,
           std::span<const std::int32_t> prompt, const GenerateOptions& options) {
  if (options.max_tokens < -1) {
    throw Error(ErrorCode::usage, "--max-tokens must be -1 (until the context is full) or more");
  }
  validate(options.sampling, tokenizer.vocab_size());
  const auto held = static_cast<std::int64_t>(session.tokens().size());
  const auto total = held + static_cast<std::int64_t>(prompt.size());
  if (total > session.capacity()) {
    throw Error(ErrorCode::capacity,
                "the prompt has " + std::to_string(total) + " tokens but the context holds " +
                    std::to_string(session.capacity()) + ": shorten it or use a larger --ctx-size");
  }
  if (prompt.empty() && session.logits().empty()) {
    throw Error(ErrorCode::bad_input, "the prompt is empty: give at least one token");
  }
}

// Feeds the prompt; false when cancelled on the way.
bool prefill(Session& session, std::span<const std::int32_t> prompt,
             const GenerateOptions& options) {
  if (prompt.empty()) return true;
  FeedOptions feed = options.feed;
  feed.progress = [&](std::uint64_t done, std::uint64_t total) {
    return (!options.feed.progress || options.feed.progress(done, total)) && !cancelled(options);
  };
  try {
    session.feed(prompt, feed);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::cancelled) throw;
    return false;
  }
  return true;
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
  check(session, tokenizer, prompt, options);
  StopStrings stops(options.stop);
  GenerateResult result;
  result.reused_tokens = static_cast<std::int64_t>(session.tokens().size());
  result.prompt_tokens = result.reused_tokens + static_cast<std::int64_t>(prompt.size());

  const auto prefill_begin = Clock::now();
  const bool ready = !cancelled(options) && prefill(session, prompt, options);
  result.prefill_seconds = seconds_since(prefill_begin);
  if (!ready) {
    result.finish = FinishReason::cancelled;
    return result;
  }

  std::vector<std::int32_t> ends = options.end_tokens;
  ends.insert(ends.end(), tokenizer.end_tokens().begin(), tokenizer.end_tokens().end());
  if (options.ignore_end) ends.clear();
  Sampler sampler(options.sampling, ends, static_cast<std::int64_t>(session.logits().size()));
  result.seed = sampler.seed();
  for (const auto token : session.tokens()) sampler.accept(token);

  text::StreamDecoder decoder(tokenizer, options.special);
  const auto hand_out = [&](const std::string& piece) {
    result.text += piece;
    return piece.empty() || !callback || callback(piece);
  };
  const auto decode_begin = Clock::now();
  bool wanted = true;  // the callback wants more
  for (;;) {
    if (cancelled(options)) {
      result.finish = FinishReason::cancelled;
      break;
    }
    const auto generated = static_cast<std::int64_t>(result.tokens.size());
    if (generated == options.max_tokens) {
      result.finish = FinishReason::length;
      break;
    }
    if (generated > 0) {
      if (std::cmp_equal(session.tokens().size(), session.capacity())) {
        result.finish = FinishReason::length;
        break;
      }
      session.feed({&result.tokens.back(), 1});
    }
    const auto token = sampler.sample(session.logits(), generated);
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
  if (wanted && !stops.stopped()) {
    std::string rest = stops.push(decoder.flush());
    rest += stops.flush();
    if (!hand_out(rest) && result.finish == FinishReason::length) {
      result.finish = FinishReason::cancelled;
    }
  }
  result.decode_seconds = seconds_since(decode_begin);
  return result;
}

}  // namespace nemo
