// nemo pair and nemo calibrate-kv: a model and its KV cache policy as one artifact.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"
#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/cache/kv_pairing.hpp>
#include <nemo/engine/kv_calibration.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/io/printable.hpp>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

namespace nemo::cli {
namespace {

struct PairFlags {
  std::string model, kv, means, out;
  bool force = false;
};

struct CalibrateFlags {
  std::string model, text, out;
  LoadOptions load;
};

void pair(const PairFlags& flags) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (!flags.force && fs::is_regular_file(flags.out, ignored)) {
    throw Error(ErrorCode::io, in_quotes(flags.out) + " exists; use --force to replace it");
  }
  const auto checkpoint = open_checkpoint(flags.model);
  const KvPolicy policy = resolve_kv(flags.kv, flags.means, *checkpoint);
  pair_model(flags.model, policy, flags.out);
  std::printf("%s: kv %s%s\n", one_line(flags.out).c_str(), policy.name.c_str(),
              policy.means != nullptr ? ", centered" : "");
}

void calibrate(const CalibrateFlags& flags) {
  const std::string text = read_text(flags.text);
  if (text.empty()) throw Error(ErrorCode::bad_input, in_quotes(flags.text) + " has no tokens");
  LoadOptions options = flags.load;
  options.kv = "fp16";  // what the model is paired with does not matter here
  options.kv_means = "off";
  const auto model = load(flags.model, options);
  const auto ids = model->tokenizer().encode(text, {.parse_special = true, .add_bos = true});
  KvCalibrationOptions calibration;
  if (flags.load.context > 0) calibration.window = flags.load.context;
  ProgressBar bar("calibrating", "tokens");
  calibration.progress = [&](std::uint64_t done, std::uint64_t total) {
    bar.update(done, total);
    return true;
  };
  const KvMeans means = calibrate_kv(*model, ids, calibration);
  write_kv_means(flags.out, means, model->config());
  std::printf("%s: means of %zu attention layers over %zu tokens\n", one_line(flags.out).c_str(),
              means.size(), ids.size());
}

}  // namespace

void add_pair_commands(CLI::App& app) {
  auto flags = std::make_shared<PairFlags>();
  CLI::App* command = app.add_subcommand("pair", "Store a KV cache policy with a model");
  command->add_option("-m,--model", flags->model, "Model file or directory")->required();
  command->add_option("--kv", flags->kv, "The policy; default: the one it is paired with");
  add_kv_aliases(*command, flags->kv);
  command->add_option("--kv-means", flags->means, "Means from nemo calibrate-kv, or off");
  command->add_option("-o,--out", flags->out, "The file or directory to write")->required();
  command->add_flag("--force", flags->force, "Replace an existing file");
  command->callback([flags] { pair(*flags); });

  auto calibrate_flags = std::make_shared<CalibrateFlags>();
  CLI::App* calibrate_command = app.add_subcommand(
      "calibrate-kv", "Measure mean keys and values, which quantized caches then subtract");
  add_model_flag(*calibrate_command, calibrate_flags->model);
  calibrate_command
      ->add_option("--text,-f,--file", calibrate_flags->text, "The text; - = standard input")
      ->required();
  calibrate_command->add_option("-o,--out", calibrate_flags->out, "The file to write")->required();
  calibrate_command->add_option("-t,--threads", calibrate_flags->load.threads,
                                "Threads; default: one per core");
  calibrate_command->add_option("-c,--ctx-size,--ctx", calibrate_flags->load.context,
                                "Tokens per window (default 2048)");
  calibrate_command->add_option("--kernels", calibrate_flags->load.kernels,
                                "Kernel table; default: the best of this CPU");
  calibrate_command->callback([calibrate_flags] { calibrate(*calibrate_flags); });
}

}  // namespace nemo::cli
