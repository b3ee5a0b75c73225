// What a KV cache policy costs in quality: the logits of sessions that differ in nothing but their
// policy, and the answers to tasks.
//
//   KL_t = sum_v p_t(v) log(p_t(v) / p'_t(v))        p: fp16, p': the policy, after token t
//
// Sequences are fed 16 tokens at a time: quantized caches read the incomplete tile of 16 tokens and
// the present chunk as computed, so every token sees just what it would see when decoding one by
// one. Of a text the second half of a window is scored, so that quantized tokens lie behind every
// scored one; of a conversation what the model itself says: it was not trained to predict users.
#pragma once

#include <nemo/base/progress.hpp>
#include <nemo/engine/chat.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/eval/tasks.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace nemo::eval {

struct KvQuality {
  std::string kv;              // the policy's name
  double bytes_per_token = 0;  // of a late token, over all attention layers
  double kl_mean = 0;          // nats
  double kl_p99 = 0;           // nearest rank
  double top1 = 0;             // share of scored tokens whose likeliest next token is fp16's
  double perplexity = 0;
  std::int64_t scored_tokens = 0;
  std::vector<std::pair<std::string, double>> tasks;  // share of right answers
};

struct Sequence {
  std::vector<std::int32_t> tokens;
  std::vector<std::int64_t> scored;  // ascending; a position counts by what it says comes next
};
using Sequences = std::vector<Sequence>;

/// Windows of `window` tokens of a text's ids (the rest is dropped; a shorter text is one window),
/// at most `most` of them; `bos` takes the place of the first token of each.
[[nodiscard]] Sequences text_windows(std::span<const std::int32_t> ids, std::int64_t window,
                                     std::int64_t most, std::optional<std::int32_t> bos);

/// `count` questions of the tasks, one task after the other, with the model's own greedy answers,
/// which are what is scored. Deterministic.
[[nodiscard]] Sequences task_conversations(const std::shared_ptr<const Model>& model,
                                           std::int64_t count, std::uint64_t seed,
                                           const ProgressCallback& progress = {});

/// Scores every policy's model against `fp16`, one result each. Throws Error{bad_input} when there
/// is nothing to score, {cancelled}, and what Session::feed throws.
[[nodiscard]] std::vector<KvQuality> compare_logits(
    const Model& fp16, std::span<const std::shared_ptr<const Model>> policies,
    const Sequences& sequences, const ProgressCallback& progress = {});

/// Share of right answers, greedily. `thinking`: the mode; nothing: what each case is meant for.
/// `on_answer` sees every case and its reply.
[[nodiscard]] double answer_cases(
    const std::shared_ptr<const Model>& model, std::span<const Case> cases,
    std::optional<bool> thinking,
    const std::function<void(const Case&, const ChatReply&, bool)>& on_answer = {});

/// A picture of mean KL (logarithmic) against bytes per token.
[[nodiscard]] std::string quality_svg(std::span<const KvQuality> results);

}  // namespace nemo::eval
