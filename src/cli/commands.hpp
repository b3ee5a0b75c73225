// The subcommands of the nemo program; each adds itself and throws nemo::Error when it fails.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace nemo::cli {

void add_chat_command(CLI::App& app);
void add_run_command(CLI::App& app);
void add_info_command(CLI::App& app);
void add_tokenize_command(CLI::App& app);
void add_template_command(CLI::App& app);
void add_parse_command(CLI::App& app);
void add_logits_command(CLI::App& app);
void add_perplexity_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_pair_commands(CLI::App& app);  // pair and calibrate-kv
void add_synth_command(CLI::App& app);
void add_convert_command(CLI::App& app);
void add_pack_command(CLI::App& app);
void add_bench_command(CLI::App& app, const std::string& command_line);

}  // namespace nemo::cli
