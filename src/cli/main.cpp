// The nemo program: parses the command line, runs one subcommand, turns errors into exit codes.
#include "src/cli/commands.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/printable.hpp>
#include <nemo/version.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

int report(std::string_view message, int exit_code) {
  // Messages quote names and flags, which may hold anything.
  std::fprintf(stderr, "nemo: %s\n", nemo::one_line(message).c_str());
  return exit_code;
}

/// The arguments, last first as CLI11 wants them. "--name=" means an empty value, which CLI11 would
/// take from the next argument.
std::vector<std::string> arguments(int argc, char** argv) {
  std::vector<std::string> list;
  bool options = true;  // until "--"
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    options = options && word != "--";
    if (options && word.size() > 3 && word.starts_with("--") && word.ends_with('=') &&
        word.find('=') == word.size() - 1) {
      word.pop_back();
      list.push_back(std::move(word));
      word.clear();
    }
    list.push_back(std::move(word));
  }
  std::reverse(list.begin(), list.end());
  return list;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Runs Nemotron-H models on this machine"};
  app.name("nemo");
  app.set_version_flag("--version", NEMO_VERSION);
  app.require_subcommand(1);
  nemo::cli::add_chat_command(app);
  nemo::cli::add_run_command(app);
  nemo::cli::add_info_command(app);
  nemo::cli::add_tokenize_command(app);
  nemo::cli::add_template_command(app);
  nemo::cli::add_parse_command(app);
  nemo::cli::add_logits_command(app);
  nemo::cli::add_perplexity_command(app);
  nemo::cli::add_eval_command(app);
  nemo::cli::add_pair_commands(app);
  nemo::cli::add_synth_command(app);
  nemo::cli::add_convert_command(app);
  nemo::cli::add_pack_command(app);
  std::string command_line = "nemo";
  for (int i = 1; i < argc; ++i) command_line += std::string(" ") + argv[i];
  nemo::cli::add_bench_command(app, command_line);
  try {
    app.parse(arguments(argc, argv));
    return 0;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::string message = e.what();
    if (argc > 1 && app.get_subcommands().empty()) {
      message = "unknown command or flag " + nemo::in_quotes(argv[1]);
    }
    return report(message + "; see nemo --help", 2);
  } catch (const nemo::Error& e) {
    return report(e.what(), e.code() == nemo::ErrorCode::usage ? 2 : 1);
  } catch (const std::bad_alloc&) {
    return report("out of memory: use a smaller model, context or --kv policy", 1);
  } catch (const std::exception& e) {
    return report(e.what(), 1);
  }
}
