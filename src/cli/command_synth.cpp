// nemo synth: writes a checkpoint of a published shape with random weights.
#include "src/cli/commands.hpp"
#include "src/cli/interrupt_guard.hpp"
#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/io/printable.hpp>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <omp.h>
#include <optional>

namespace nemo::cli {
namespace {

struct SynthFlags {
  std::string arch;
  std::string out;
  std::string format;
  std::string type;
  std::string bits;
  int group = 0;
  std::int64_t layers = 0;
  bool mtp = false;
  bool force = false;
  SynthOptions options;
};

/// What to write: a directory's recipe, or nothing for a GGUF.
std::optional<DirectoryRecipe> recipe_of(const SynthFlags& flags) {
  std::string name = flags.type;
  std::string format = flags.format;
  if (format.empty()) format = names_directory_recipe(name) ? "directory" : "gguf";
  if (format == "gguf") {
    if (names_directory_recipe(name)) {
      throw Error(ErrorCode::usage, "--type " + name + " is stored in a directory, not in a GGUF");
    }
    if (!flags.bits.empty() || flags.group > 0) {
      throw Error(ErrorCode::usage, "--bits and --group are for directories: --format mlx or tq");
    }
    return std::nullopt;
  }
  if (name.empty()) name = format == "hf" ? "hf-bf16" : format == "mlx" ? "mlx-q4g64" : "tq3-g64";
  // "--format hf --type nvfp4" is hf-nvfp4.
  if (format == "hf" && !names_directory_recipe(name)) name = "hf-" + name;
  if (format == "mlx" && !names_directory_recipe(name)) name = "mlx-" + name;
  DirectoryRecipe recipe = find_directory_recipe(name);
  const char* kinds[] = {"hf", "mlx", "tq"};
  const std::string kind = kinds[static_cast<int>(recipe.kind)];
  if (format != "directory" && format != kind) {
    throw Error(ErrorCode::usage, "--type " + name + " is stored with --format " + kind);
  }
  if (!flags.bits.empty() || flags.group > 0) set_bits(recipe, flags.bits, flags.group);
  return recipe;
}

std::int64_t written_bytes(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    return static_cast<std::int64_t>(std::filesystem::file_size(path));
  }
  std::int64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    bytes += static_cast<std::int64_t>(entry.file_size());
  }
  return bytes;
}

void run(SynthFlags& flags) {
  const std::optional<DirectoryRecipe> recipe = recipe_of(flags);
  ModelConfig config = synth_config(flags.arch, flags.layers, true);
  if (flags.mtp && config.mtp.empty()) {
    throw Error(ErrorCode::usage,
                "--mtp: " + in_quotes(flags.arch) +
                    " has no draft head; super-120b, ultra-550b and lightning-30b have one, and "
                    "config.json files that say so");
  }
  const bool published_so = recipe && recipe->kind == DirectoryKind::hf && flags.layers == 0;
  if (!flags.mtp && !published_so) config.mtp.clear();
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
      return !InterruptGuard::asked();
    };
    if (recipe) {
      write_synthetic_directory(flags.out, config, *recipe, options, flags.force);
    } else {
      if (!flags.type.empty()) options.mix = flags.type;
      write_synthetic_gguf(flags.out, config, options);
    }
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::int64_t bytes = written_bytes(flags.out);
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
  command->add_option("-o,--out", flags->out, "The GGUF file or the folder to write")->required();
  command->add_option("--layers", flags->layers, "Keep only the first N layers")
      ->check(CLI::Range(1, 1000000));
  command
      ->add_option("--format", flags->format,
                   "gguf (default), or a directory: hf, mlx, tq (TurboQuant-MLX)")
      ->check(CLI::IsMember({"gguf", "hf", "mlx", "tq"}));
  command->add_option("--type", flags->type,
                      "GGUF: F16, Q8_0, Q4_0, Q4_K_M, ... (default Q4_0); directories: hf-bf16, "
                      "hf-fp8, hf-nvfp4, mlx-q4g64, mlx-mxfp4, oq4e, tq3-g64, tq3a-tq2e-g32, ...");
  command->add_option("--bits", flags->bits,
                      "Bits of MLX or TurboQuant weights: 4, or by part: attn=3,experts=2 (embed, "
                      "head, attn, mamba, mlp, shared, latent, experts)");
  command->add_option("--group", flags->group, "Their group size")->check(CLI::PositiveNumber);
  command->add_flag("--mtp", flags->mtp,
                    "Write the draft head too; whole hf folders of models that have one do anyway");
  command->add_option("--seed", flags->options.seed, "Seed of the random weights (default 1)");
  command->add_option("-t,--threads", flags->options.threads, "Threads (default: all cores)")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--force", flags->force, "Replace an existing file");
  flags->options.threads = 0;
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
