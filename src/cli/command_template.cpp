// nemo template: the prompt that a request becomes.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/text/chat_template.hpp>
#include <nemo/text/tokenizer.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <memory>
#include <string>

namespace nemo::cli {
namespace {

struct TemplateFlags {
  std::string model, template_file, request;
};

/// The checkpoint's template with its own bos and eos texts.
text::ChatTemplate template_of_model(const std::string& path) {
  if (path.empty()) throw Error(ErrorCode::usage, "needs --model or --template");
  const auto checkpoint = open_checkpoint(path);
  const text::Tokenizer tokenizer(checkpoint->tokenizer());
  const auto text_of = [&](std::optional<std::int32_t> id) {
    return id ? std::string(tokenizer.token_text(*id)) : std::string();
  };
  return text::ChatTemplate(checkpoint->chat_template(), text_of(tokenizer.bos()),
                            text_of(tokenizer.eos()));
}

void run(const TemplateFlags& flags) {
  auto request = nlohmann::ordered_json::parse(read_text(flags.request), nullptr, false);
  if (request.is_discarded()) {
    throw Error(ErrorCode::bad_input, flags.request + ": is not JSON");
  }
  const text::ChatTemplate chat =
      flags.template_file.empty()
          ? template_of_model(flags.model)
          : text::ChatTemplate(read_text(flags.template_file), "<s>", "</s>");
  if (request.is_object() && !request.contains("add_generation_prompt")) {
    request["add_generation_prompt"] = true;  // a request asks for an answer
  }
  const std::string prompt = chat.render(request).text;
  std::fwrite(prompt.data(), 1, prompt.size(), stdout);
}

}  // namespace

void add_template_command(CLI::App& app) {
  auto flags = std::make_shared<TemplateFlags>();
  CLI::App* command =
      app.add_subcommand("template", "Print the prompt that a chat request becomes");
  add_model_flag(*command, flags->model);
  command->get_option("--model")->required(false);  // --template does without
  command->add_option("--template", flags->template_file,
                      "A Jinja file in place of the model's own");
  command
      ->add_option("--request", flags->request,
                   "JSON with messages, optional tools and template variables; - is standard input")
      ->required();
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
