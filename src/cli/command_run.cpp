// nemo run: one prompt in, plain text out.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"
#include "src/cli/terminal.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/chat.hpp>
#include <nemo/engine/model.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace nemo::cli {
namespace {

using Json = nlohmann::ordered_json;

struct RunFlags {
  std::string model, prompt, file, system;
  LoadOptions load;
  GenerateFlags generate;
  ThinkFlags think;
  bool raw = false;
  bool special = false;
  bool show_reasoning = false;
  bool json = false;
  bool verbose = false;
  CLI::Option* has_prompt = nullptr;
};

std::string read_prompt(const RunFlags& flags) {
  if (*flags.has_prompt) return flags.prompt;
  std::string text = read_text(flags.file.empty() ? "-" : flags.file);
  // `echo question | nemo run` asks the question, not the question and a newline.
  if (!flags.raw && text.ends_with('\n')) text.pop_back();
  return text;
}

Json usage(const GenerateResult& result) {
  return {{"prompt_tokens", result.prompt_tokens},
          {"completion_tokens", result.tokens.size()},
          {"total_tokens", result.prompt_tokens + static_cast<std::int64_t>(result.tokens.size())}};
}

void print_json(Json json, const GenerateResult& result) {
  json["finish_reason"] = name(result.finish);
  json["seed"] = result.seed;
  json["usage"] = usage(result);
  json["timings"] = {{"prefill_s", result.prefill_seconds}, {"decode_s", result.decode_seconds}};
  if (result.drafts.passes > 0) json["drafts"] = drafts_json(result.drafts);
  std::cout << json.dump() << "\n";
}

void complete(const RunFlags& flags, const Model& model, GenerateOptions options) {
  const text::EncodeOptions encode = {.parse_special = flags.special, .add_bos = true};
  const auto prompt = model.tokenizer().encode(read_prompt(flags), encode);
  options.special = flags.special ? text::SpecialText::keep : text::SpecialText::tags_only;
  const auto session = model.new_session();
  Printer printer;
  const auto result =
      generate(*session, model.tokenizer(), prompt, options, [&](std::string_view piece) {
        if (!flags.json) printer.print(piece);
        return true;
      });
  printer.end_line();
  if (flags.json) print_json({{"text", result.text}}, result);
  if (flags.verbose) print_timings(result);
}

void answer(const RunFlags& flags, const std::shared_ptr<const Model>& model,
            GenerateOptions generate) {
  ChatOptions options;
  options.generate = std::move(generate);
  options.system = flags.system;
  options.thinking = flags.think.thinking();
  Chat chat(model, std::move(options));
  Printer printer;
  bool reasoned = false;
  const ChatReply reply = chat.say(
      read_prompt(flags),
      [&](std::string_view piece) {
        if (flags.json) return true;
        if (std::exchange(reasoned, false)) {
          printer.end_line();
          printer.print("\n");
        }
        printer.print(piece);
        return true;
      },
      [&](std::string_view piece) {
        if (flags.json || !flags.show_reasoning) return true;
        reasoned = true;
        printer.print(piece, true);
        return true;
      });
  printer.end_line();
  if (flags.json) {
    print_json({{"reasoning_content", reply.reasoning},
                {"content", reply.content},
                {"tool_calls", text::to_json(reply.tool_calls)}},
               reply.generation);
  } else {
    for (const auto& call : text::to_json(reply.tool_calls)) std::cout << call.dump() << "\n";
  }
  if (reply.generation.finish == FinishReason::length && reply.content.empty() &&
      !reply.reasoning.empty()) {
    std::fprintf(stderr,
                 "nemo: the model was still thinking after %zu tokens: raise -n or "
                 "--ctx-size, or use --no-think\n",
                 reply.generation.tokens.size());
  }
  if (flags.verbose) print_timings(reply.generation);
}

void run(const RunFlags& flags) {
  check(flags.generate);
  LoadOptions load = flags.load;
  // One answer rarely repays the copy.
  if (load.repack == Repack::automatic) load.repack = Repack::off;
  const auto model = load_model(flags.model, load);
  const auto options = generate_options(flags.generate, *model);
  if (flags.raw) {
    complete(flags, *model, options);
  } else {
    answer(flags, model, options);
  }
}

}  // namespace

void add_run_command(CLI::App& app) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "Answer one prompt");
  add_load_flags(*command, flags->model, flags->load);
  flags->has_prompt =
      command->add_option("-p,--prompt", flags->prompt, "The prompt; default: standard input");
  command->add_option("-f,--file", flags->file, "File with the prompt; - = standard input")
      ->excludes(flags->has_prompt);
  add_generate_flags(*command, flags->generate);
  add_think_flags(*command, flags->think);
  command->add_option("--system", flags->system, "System prompt");
  auto* raw = command->add_flag("--raw", flags->raw, "Continue the text itself, without template");
  command
      ->add_flag("--special", flags->special,
                 "With --raw: special tokens written in the prompt count as such, and are printed")
      ->needs(raw);
  command->add_flag("--show-reasoning", flags->show_reasoning,
                    "Print the reasoning before the answer");
  command->add_flag("--json", flags->json, "Print one JSON object at the end");
  command->add_flag("-v,--verbose", flags->verbose, "Print timings on standard error");
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
