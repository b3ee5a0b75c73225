// Runs sessions of several KV cache policies side by side and compares what they predict.
#include <nemo/base/error.hpp>
#include <nemo/eval/kv_quality.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace nemo::eval {
namespace {

// A tile of the quantized caches; see the header.
constexpr std::int64_t kChunk = 16;

/// log of the normaliser of softmax, and the place of the largest logit.
struct Row {
  Row(const float* values, std::int64_t count) : logits(values), vocab(count) {
    const float* largest = std::max_element(values, values + count);
    best = largest - values;
    double sum = 0;
    for (std::int64_t v = 0; v < count; ++v) sum += std::exp(double{values[v]} - double{*largest});
    log_sum = double{*largest} + std::log(sum);
    if (!std::isfinite(log_sum)) {
      throw Error(ErrorCode::internal, "kv: the model gave logits that are not finite");
    }
  }
  [[nodiscard]] double log_p(std::int64_t v) const { return double{logits[v]} - log_sum; }
  const float* logits;
  std::int64_t vocab;
  std::int64_t best;
  double log_sum;
};

double divergence(const Row& p, const Row& q) {
  double kl = 0;
  for (std::int64_t v = 0; v < p.vocab; ++v) {
    const double log_p = p.log_p(v);
    kl += std::exp(log_p) * (log_p - q.log_p(v));
  }
  return std::max(0.0, kl);  // rounding of equal rows
}

/// What one policy has shown so far.
struct Tally {
  std::vector<double> kl;
  std::int64_t agreed = 0;
  double nll = 0;
};

}  // namespace

Sequences text_windows(std::span<const std::int32_t> ids, std::int64_t window, std::int64_t most,
                       std::optional<std::int32_t> bos) {
  Sequences sequences;
  const auto size = static_cast<std::size_t>(
      std::clamp<std::int64_t>(window, 0, static_cast<std::int64_t>(ids.size())));
  if (size == 0) return sequences;
  for (std::size_t at = 0; at + size <= ids.size(); at += size) {
    if (std::cmp_equal(sequences.size(), most)) break;
    Sequence& sequence = sequences.emplace_back();
    sequence.tokens.assign(ids.begin() + static_cast<std::ptrdiff_t>(at),
                           ids.begin() + static_cast<std::ptrdiff_t>(at + size));
    if (bos) sequence.tokens[0] = *bos;
    for (std::size_t i = size / 2; i + 1 < size; ++i) {
      sequence.scored.push_back(static_cast<std::int64_t>(i));
    }
  }
  return sequences;
}

Sequences task_conversations(const std::shared_ptr<const Model>& model, std::int64_t count,
                             std::uint64_t seed, const ProgressCallback& progress) {
  constexpr std::array kTasks = {"recall", "arithmetic", "hashhop", "format"};
  std::vector<std::vector<Case>> pools;
  for (const char* task : kTasks) {
    pools.push_back(make_cases(task, seed, static_cast<int>(count) / 4 + 1));
  }
  Sequences sequences;
  ChatOptions options;
  options.generate.sampling.temperature = 0.0F;
  Chat chat(model, options);
  for (std::int64_t s = 0; s < count; ++s) {
    const Case& item =
        pools[static_cast<std::size_t>(s) % kTasks.size()][static_cast<std::size_t>(s) / 4];
    chat.reset();
    chat.thinking(item.thinking);
    chat.generate_options().max_tokens = item.max_tokens;
    const std::int64_t prompt = chat.say(item.prompt).generation.prompt_tokens;
    const auto tokens = chat.session().tokens();
    Sequence& sequence = sequences.emplace_back();
    sequence.tokens.assign(tokens.begin(), tokens.end());
    for (std::int64_t i = prompt - 1; std::cmp_less(i + 1, tokens.size()); ++i) {
      sequence.scored.push_back(i);
    }
    if (progress &&
        !progress(static_cast<std::uint64_t>(s + 1), static_cast<std::uint64_t>(count))) {
      throw Error(ErrorCode::cancelled, "kv: cancelled");
    }
  }
  return sequences;
}

