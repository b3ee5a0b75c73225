// nemo logits: the logits after every token of a sequence, as a NumPy file.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/io/npy.hpp>

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

namespace nemo::cli {
namespace {

struct LogitsOptions {
  std::string model, tokens, tokens_file, out;
  LoadOptions load;
  std::int64_t chunk = 1024;
};

void run(const LogitsOptions& options) {
  const std::vector<std::int32_t> ids =
      options.tokens_file.empty() ? parse_ids(options.tokens, "--tokens")
                                  : parse_ids(read_text(options.tokens_file), options.tokens_file);
  if (ids.empty()) throw Error(ErrorCode::bad_input, "no token ids given");
  if (options.chunk < 1) throw Error(ErrorCode::usage, "--chunk: at least 1 token");
  LoadOptions load_options = options.load;
  if (load_options.context == 0) load_options.context = static_cast<std::int64_t>(ids.size());
  const std::shared_ptr<const Model> model = load_model(options.model, load_options);
  const std::unique_ptr<Session> session = model->new_session();
  const auto total = static_cast<std::int64_t>(ids.size());
  const std::int64_t vocab = model->config().vocab;
  NpyWriter writer(options.out, total, vocab);
  std::vector<float> rows;
  std::vector<std::int64_t> positions;
  for (std::int64_t begin = 0; begin < total; begin += options.chunk) {
    const std::int64_t count = std::min(options.chunk, total - begin);
    positions.resize(static_cast<std::size_t>(count));
    std::iota(positions.begin(), positions.end(), 0);
    rows.resize(static_cast<std::size_t>(count * vocab));
    session->feed({ids.data() + begin, static_cast<std::size_t>(count)}, positions, rows.data(),
                  {options.chunk, {}});
    writer.append(rows);
  }
  writer.finish();
}

}  // namespace

void add_logits_command(CLI::App& app) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* command = app.add_subcommand("logits", "Write the logits after every token as .npy");
  add_load_flags(*command, options->model, options->load);
  auto* source = command->add_option_group("source");
  source->add_option("--tokens", options->tokens, "Token ids, separated by commas or white space");
  source->add_option("--tokens-file", options->tokens_file, "File with token ids");
  source->require_option(1);
  command->add_option("--chunk", options->chunk, "Tokens evaluated at once; 1 feeds one by one");
  command->add_option("--out", options->out, "The .npy file to write: float32 [tokens, vocab]")
      ->required();
  command->callback([options] { run(*options); });
}

}  // namespace nemo::cli
