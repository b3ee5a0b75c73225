// Timing prefill and decode on one session.
#include <nemo/base/error.hpp>
#include <nemo/base/machine.hpp>
#include <nemo/engine/benchmark.hpp>
#include <nemo/engine/sampler.hpp>
#include <nemo/model/traffic.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace nemo {
namespace {

double seconds_of(const std::function<void()>& job) {
  const auto start = std::chrono::steady_clock::now();
  job();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Ids spread over the vocabulary, so that routing and embedding rows vary as in real text.
std::vector<std::int32_t> spread_tokens(std::int64_t count, std::int64_t vocab) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  std::uint64_t x = 88172645463325252ULL;
  for (std::int32_t& t : tokens) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    t = static_cast<std::int32_t>(x % static_cast<std::uint64_t>(vocab));
  }
  return tokens;
}

void require_positive(const std::vector<std::int64_t>& values, const char* flag,
                      std::int64_t least) {
  for (const std::int64_t v : values) {
    if (v < least) {
      throw Error(ErrorCode::usage,
                  std::string(flag) + ": " + std::to_string(v) + " is not a number of tokens");
    }
  }
}

class Bench {
 public:
  Bench(const Model& model, const BenchmarkOptions& options)
      : model_(model), options_(options), session_(model.new_session()) {}

  BenchmarkResult prefill(std::int64_t tokens, std::int64_t depth) {
    const std::vector<std::int32_t> prompt = spread_tokens(tokens, model_.config().vocab);
    double bytes = 0;
    for (std::int64_t done = 0; done < tokens; done += options_.chunk_tokens) {
      const std::int64_t chunk = std::min(options_.chunk_tokens, tokens - done);
      bytes += static_cast<double>(prefill_weight_bytes(model_.weights(), chunk)) +
               step_bytes(depth + done);
    }
    return run("pp" + std::to_string(tokens), tokens, depth, bytes, [&] {
      session_->feed(prompt, {options_.chunk_tokens, {}, profile_});
    });
  }

  /// Greedy text after a short prompt, with guesses: their share of hits is the model's own. The
  /// bytes are those of plain decoding, so the bandwidth says what guessing saved.
  BenchmarkResult drafted(std::int64_t tokens, std::int64_t depth) {
    const DraftOptions& draft = options_.draft;
    const std::string kind = draft.mtp > 0 ? " mtp" + std::to_string(draft.mtp)
                                           : " lookup" + std::to_string(draft.lookup);
    const std::vector<std::int32_t> prompt = spread_tokens(kDraftPrompt, model_.config().vocab);
    SamplingOptions greedy;
    greedy.temperature = 0;
    const Sampler sampler(greedy, {}, model_.config().vocab);
    DraftStatistics sum;  // of the untimed repetition too: they are all the same
    const auto prepare = [&] { session_->feed(prompt); };
    const auto job = [&] {
      SpeculativeDecoder decoder(*session_, draft);
      for (std::int64_t i = 0; i < tokens; ++i) {
        const auto row = decoder.logits();
        const auto best = std::max_element(row.begin(), row.end()) - row.begin();
        decoder.advance(static_cast<std::int32_t>(best), {sampler, i, {}, tokens - i - 1});
      }
      decoder.finish();
      const DraftStatistics& d = decoder.statistics();
      sum = {sum.passes + d.passes, sum.drafted + d.drafted, sum.accepted + d.accepted};
    };
    if (draft.mtp > 0) session_->start_drafting();
    auto result = run("tg" + std::to_string(tokens) + kind, tokens, depth,
                      decode_bytes(tokens, depth + kDraftPrompt), job, prepare);
    result.drafts = sum;
    result.profiled_tokens = 0;       // passes that guess are not profiled
    session_ = model_.new_session();  // one whose steps do not feed the draft head
    return result;
  }

  BenchmarkResult decode(std::int64_t tokens, std::int64_t depth) {
    const std::vector<std::int32_t> ids = spread_tokens(tokens, model_.config().vocab);
    const double bytes = decode_bytes(tokens, depth);
    return run("tg" + std::to_string(tokens), tokens, depth, bytes, [&] {
      for (const std::int32_t id : ids) session_->feed({&id, 1}, {1, {}, profile_});
    });
  }

