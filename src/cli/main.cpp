// The nemo program: parses the command line, runs one subcommand, turns errors into exit codes.
#include "src/cli/commands.hpp"

#include <nemo/base/error.hpp>
#include <nemo/version.hpp>

#include <cstdio>
#include <exception>
#include <new>

namespace {

int report(const char* message, int exit_code) {
  std::fprintf(stderr, "nemo: %s\n", message);
  return exit_code;
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
  nemo::cli::add_synth_command(app);
  nemo::cli::add_bench_command(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    return report((std::string(e.what()) + "; see nemo --help").c_str(), 2);
  } catch (const nemo::Error& e) {
    return report(e.what(), e.code() == nemo::ErrorCode::usage ? 2 : 1);
  } catch (const std::bad_alloc&) {
    return report("out of memory: use a smaller model, context or --kv policy", 1);
  } catch (const std::exception& e) {
    return report(e.what(), 1);
  }
}
