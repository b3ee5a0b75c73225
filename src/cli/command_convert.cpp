// nemo convert: the same weights in another container.
#include "src/cli/commands.hpp"
#include "src/cli/interrupt_guard.hpp"
#include "src/cli/options.hpp"
#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/convert.hpp>
#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/io/printable.hpp>

#include <cstdio>
#include <memory>

namespace nemo::cli {
namespace {

struct ConvertFlags {
  std::string model;
  std::string out;
  std::string format;
  bool force = false;
};

void run(const ConvertFlags& flags) {
  const bool gguf = flags.format.empty() ? flags.out.ends_with(".gguf") : flags.format == "gguf";
  if (!gguf && flags.format.empty()) {
    throw Error(ErrorCode::usage,
                "a folder needs --format mlx or hf; a GGUF a name ending in .gguf");
  }
  const auto checkpoint = open_checkpoint(flags.model);
  std::vector<std::string> notes;
  {
    const InterruptGuard guard;
    ProgressBar bar("writing " + flags.out, "bytes");
    ConvertOptions options;
    options.replace = flags.force;
    options.progress = [&bar](std::uint64_t done, std::uint64_t total) {
      bar.update(done, total);
      return !InterruptGuard::asked();
    };
    if (gguf) {
      notes = convert_to_gguf(*checkpoint, flags.out, options);
    } else {
      const auto kind = flags.format == "hf" ? DirectoryKind::hf : DirectoryKind::mlx;
      notes = convert_to_directory(*checkpoint, flags.out, kind, options);
    }
  }
  for (const std::string& note : notes) {
    std::fprintf(stderr, "nemo: left out: %s\n", one_line(note).c_str());
  }
  std::printf("%s: %zu tensors, %s of weights, unchanged\n", one_line(flags.out).c_str(),
              checkpoint->tensors().size(), human_bytes(checkpoint->tensor_bytes()).c_str());
}

}  // namespace

void add_convert_command(CLI::App& app) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* command =
      app.add_subcommand("convert", "Put a model's weights, unchanged, into another container");
  add_model_flag(*command, flags->model);
  command->add_option("-o,--out", flags->out, "The GGUF file or the folder to write")->required();
  command
      ->add_option("--format", flags->format,
                   "gguf (default for names ending in .gguf), or a folder: mlx, hf")
      ->check(CLI::IsMember({"gguf", "mlx", "hf"}));
  command->add_flag("--force", flags->force, "Replace an existing model");
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
