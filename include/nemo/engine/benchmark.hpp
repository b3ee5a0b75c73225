// Measures prefill and decode speed of a model, as tokens per second and as a share of what the
// memory can deliver.
#pragma once

#include <nemo/engine/model.hpp>
#include <nemo/engine/speculative.hpp>
#include <nemo/model/profile.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace nemo {

struct BenchmarkOptions {
  std::vector<std::int64_t> prompt_tokens = {512};  // one prefill test each
  std::vector<std::int64_t> decode_tokens = {64};   // one decode test each
  std::vector<std::int64_t> depths = {0};           // tokens already in the cache
  std::int64_t chunk_tokens = 1024;
  int repetitions = 5;
  bool profile = false;  // also say where the time went
  /// When on, each decode test is followed by one that guesses ahead, on greedy text after
  /// kDraftPrompt tokens.
  DraftOptions draft;
  static constexpr std::int64_t kDraftPrompt = 16;
};

struct BenchmarkResult {
  std::string test;  // "pp512", "tg64", "tg64 mtp3"
  std::int64_t depth = 0;
  std::vector<double> speeds;    // tokens per second of each timed repetition
  double tokens_per_second = 0;  // their mean
  double deviation = 0;          // their standard deviation
  /// Bytes that had to be read per second: weights once per chunk (routed experts by expectation),
  /// recurrent state once in and once out per step, keys and values once per step.
  double bytes_per_second = 0;
  /// Of plain reading between the repetitions, the mean: others who share a machine change it.
  double read_bytes_per_second = 0;
  double bandwidth_fraction = 0;  // bytes_per_second as a part of that
  std::int64_t kv_bytes = 0;      // allocated for keys and values at the end of the test
  std::int64_t rss_bytes = 0;     // peak resident memory of the process so far, with the 128 MiB
                                  // that are read in between
  /// Sums over all timed repetitions, which fed `profiled_tokens` tokens.
  Profile profile;
  std::int64_t profiled_tokens = 0;  // 0: not asked for
  DraftStatistics drafts;            // of decode tests with drafts
};

/// Runs every test at every depth; `report` sees each result as it is made. Repetitions of a test
/// take turns over the depths, so that repetition i of two depths saw nearly the same neighbours on
/// a shared machine and their difference is the depth's. An untimed repetition of each precedes
/// them. Throws Error{usage} for counts that make no sense, Error{capacity} when a test does not
/// fit the model's context.
std::vector<BenchmarkResult> run_benchmark(
    const Model& model, const BenchmarkOptions& options,
    const std::function<void(const BenchmarkResult&)>& report = {});

}  // namespace nemo
