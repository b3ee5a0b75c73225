// nemo perplexity: how well a model predicts a text file.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"
#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/engine/perplexity.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <iostream>
#include <memory>

namespace nemo::cli {
namespace {

struct PerplexityFlags {
  std::string model, file;
  LoadOptions load;
  bool json = false;
};

void run(const PerplexityFlags& flags) {
  LoadOptions load_options = flags.load;
  if (load_options.context == 0) load_options.context = 512;
  const std::string text = read_text(flags.file);
  const auto model = load_model(flags.model, load_options);
  const auto& tokenizer = model->tokenizer();
  const auto ids = tokenizer.encode(text, {.parse_special = false, .add_bos = true});

  PerplexityOptions options;
  options.window = load_options.context;
  if (!tokenizer.prefix().empty()) options.bos = tokenizer.prefix().front();
  ProgressBar bar("perplexity", "tokens");
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    bar.update(done, total);
    return true;
  };
  const auto session = model->new_session();
  const auto result = perplexity(*session, ids, model->config().vocab, options);
  const double speed = static_cast<double>(result.tokens) / result.seconds;
  if (flags.json) {
    const nlohmann::ordered_json json = {
        {"perplexity", result.perplexity}, {"standard_error", result.standard_error},
        {"mean_nll", result.mean_nll},     {"scored_tokens", result.scored_tokens},
        {"tokens", result.tokens},         {"windows", result.windows},
        {"ctx", options.window},           {"tok_s", speed},
        {"kv", model->kv_policy()},        {"kernels", model->kernels().name},
        {"threads", model->threads()}};
    std::cout << json.dump() << "\n";
    return;
  }
  std::printf("perplexity %.4f +- %.4f over %lld tokens in %lld windows of %lld, %.1f tokens/s\n",
              result.perplexity, result.standard_error,
              static_cast<long long>(result.scored_tokens), static_cast<long long>(result.windows),
              static_cast<long long>(result.windows > 0 ? result.tokens / result.windows : 0),
              speed);
}

}  // namespace

void add_perplexity_command(CLI::App& app) {
  auto flags = std::make_shared<PerplexityFlags>();
  CLI::App* command =
      app.add_subcommand("perplexity", "Measure how well a model predicts a text file");
  add_load_flags(*command, flags->model, flags->load);
  command->get_option("--ctx-size")->description("Tokens per window (default 512)");
  command->add_option("-f,--file", flags->file, "The text; - = standard input")->required();
  command->add_flag("--json", flags->json, "Print the result as JSON");
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