std::vector<KvQuality> compare_logits(const Model& fp16,
                                      std::span<const std::shared_ptr<const Model>> policies,
                                      const Sequences& sequences,
                                      const ProgressCallback& progress) {
  const std::int64_t vocab = fp16.config().vocab;
  std::uint64_t total = 0;
  for (const Sequence& sequence : sequences) total += sequence.tokens.size();
  const auto reference = fp16.new_session();
  std::vector<std::unique_ptr<Session>> sessions;
  for (const auto& model : policies) sessions.push_back(model->new_session());
  std::vector<Tally> tallies(policies.size());
  std::vector<float> expected(static_cast<std::size_t>(kChunk * vocab)), got(expected.size());
  std::vector<std::int64_t> positions;
  std::uint64_t done = 0;
  for (const Sequence& sequence : sequences) {
    const auto size = static_cast<std::int64_t>(sequence.tokens.size());
    std::size_t next = 0;  // position to score
    reference->reset();
    for (const auto& session : sessions) session->reset();
    for (std::int64_t begin = 0; begin < size; begin += kChunk) {
      const std::span chunk(sequence.tokens.data() + begin,
                            static_cast<std::size_t>(std::min(kChunk, size - begin)));
      const auto count = static_cast<std::int64_t>(chunk.size());
      positions.clear();
      for (; next < sequence.scored.size() && sequence.scored[next] < begin + count; ++next) {
        positions.push_back(sequence.scored[next] - begin);
      }
      reference->feed(chunk, positions, expected.data());
      std::vector<Row> rows;
      for (std::size_t i = 0; i < positions.size(); ++i) {
        rows.emplace_back(expected.data() + static_cast<std::int64_t>(i) * vocab, vocab);
      }
      for (std::size_t s = 0; s < sessions.size(); ++s) {
        sessions[s]->feed(chunk, positions, got.data());
        for (std::size_t i = 0; i < positions.size(); ++i) {
          const Row row(got.data() + static_cast<std::int64_t>(i) * vocab, vocab);
          Tally& tally = tallies[s];
          tally.kl.push_back(divergence(rows[i], row));
          tally.agreed += row.best == rows[i].best ? 1 : 0;
          tally.nll -=
              row.log_p(sequence.tokens[static_cast<std::size_t>(begin + positions[i] + 1)]);
        }
      }
      done += chunk.size();
      if (progress && !progress(done, total)) throw Error(ErrorCode::cancelled, "kv: cancelled");
    }
  }
  std::vector<KvQuality> results;
  for (std::size_t s = 0; s < sessions.size(); ++s) {
    Tally& tally = tallies[s];
    if (tally.kl.empty()) {
      throw Error(ErrorCode::bad_input, "kv: the text has too few tokens to score");
    }
    const auto n = static_cast<double>(tally.kl.size());
    KvQuality r;
    r.kv = policies[s]->kv_policy();
    r.bytes_per_token = static_cast<double>(sessions[s]->kv_bytes_per_token());
    r.kl_mean = std::accumulate(tally.kl.begin(), tally.kl.end(), 0.0) / n;
    const auto rank = static_cast<std::ptrdiff_t>(std::ceil(0.99 * n)) - 1;
    std::nth_element(tally.kl.begin(), tally.kl.begin() + rank, tally.kl.end());
    r.kl_p99 = tally.kl[static_cast<std::size_t>(rank)];
    r.top1 = static_cast<double>(tally.agreed) / n;
    r.perplexity = std::exp(tally.nll / n);
    r.scored_tokens = static_cast<std::int64_t>(tally.kl.size());
    results.push_back(std::move(r));
  }
  return results;
}

double answer_cases(const std::shared_ptr<const Model>& model, std::span<const Case> cases,
                    std::optional<bool> thinking,
                    const std::function<void(const Case&, const ChatReply&, bool)>& on_answer) {
  if (cases.empty()) return 0.0;
  ChatOptions options;
  options.generate.sampling.temperature = 0.0F;
  Chat chat(model, options);
  std::size_t correct = 0;
  for (const Case& item : cases) {
    chat.reset();
    chat.thinking(thinking.value_or(item.thinking));
    chat.generate_options().max_tokens = item.max_tokens;
    const ChatReply reply = chat.say(item.prompt);
    const bool right = is_correct(item, reply.content);
    correct += right ? 1 : 0;
    if (on_answer) on_answer(item, reply, right);
  }
  return static_cast<double>(correct) / static_cast<double>(cases.size());
}

}  // namespace nemo::eval
