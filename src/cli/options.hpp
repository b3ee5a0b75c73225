// Flags that several commands share: which model and how to run it, how to sample.
#pragma once

#include <nemo/engine/chat.hpp>
#include <nemo/engine/generator.hpp>
#include <nemo/engine/model.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace nemo::cli {

/// Adds -m/--model, -t/--threads, -c/--ctx-size, --kv with its aliases, --kv-means, --kernels and
/// --repack.
/// Without -m the variable NEMO_MODEL decides, then the embedded nemo-tiny.gguf if it lies where a
/// build or an installation puts it; if there is none either, -m is required.
void add_load_flags(CLI::App& command, std::string& model, LoadOptions& load);
/// The same for commands that compare policies: --kv may be given several times (an alias, once,
/// still sets load.kv).
void add_load_flags(CLI::App& command, std::string& model, LoadOptions& load,
                    std::vector<std::string>& kv);

/// load(), showing on standard error how far repacking is, and which KV cache policy was picked up
/// with the model, if one was.
[[nodiscard]] std::shared_ptr<const Model> load_model(const std::string& path,
                                                      const LoadOptions& options);

/// Adds other programs' spellings of KV cache policies, which set `kv` before the command runs.
void add_kv_aliases(CLI::App& command, std::string& kv);

/// Adds only -m/--model, with the same default.
void add_model_flag(CLI::App& command, std::string& model);

/// What the sampling flags said; what they did not say comes from the model.
struct SamplingFlags {
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<std::int64_t> top_k, penalty_window, min_tokens, seed;
  std::vector<std::string> logit_bias;  // ID+V, ID-V
};

/// Adds --temp, --top-k, --top-p, --min-p, the penalties, --logit-bias, --min-tokens and --seed.
void add_sampling_flags(CLI::App& command, SamplingFlags& flags);

/// `base` with the flags' values in place of its own, checked; throws Error{usage}.
[[nodiscard]] SamplingOptions sampling_from(const SamplingFlags& flags, SamplingOptions base = {});

/// Flags of the commands that generate text.
struct GenerateFlags {
  SamplingFlags sampling;
  std::int64_t max_tokens = -1;
  std::vector<std::string> stop;
  DraftOptions draft;
};

/// Adds --draft-mtp and --draft-lookup.
void add_draft_flags(CLI::App& command, DraftOptions& draft);

/// "drafts: 40 of 50 accepted (80 %), 2.90 tokens a pass"
[[nodiscard]] std::string drafts_text(const DraftStatistics& drafts);
[[nodiscard]] nlohmann::ordered_json drafts_json(const DraftStatistics& drafts);

/// Adds the sampling flags, the draft flags, -n/--max-tokens and --stop.
void add_generate_flags(CLI::App& command, GenerateFlags& flags);

/// Throws Error{usage} for values outside their range; call it before loading anything.
void check(const GenerateFlags& flags);

/// The options for `model`, whose own sampling defaults stand where no flag was given.
[[nodiscard]] GenerateOptions generate_options(const GenerateFlags& flags, const Model& model);

/// Flags of the commands that talk through the chat template.
struct ThinkFlags {
  std::optional<bool> enable;
  bool off = false;
  [[nodiscard]] bool thinking() const { return enable.value_or(!off); }
};

/// Adds --no-think and --enable-thinking=BOOL.
void add_think_flags(CLI::App& command, ThinkFlags& flags);

/// Ids separated by commas or white space. Throws Error{bad_input} naming `where`.
[[nodiscard]] std::vector<std::int32_t> parse_ids(std::string_view text, const std::string& where);

/// The whole of a file, or of standard input for "-". Throws Error{io}.
[[nodiscard]] std::string read_text(const std::string& path);

}  // namespace nemo::cli
