// nemo synth: writes a checkpoint of a published shape with random weights.
#include "src/cli/commands.hpp"
#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/checkpoint/synth.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <omp.h>

namespace nemo::cli {
namespace {

struct SynthFlags {
  std::string arch;
  std::string out;
  std::int64_t layers = 0;
  bool force = false;
  SynthOptions options;
};

std::atomic<bool> g_interrupted{false};

/// While it lives, Ctrl-C only asks; the writer then removes its unfinished file.
class InterruptGuard {
 public:
  InterruptGuard() : before_(std::signal(SIGINT, [](int) { g_interrupted = true; })) {}
  ~InterruptGuard() { std::signal(SIGINT, before_); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  void (*before_)(int);
};

void run(SynthFlags& flags) {
  const ModelConfig config = synth_config(flags.arch, flags.layers);
  std::error_code ignored;
  if (!flags.force && std::filesystem::exists(flags.out, ignored)) {
    throw Error(ErrorCode::io, "'" + flags.out + "' exists; use --force to replace it");
  }
  SynthOptions options = flags.options;
  if (options.threads <= 0) options.threads = omp_get_max_threads();
  const auto start = std::chrono::steady_clock::now();
  {
    const InterruptGuard guard;
    ProgressBar bar("writing " + flags.out, "bytes");
    options.progress = [&bar](std::uint64_t done, std::uint64_t total) {
      bar.update(done, total);
      return !g_interrupted;
    };
    write_synthetic_gguf(flags.out, config, options);
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(flags.out));
  std::printf("%s: %s, %zu layers %s, %s in %.1f s (%s/s)\n", flags.out.c_str(),
              config.name.c_str(), config.layers.size(), config.pattern().c_str(),
              human_bytes(bytes).c_str(), seconds,
              human_bytes(static_cast<std::int64_t>(static_cast<double>(bytes) / seconds)).c_str());
}

}  // namespace

void add_synth_command(CLI::App& app) {
  auto flags = std::make_shared<SynthFlags>();
  CLI::App* command =
      app.add_subcommand("synth", "Write a checkpoint of a published shape with random weights");
  command
      ->add_option("--arch", flags->arch,
                   "nano-4b, nano-30b-a3b, super-120b-a12b, ultra-550b-a55b, lightning-30b, tiny, "
                   "or the path of a config.json")
      ->required();
  command->add_option("-o,--out", flags->out, "The GGUF file to write")->required();
  command->add_option("--layers", flags->layers, "Keep only the first N layers")
      ->check(CLI::Range(1, 1000000));
  command->add_option(
      "--type", flags->options.mix,
      "Weight format or llama.cpp mix: F16, Q8_0, Q4_0, Q4_K_M, ... (default Q4_0)");
  command->add_option("--seed", flags->options.seed, "Seed of the random weights (default 1)");
  command->add_option("-t,--threads", flags->options.threads, "Threads (default: all cores)")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--force", flags->force, "Replace an existing file");
  flags->options.threads = 0;
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
