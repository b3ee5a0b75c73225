// nemo tokenize: text to token ids and back, with a model's tokenizer but without its weights.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/text/tokenizer.hpp>
#include <nemo/text/tokenizer_json.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <iostream>
#include <memory>
#include <utility>

namespace nemo::cli {
namespace {

struct TokenizeFlags {
  std::string model, text, file, decode;
  bool no_special = false;
  bool bos = false;
  bool json = false;
  CLI::Option *has_text = nullptr, *has_file = nullptr, *has_decode = nullptr;
};

text::Tokenizer open_tokenizer(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path json = path;
  if (fs::is_directory(json, error)) json /= "tokenizer.json";
  if (json.extension() != ".json") {
    // Any GGUF will do here, bare vocabularies and those of other architectures too.
    Gguf gguf = Gguf::open(path);
    const auto architecture = gguf.find_string("general.architecture").value_or("");
    if (gguf.tensors().empty() || !architecture.starts_with("nemotron_h")) {
      return text::Tokenizer(tokenizer_from_gguf(gguf));
    }
    return text::Tokenizer(checkpoint_from_gguf(std::move(gguf))->tokenizer());
  }
  const fs::path config = json.parent_path() / "tokenizer_config.json";
  const bool configured = fs::exists(config, error);
  return text::Tokenizer(text::load_tokenizer_json(
      read_text(json.string()), configured ? read_text(config.string()) : std::string()));
}

void run(const TokenizeFlags& flags) {
  const text::Tokenizer tokenizer = open_tokenizer(flags.model);
  if (*flags.has_decode) {
    const std::string text = tokenizer.decode(parse_ids(flags.decode, "--decode"));
    const std::string out = flags.json ? nlohmann::json{{"text", text}}.dump() : text;
    std::cout << out << "\n";
    return;
  }
  const std::string text =
      *flags.has_text ? flags.text : read_text(*flags.has_file ? flags.file : "-");
  text::EncodeOptions options;
  options.parse_special = !flags.no_special;
  options.add_bos = flags.bos;
  const auto ids = tokenizer.encode(text, options);
  if (flags.json) {
    std::cout << nlohmann::json{{"ids", ids}}.dump() << "\n";
    return;
  }
  for (std::size_t i = 0; i < ids.size(); ++i) std::cout << (i > 0 ? " " : "") << ids[i];
  std::cout << "\n";
}

}  // namespace

void add_tokenize_command(CLI::App& app) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* command = app.add_subcommand("tokenize", "Turn text into token ids, or ids into text");
  add_model_flag(*command, flags->model);
  flags->has_text = command->add_option("--text", flags->text, "The text; default: standard input");
  flags->has_file = command->add_option("--file", flags->file, "File with the text; - = stdin");
  flags->has_decode =
      command->add_option("--decode", flags->decode, "Print the text of these ids: 1,2,3");
  flags->has_file->excludes(flags->has_text);
  flags->has_decode->excludes(flags->has_text)->excludes(flags->has_file);
  command->add_flag("--no-special", flags->no_special,
                    "Text that looks like a special token (<|im_end|>) is text");
  command->add_flag("--bos", flags->bos, "Put in front what the model's own rule says");
  command->add_flag("--json", flags->json, "Print {\"ids\": [...]} or {\"text\": ...}");
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
