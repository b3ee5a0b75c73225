// Finding and keeping the states that a chat's next prompt can start from.
#include <nemo/base/error.hpp>
#include <nemo/engine/prefix_session.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace nemo {

PrefixSession::PrefixSession(std::unique_ptr<Session> session, std::size_t max_checkpoints)
    : session_(std::move(session)), max_checkpoints_(max_checkpoints) {}

void PrefixSession::reset() {
  checkpoints_.clear();
  session_->reset();
}

void PrefixSession::drop_beyond(std::int64_t tokens) {
  while (!checkpoints_.empty() && checkpoints_.back()->size() > tokens) checkpoints_.pop_back();
}

std::int64_t PrefixSession::feed(std::span<const std::int32_t> prompt,
                                 std::span<const std::int64_t> boundaries,
                                 const FeedOptions& options) {
  const auto total = static_cast<std::int64_t>(prompt.size());
  if (total == 0) throw Error(ErrorCode::bad_input, "the prompt is empty: give at least one token");
  if (total > session_->capacity()) {
    throw Error(ErrorCode::capacity, "the prompt has " + std::to_string(total) +
                                         " tokens but the context holds " +
                                         std::to_string(session_->capacity()) +
                                         ": shorten it or use a larger --ctx-size");
  }

  const auto held = session_->tokens();
  drop_beyond(static_cast<std::int64_t>(held.size()));

  // One token at least is always evaluated: it brings the logits.
  const auto agreement = std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end());
  const std::int64_t common = std::min(agreement.first - held.begin(), total - 1);
  std::int64_t start = static_cast<std::int64_t>(held.size());
  if (start > common) {
    drop_beyond(common);
    if (checkpoints_.empty()) {
      session_->reset();
    } else {
      session_->restore(*checkpoints_.back());
    }
    start = static_cast<std::int64_t>(session_->tokens().size());
  }

  FeedOptions part = options;
  std::int64_t done = start;
  const auto feed_to = [&](std::int64_t end) {
    if (options.progress) {
      part.progress = [&, begin = done](std::uint64_t fed, std::uint64_t) {
        return options.progress(static_cast<std::uint64_t>(begin - start) + fed,
                                static_cast<std::uint64_t>(total - start));
      };
    }
    session_->feed(
        prompt.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(end - done)), part);
    done = end;
  };
  for (const std::int64_t boundary : boundaries) {
    if (boundary <= done || boundary >= total || max_checkpoints_ == 0) continue;
    feed_to(boundary);
    if (checkpoints_.size() == max_checkpoints_) checkpoints_.erase(checkpoints_.begin());
    checkpoints_.push_back(session_->save());
  }
  feed_to(total);
  return start;
}

}  // namespace nemo
