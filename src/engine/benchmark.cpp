// Timing prefill and decode, on one session for each depth.
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
      : model_(model),
        options_(options),
        kv_bytes_per_token_(model.new_session()->kv_bytes_per_token()) {}

  std::vector<BenchmarkResult> prefill(std::int64_t tokens) {
    const std::vector<std::int32_t> prompt = spread_tokens(tokens, model_.config().vocab);
    const auto bytes_at = [&](std::int64_t depth) {
      double bytes = 0;
      for (std::int64_t done = 0; done < tokens; done += options_.chunk_tokens) {
        const std::int64_t chunk = std::min(options_.chunk_tokens, tokens - done);
        bytes += static_cast<double>(prefill_weight_bytes(model_.weights(), chunk)) +
                 step_bytes(depth + done);
      }
      return bytes;
    };
    return run({"pp" + std::to_string(tokens), tokens, bytes_at, [&](Session& session) {
                  session.feed(prompt, {options_.chunk_tokens, {}, profile_});
                }});
  }

  /// Greedy text after a short prompt, with guesses: their share of hits is the model's own. The
  /// bytes are those of plain decoding, so the bandwidth says what guessing saved.
  std::vector<BenchmarkResult> drafted(std::int64_t tokens) {
    const DraftOptions& draft = options_.draft;
    const std::string kind = draft.mtp > 0 ? " mtp" + std::to_string(draft.mtp)
                                           : " lookup" + std::to_string(draft.lookup);
    const std::vector<std::int32_t> prompt = spread_tokens(kDraftPrompt, model_.config().vocab);
    SamplingOptions greedy;
    greedy.temperature = 0;
    const Sampler sampler(greedy, {}, model_.config().vocab);
    const auto bytes_at = [&](std::int64_t depth) {
      return decode_bytes(tokens, depth + kDraftPrompt);
    };
    const auto job = [&](Session& session) {
      SpeculativeDecoder decoder(session, draft);
      for (std::int64_t i = 0; i < tokens; ++i) {
        const auto row = decoder.logits();
        const auto best = std::max_element(row.begin(), row.end()) - row.begin();
        decoder.advance(static_cast<std::int32_t>(best), {sampler, i, {}, tokens - i - 1});
      }
      decoder.finish();
      const DraftStatistics& d = decoder.statistics();
      drafts_ = {drafts_.passes + d.passes, drafts_.drafted + d.drafted,
                 drafts_.accepted + d.accepted};
    };
    auto results = run({"tg" + std::to_string(tokens) + kind, tokens, bytes_at, job,
                        [&](Session& session) { session.feed(prompt); }, draft.mtp > 0});
    for (BenchmarkResult& r : results) r.profiled_tokens = 0;  // passes that guess are not profiled
    return results;
  }

  std::vector<BenchmarkResult> decode(std::int64_t tokens) {
    const std::vector<std::int32_t> ids = spread_tokens(tokens, model_.config().vocab);
    const auto bytes_at = [&](std::int64_t depth) { return decode_bytes(tokens, depth); };
    return run({"tg" + std::to_string(tokens), tokens, bytes_at, [&](Session& session) {
                  for (const std::int32_t id : ids) session.feed({&id, 1}, {1, {}, profile_});
                }});
  }

 private:
  static constexpr std::int64_t kDraftPrompt = BenchmarkOptions::kDraftPrompt;

  struct Test {
    std::string name;
    std::int64_t tokens;
    std::function<double(std::int64_t)> bytes_at;  // what the test reads at a depth
    std::function<void(Session&)> job;
    std::function<void(Session&)> prepare = {};  // untimed, before each job
    bool drafting = false;                       // whether steps feed the draft head too
  };

  struct Start {
    std::unique_ptr<Session> session;
    std::unique_ptr<Session::Checkpoint> held;
  };

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

  /// One result for each depth. Repetitions take turns over the depths.
  std::vector<BenchmarkResult> run(const Test& test) {
    std::vector<Start> starts;
    std::vector<BenchmarkResult> results;
    for (const std::int64_t depth : options_.depths) {
      auto session = model_.new_session();
      if (test.drafting) session->start_drafting();
      session->fill_with_noise(depth);
      auto held = session->save();
      starts.push_back({std::move(session), std::move(held)});
      results.emplace_back().depth = depth;
    }
    for (int i = -1; i < options_.repetitions; ++i) {
      for (std::size_t d = 0; d < starts.size(); ++d) repeat(test, starts[d], i >= 0, results[d]);
    }
    for (BenchmarkResult& result : results) {
      result.test = test.name;
      summarize(result, test.bytes_at(result.depth) / static_cast<double>(test.tokens));
      if (options_.profile) result.profiled_tokens = test.tokens * options_.repetitions;
    }
    return results;
  }

  void repeat(const Test& test, Start& start, bool timed, BenchmarkResult& result) {
    result.read_bytes_per_second += memory_.bytes_per_second();  // their sum, until summarize
    Session& session = *start.session;
    session.restore(*start.held);
    if (test.prepare) test.prepare(session);
    profile_ = options_.profile && timed ? &result.profile : nullptr;
    drafts_ = {};
    const double seconds = seconds_of([&] { test.job(session); });
    if (timed) result.speeds.push_back(static_cast<double>(test.tokens) / seconds);
    result.drafts = {result.drafts.passes + drafts_.passes, result.drafts.drafted + drafts_.drafted,
                     result.drafts.accepted + drafts_.accepted};
    result.kv_bytes = static_cast<std::int64_t>(session.kv_bytes());
    result.rss_bytes = peak_resident_bytes();
  }

  void summarize(BenchmarkResult& r, double bytes_per_token) {
    const auto n = static_cast<double>(r.speeds.size());
    r.tokens_per_second = std::accumulate(r.speeds.begin(), r.speeds.end(), 0.0) / n;
    double squares = 0;
    for (const double s : r.speeds) {
      squares += (s - r.tokens_per_second) * (s - r.tokens_per_second);
    }
    r.deviation = n > 1 ? std::sqrt(squares / (n - 1)) : 0;
    r.bytes_per_second = bytes_per_token * r.tokens_per_second;
    r.read_bytes_per_second /= n + 1;
    r.bandwidth_fraction = r.bytes_per_second / r.read_bytes_per_second;
  }

  const Model& model_;
  const BenchmarkOptions& options_;
  ReadProbe memory_{model_.threads(), std::size_t{128} << 20};
  std::size_t kv_bytes_per_token_;
  Profile* profile_ = nullptr;  // of the repetition that runs
  DraftStatistics drafts_;      // likewise
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
  const auto add = [&](std::vector<BenchmarkResult> of_depths) {
    for (BenchmarkResult& result : of_depths) {
      if (report) report(result);
      results.push_back(std::move(result));
    }
  };
  for (const std::int64_t tokens : options.prompt_tokens) {
    if (tokens > 0) add(bench.prefill(tokens));
  }
  for (const std::int64_t tokens : options.decode_tokens) {
    if (tokens == 0) continue;
    add(bench.decode(tokens));
    if (draft) add(bench.drafted(tokens));
  }
  return results;
}

}  // namespace nemo
