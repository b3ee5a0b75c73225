// Guessing, checking, and taking back what was wrong.
#include <nemo/base/error.hpp>
#include <nemo/engine/speculative.hpp>

#include <algorithm>
#include <string>

namespace nemo {
namespace {

constexpr std::int64_t kMaxHeadDrafts = 6;
constexpr std::int64_t kMaxLookupDrafts = 15;

void require_range(const char* flag, std::int64_t value, std::int64_t most) {
  if (value >= 0 && value <= most) return;
  throw Error(ErrorCode::usage,
              std::string(flag) + " must be 0 (off) to " + std::to_string(most) + " tokens");
}

}  // namespace

void validate(const DraftOptions& options) {
  require_range("--draft-mtp", options.mtp, kMaxHeadDrafts);
  require_range("--draft-lookup", options.lookup, kMaxLookupDrafts);
  if (options.mtp > 0 && options.lookup > 0) {
    throw Error(ErrorCode::usage, "--draft-mtp and --draft-lookup exclude each other: give one");
  }
}

std::span<const std::int32_t> lookup_draft(std::span<const std::int32_t> tokens,
                                           std::int64_t count) {
  for (const std::size_t length : {std::size_t{3}, std::size_t{2}}) {
    if (tokens.size() <= length) continue;
    const auto end = tokens.last(length);
    // The occurrence must end before the last token, so that something follows it.
    const auto before = tokens.first(tokens.size() - 1);
    const auto found = std::find_end(before.begin(), before.end(), end.begin(), end.end());
    if (found == before.end()) continue;
    const auto next = static_cast<std::size_t>(found - before.begin()) + length;
    return tokens.subspan(next, std::min(static_cast<std::size_t>(count), tokens.size() - next));
  }
  return {};
}

SpeculativeDecoder::SpeculativeDecoder(Session& session, const DraftOptions& options)
    : session_(session), options_(options), logits_(session.logits()) {
  if (options_.lookup > 0) text_.assign(session.tokens().begin(), session.tokens().end());
}

std::int64_t SpeculativeDecoder::tokens() const noexcept {
  return static_cast<std::int64_t>(session_.tokens().size() + confirmed_);
}

void SpeculativeDecoder::finish() {
  if (batch_.empty()) return;
  session_.keep(static_cast<std::int64_t>(confirmed_));
  batch_.clear();
  confirmed_ = 0;
}

void SpeculativeDecoder::advance(std::int32_t token, const Context& context) {
  if (options_.lookup > 0) text_.push_back(token);
  const std::size_t vocab = logits_.size();
  if (confirmed_ < batch_.size() && batch_[confirmed_] == token) {
    logits_ = rows_.subspan(confirmed_ * vocab, vocab);
    ++confirmed_;
    ++statistics_.accepted;
    return;
  }
  finish();
  if (options_.mtp > 0 || options_.lookup > 0) ++statistics_.passes;
  batch_.assign(1, token);
  guess(token, context);
  if (batch_.size() == 1) {
    batch_.clear();
    session_.feed({&token, 1});
    logits_ = session_.logits();
    return;
  }
  statistics_.drafted += static_cast<std::int64_t>(batch_.size()) - 1;
  rows_ = session_.verify(batch_);
  confirmed_ = 1;
  logits_ = rows_.first(vocab);
}

void SpeculativeDecoder::guess(std::int32_t token, const Context& context) {
  const std::int64_t room =
      session_.capacity() - static_cast<std::int64_t>(session_.tokens().size()) - 1;
  const std::int64_t count =
      std::min({std::max(options_.mtp, options_.lookup), context.most, room});
  if (count <= 0) return;
  if (options_.mtp > 0) {
    guess_with_head(token, context, count);
    return;
  }
  for (const std::int32_t next : lookup_draft(text_, count)) {
    if (std::find(context.ends.begin(), context.ends.end(), next) != context.ends.end()) return;
    batch_.push_back(next);
  }
}

void SpeculativeDecoder::guess_with_head(std::int32_t token, const Context& context,
                                         std::int64_t count) {
  sampler_ = context.sampler;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::span<const float> logits = session_.draft(token);
    if (logits.empty()) return;
    token = sampler_->sample(logits, context.generated + i);
    if (std::find(context.ends.begin(), context.ends.end(), token) != context.ends.end()) return;
    sampler_->accept(token);
    batch_.push_back(token);
  }
}

}  // namespace nemo
