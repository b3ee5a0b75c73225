// nemo bench: prefill and decode speed at given depths, beside what the memory could deliver.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"

#include <nemo/base/machine.hpp>
#include <nemo/engine/benchmark.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>

namespace nemo::cli {
namespace {

struct BenchFlags {
  std::string model;
  LoadOptions load;
  BenchmarkOptions bench;
  bool json = false;
};

void run(const BenchFlags& flags) {
  LoadOptions load_options = flags.load;
  if (load_options.context == 0) {
    std::int64_t longest = 0;
    for (const std::int64_t d : flags.bench.depths) {
      for (const auto* list : {&flags.bench.prompt_tokens, &flags.bench.decode_tokens}) {
        for (const std::int64_t n : *list) longest = std::max(longest, d + n);
      }
    }
    load_options.context = std::max<std::int64_t>(longest, 1);
  }
  const std::shared_ptr<const Model> model = load(flags.model, load_options);
  const double bandwidth = measure_read_bandwidth(model->threads());
  const auto name = std::string(model->kernels().name);
  const auto kv = std::string(model->kv_policy());
  if (!flags.json) {
    std::printf("%s, %d threads, kernels %s, kv %s, read bandwidth %.1f GB/s\n",
                flags.model.c_str(), model->threads(), name.c_str(), kv.c_str(), bandwidth / 1e9);
    std::printf("%-10s %8s %12s %8s %8s %10s %10s\n", "test", "depth", "tok/s", "+-", "GB/s",
                "bandwidth", "peak RSS");
  }
  auto list = nlohmann::ordered_json::array();
  run_benchmark(*model, flags.bench, bandwidth, [&](const BenchmarkResult& r) {
    list.push_back({{"test", r.test},
                    {"depth", r.depth},
                    {"tok_s", r.tokens_per_second},
                    {"tok_s_sd", r.deviation},
                    {"gb_s", r.bytes_per_second / 1e9},
                    {"bandwidth_fraction", r.bandwidth_fraction},
                    {"rss_bytes", r.rss_bytes},
                    {"kv", kv},
                    {"kernels", name},
                    {"threads", model->threads()}});
    if (!flags.json) {
      std::printf("%-10s %8lld %12.2f %8.2f %8.2f %9.0f%% %7.2f GB\n", r.test.c_str(),
                  static_cast<long long>(r.depth), r.tokens_per_second, r.deviation,
                  r.bytes_per_second / 1e9, 100 * r.bandwidth_fraction,
                  static_cast<double>(r.rss_bytes) / 1e9);
      std::fflush(stdout);
    }
  });
  if (flags.json) std::printf("%s\n", list.dump(2).c_str());
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand("bench", "Measure prefill and decode speed");
  add_load_flags(*command, flags->model, flags->load);
  command->add_option("-p,--prompt-tokens", flags->bench.prompt_tokens, "Prefill tests, in tokens")
      ->delimiter(',');
  command->add_option("-n,--max-tokens", flags->bench.decode_tokens, "Decode tests, in tokens")
      ->delimiter(',');
  command->add_option("-d,--depth", flags->bench.depths, "Tokens already in the cache")
      ->delimiter(',');
  command->add_option("--chunk", flags->bench.chunk_tokens, "Tokens of a prefill step");
  command->add_option("--reps", flags->bench.repetitions, "Timed repetitions of each test");
  command->add_flag("--json", flags->json, "Print a JSON list");
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
