// nemo parse: what reasoning, answer and tool calls a raw model output holds.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/output_parser.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

namespace nemo::cli {
namespace {

struct ParseFlags {
  std::string mode = "think", tools, finish = "stop", text_file;
  std::int64_t chunk = 0;
  bool json = false;
};

void run(const ParseFlags& flags) {
  if (flags.chunk < 0) throw Error(ErrorCode::usage, "--chunk: 1 byte or more, 0 for all at once");
  nlohmann::ordered_json tools;
  if (!flags.tools.empty()) {
    tools = nlohmann::ordered_json::parse(read_text(flags.tools), nullptr, false);
    if (tools.is_discarded()) throw Error(ErrorCode::bad_input, flags.tools + ": is not JSON");
    if (!tools.is_array() && !tools.is_null()) {
      throw Error(ErrorCode::bad_input, flags.tools + ": must be a JSON list of tools");
    }
  }
  const std::string text = read_text(flags.text_file);
  text::OutputParser parser(flags.mode == "think", std::move(tools));
  std::string reasoning;
  std::string content;
  auto calls = nlohmann::ordered_json::array();
  const auto add = [&](const text::OutputDelta& delta) {
    reasoning += delta.reasoning;
    content += delta.content;
    for (const text::ToolCall& call : delta.tool_calls) {
      calls.push_back({{"name", call.name}, {"arguments", call.arguments}});
    }
  };
  const std::size_t step = flags.chunk > 0 ? static_cast<std::size_t>(flags.chunk) : text.size();
  for (std::size_t at = 0; at < text.size(); at += step) {
    add(parser.push(std::string_view(text).substr(at, step)));
  }
  add(parser.finish(flags.finish == "length"));

  if (flags.json) {
    const nlohmann::ordered_json result = {
        {"reasoning_content", reasoning}, {"content", content}, {"tool_calls", calls}};
    std::printf("%s\n",
                result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    return;
  }
  std::printf("reasoning:\n%s\ncontent:\n%s\ntool calls:\n", reasoning.c_str(), content.c_str());
  for (const auto& call : calls) {
    std::printf("%s\n",
                call.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  }
}

}  // namespace

void add_parse_command(CLI::App& app) {
  auto flags = std::make_shared<ParseFlags>();
  CLI::App* command = app.add_subcommand(
      "parse", "Split a raw model output into reasoning, content and tool calls");
  command
      ->add_option("--mode", flags->mode, "think: the prompt ended inside a think block; no-think")
      ->check(CLI::IsMember({"think", "no-think"}));
  command->add_option("--tools", flags->tools,
                      "JSON list of tools whose schemas type the arguments");
  command->add_option("--finish", flags->finish, "Why the output ended")
      ->check(CLI::IsMember({"stop", "length"}));
  command->add_option("--chunk", flags->chunk, "Feed so many bytes at a time");
  command->add_option("--text-file", flags->text_file, "The output; - is standard input")
      ->required();
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
