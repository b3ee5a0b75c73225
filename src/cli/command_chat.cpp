// nemo chat: a conversation on the terminal, or one answer per line of piped input.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"
#include "src/cli/progress_bar.hpp"
#include "src/cli/terminal.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/chat.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/io/printable.hpp>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace nemo::cli {
namespace {

constexpr const char* kHelp =
    "/reset          start a new conversation\n"
    "/system TEXT    set the system prompt; without TEXT remove it\n"
    "/think [on|off] think before answering, or not; without a word say which\n"
    "/help           this list\n"
    "/quit           leave (so does Ctrl-D)\n"
    "Ctrl-C stops an answer. A line that starts with // is sent with one / less.\n";

struct ChatFlags {
  std::string model, system;
  LoadOptions load;
  GenerateFlags generate;
  ThinkFlags think;
  bool hide_reasoning = false;
  bool show_reasoning = false;
  bool verbose = false;
};

class Repl {
 public:
  explicit Repl(const ChatFlags& flags)
      : flags_(flags),
        interactive_(stdin_is_terminal()),
        show_reasoning_(flags.show_reasoning || (interactive_ && !flags.hide_reasoning)),
        model_(load_model(flags.model, flags.load)),
        chat_(model_, options()) {}

  // Throws Error{bad_input} at the end when lines of piped input could not be answered.
  void run() {
    if (interactive_) greet();
    int failed = 0;
    int lines = 0;
    std::string line;
    for (bool warned = false;;) {
      if (interactive_) prompt();
      const auto event = reader_.next(line);
      if (event == LineReader::Event::end) break;
      if (event == LineReader::Event::interrupted) {
        interrupt_.clear();
        if (warned || !interactive_) break;
        warned = true;
        std::fputs("\nCtrl-C again or /quit to leave\n", stderr);
        continue;
      }
      warned = false;
      printer_.at_line_start();
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      ++lines;
      try {
        if (line[0] == '/' && !line.starts_with("//")) {
          if (!command(line)) break;
        } else {
          answer(line[0] == '/' ? line.substr(1) : line);
        }
      } catch (const Error& e) {
        printer_.end_line();
        ++failed;
        std::fprintf(stderr, "nemo: %s%s\n", one_line(e.what()).c_str(),
                     e.code() == ErrorCode::capacity ? " (/reset starts a new conversation)" : "");
      }
      if (!interactive_ && interrupt_.flag()) break;
    }
    if (interactive_) std::fputs("\n", stderr);
    if (failed > 0 && !interactive_) {
      throw Error(ErrorCode::bad_input, std::to_string(failed) + " of " + std::to_string(lines) +
                                            " input lines could not be answered");
    }
  }

 private:
  ChatOptions options() const {
    ChatOptions options;
    options.generate = generate_options(flags_.generate, *model_);
    options.generate.cancel = &interrupt_.flag();
    options.system = flags_.system;
    options.thinking = flags_.think.thinking();
    return options;
  }

  void greet() const {
    if (!stderr_is_terminal()) return;
    std::fprintf(
        stderr, "%s: kv %.*s, kernels %.*s, %d threads, context %lld; /help lists commands\n",
        one_line(flags_.model).c_str(), static_cast<int>(model_->kv_policy().size()),
        model_->kv_policy().data(), static_cast<int>(kernel_name().size()), kernel_name().data(),
        model_->threads(), static_cast<long long>(model_->context()));
  }
  [[nodiscard]] std::string_view kernel_name() const { return model_->kernels().name; }

  static void prompt() {
    std::fputs("> ", stderr);
    std::fflush(stderr);
  }

  // False to leave.
  bool command(const std::string& line) {
    const auto space = line.find_first_of(" \t");
    const std::string name = line.substr(0, space);
    const auto begin = line.find_first_not_of(" \t", space);
    std::string argument = begin == std::string::npos ? std::string() : line.substr(begin);
    argument.erase(argument.find_last_not_of(" \t") + 1);
    if (name == "/quit" || name == "/exit") return false;
    if (name == "/help") {
      std::fputs(kHelp, stderr);
    } else if (name == "/reset") {
      chat_.reset();
      std::fputs("new conversation\n", stderr);
    } else if (name == "/system") {
      chat_.system(argument);
      std::fputs(argument.empty() ? "no system prompt\n" : "system prompt set\n", stderr);
    } else if (name == "/think") {
      if (!argument.empty() && argument != "on" && argument != "off") {
        throw Error(ErrorCode::bad_input, "/think takes on or off, not " + in_quotes(argument));
      }
      if (!argument.empty()) chat_.thinking(argument == "on");
      std::fprintf(stderr, "thinking %s\n", chat_.thinking() ? "on" : "off");
    } else {
      throw Error(ErrorCode::bad_input, "unknown command " + in_quotes(name, 40) +
                                            "; /help lists the commands, // sends a line as it is");
    }
    return true;
  }

  void answer(const std::string& text) {
    ProgressBar bar("reading", "tokens");
    chat_.generate_options().feed.progress = [&](std::uint64_t done, std::uint64_t total) {
      if (total > 512) bar.update(done, total);
      return true;
    };
    bool reasoned = false;
    const auto on_reasoning = [&](std::string_view piece) {
      if (!show_reasoning_) return true;
      reasoned = true;
      printer_.print(piece, true);
      return true;
    };
    const auto on_content = [&](std::string_view piece) {
      if (std::exchange(reasoned, false)) {
        printer_.end_line();
        printer_.print("\n");
      }
      printer_.print(piece);
      return true;
    };
    const ChatReply reply = chat_.say(text, on_content, on_reasoning);
    printer_.end_line();
    report(reply);
  }

  void report(const ChatReply& reply) {
    for (const auto& call : reply.tool_calls) {
      std::fprintf(stderr, "[the model calls the tool %s]\n", one_line(call.name).c_str());
    }
    const auto& g = reply.generation;
    if (g.finish == FinishReason::cancelled) {
      if (interactive_)
        interrupt_.clear();  // this Ctrl-C did its work; a later one is for the prompt
      std::fputs("[stopped]\n", stderr);
    } else if (g.finish == FinishReason::length) {
      std::fprintf(
          stderr, "[cut after %zu tokens%s]\n", g.tokens.size(),
          reply.content.empty() && !reply.reasoning.empty() ? ", while still thinking" : "");
    } else if (interactive_ && reply.content.empty() && reply.tool_calls.empty()) {
      std::fputs("[no answer]\n", stderr);
    }
    if (flags_.verbose) print_timings(g);
  }

  const ChatFlags& flags_;
  bool interactive_;
  bool show_reasoning_;
  Interrupt interrupt_;
  std::shared_ptr<const Model> model_;
  Chat chat_;
  Printer printer_;
  LineReader reader_;
};

}  // namespace

void add_chat_command(CLI::App& app) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = app.add_subcommand("chat", "Talk with a model");
  add_load_flags(*command, flags->model, flags->load);
  add_generate_flags(*command, flags->generate);
  add_think_flags(*command, flags->think);
  command->add_option("--system", flags->system, "System prompt");
  auto* hide = command->add_flag("--hide-reasoning", flags->hide_reasoning,
                                 "Print answers only (the default for piped input)");
  command
      ->add_flag("--show-reasoning", flags->show_reasoning,
                 "Print the reasoning too (the default on a terminal)")
      ->excludes(hide);
  command->add_flag("-v,--verbose", flags->verbose, "Print timings after each answer");
  command->callback([flags] {
    check(flags->generate);
    Repl(*flags).run();
  });
}

}  // namespace nemo::cli