 private:
  static constexpr std::int64_t kDraftPrompt = BenchmarkOptions::kDraftPrompt;

  double decode_bytes(std::int64_t tokens, std::int64_t depth) {
    double bytes = 0;
    for (std::int64_t i = 0; i < tokens; ++i) {
      bytes += static_cast<double>(decode_weight_bytes(model_.weights())) + step_bytes(depth + i);
    }
    return bytes;
  }

  /// State and cache traffic of one forward call over `held` cached tokens.
  double step_bytes(std::int64_t held) {
    return static_cast<double>(state_traffic_bytes(model_.weights())) +
           static_cast<double>(kv_bytes_per_token_) * static_cast<double>(held);
  }

  BenchmarkResult run(std::string name, std::int64_t tokens, std::int64_t depth, double bytes,
                      const std::function<void()>& job, const std::function<void()>& prepare = {}) {
    session_->reset();
    session_->fill_with_noise(depth);
    const auto start = session_->save();
    BenchmarkResult result;
    std::vector<double> speeds;
    double read_speeds = 0;
    for (int i = -1; i < options_.repetitions; ++i) {
      read_speeds += memory_.bytes_per_second();
      session_->restore(*start);
      if (prepare) prepare();
      profile_ = options_.profile && i >= 0 ? &result.profile : nullptr;
      const double seconds = seconds_of(job);
      if (i >= 0) speeds.push_back(static_cast<double>(tokens) / seconds);
    }
    if (options_.profile) result.profiled_tokens = tokens * options_.repetitions;
    result.test = std::move(name);
    result.depth = depth;
    const auto n = static_cast<double>(speeds.size());
    result.tokens_per_second = std::accumulate(speeds.begin(), speeds.end(), 0.0) / n;
    double squares = 0;
    for (const double s : speeds)
      squares += (s - result.tokens_per_second) * (s - result.tokens_per_second);
    result.deviation = n > 1 ? std::sqrt(squares / (n - 1)) : 0;
    result.bytes_per_second = bytes / static_cast<double>(tokens) * result.tokens_per_second;
    result.read_bytes_per_second = read_speeds / (n + 1);
    result.bandwidth_fraction = result.bytes_per_second / result.read_bytes_per_second;
    result.kv_bytes = static_cast<std::int64_t>(session_->kv_bytes());
    result.rss_bytes = peak_resident_bytes();
    return result;
  }

  const Model& model_;
  const BenchmarkOptions& options_;
  ReadProbe memory_{model_.threads(), std::size_t{128} << 20};
  std::unique_ptr<Session> session_;
  std::size_t kv_bytes_per_token_ = session_->kv_bytes_per_token();
  Profile* profile_ = nullptr;  // of the repetition that runs
};

}  // namespace

std::vector<BenchmarkResult> run_benchmark(
    const Model& model, const BenchmarkOptions& options,
    const std::function<void(const BenchmarkResult&)>& report) {
  require_positive(options.prompt_tokens, "-p", 0);
  require_positive(options.decode_tokens, "-n", 0);
  require_positive(options.depths, "-d", 0);
  if (options.repetitions < 1) throw Error(ErrorCode::usage, "--reps: at least 1");
  validate(options.draft);
  const bool draft = options.draft.mtp > 0 || options.draft.lookup > 0;
  if (options.chunk_tokens < 1) throw Error(ErrorCode::usage, "--chunk: at least 1 token");
  Bench bench(model, options);
  std::vector<BenchmarkResult> results;
  const auto add = [&](BenchmarkResult result) {
    if (report) report(result);
    results.push_back(std::move(result));
  };
  for (const std::int64_t depth : options.depths) {
    for (const std::int64_t tokens : options.prompt_tokens) {
      if (tokens > 0) add(bench.prefill(tokens, depth));
    }
    for (const std::int64_t tokens : options.decode_tokens) {
      if (tokens == 0) continue;
      add(bench.decode(tokens, depth));
      if (draft) add(bench.drafted(tokens, depth));
    }
  }
  return results;
}

}  // namespace nemo
