// Shared flags: spellings of llama.cpp with mlx-lm's as aliases.
#include "src/cli/options.hpp"

#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/cache/kv_spec.hpp>
#include <nemo/engine/stop_strings.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <sstream>
#include <string_view>
#include <system_error>

namespace nemo::cli {
namespace {

namespace fs = std::filesystem;

// The folder of this program: Linux says it exactly; elsewhere (macOS) the loader knows the path
// it was started by.
fs::path program_folder() {
  std::error_code error;
  fs::path path = fs::read_symlink("/proc/self/exe", error);
  Dl_info info{};
  if (error && dladdr(reinterpret_cast<const void*>(&program_folder), &info) != 0 &&
      info.dli_fname != nullptr) {
    path = fs::canonical(info.dli_fname, error);
  }
  return path.parent_path();
}

// models/nemo-tiny.gguf of the source tree around build/PRESET/nemo, or the installed copy.
std::string embedded_model() {
  const fs::path folder = program_folder();
  if (folder.empty()) return {};
  for (const char* place : {"../../models/nemo-tiny.gguf", "../share/nemo/nemo-tiny.gguf",
                            "../../share/nemo/nemo-tiny.gguf"}) {
    std::error_code error;
    const fs::path path = fs::weakly_canonical(folder / place, error);
    if (!error && fs::is_regular_file(path, error)) return path.string();
  }
  return {};
}

LogitBias parse_bias(const std::string& text) {
  const auto fail = [&]() -> Error {
    return Error(ErrorCode::usage,
                 "--logit-bias " + in_quotes(text) +
                     ": write ID+VALUE or ID-VALUE, for example 15+1.5 or 15-inf");
  };
  LogitBias bias;
  const char* const end = text.data() + text.size();
  const auto id = std::from_chars(text.data(), end, bias.token);
  if (id.ec != std::errc() || id.ptr == end || (*id.ptr != '+' && *id.ptr != '-')) throw fail();
  const std::string_view rest(id.ptr + 1, static_cast<std::size_t>(end - id.ptr - 1));
  if (rest == "inf") {
    bias.bias = std::numeric_limits<float>::infinity();
  } else {
    // std::from_chars for floats is missing from older standard libraries.
    std::istringstream stream{std::string(rest)};
    stream.imbue(std::locale::classic());
    if (rest.empty() || rest[0] == '+' || rest[0] == '-' || !(stream >> bias.bias) ||
        stream.peek() != std::istringstream::traits_type::eof()) {
      throw fail();
    }
  }
  if (*id.ptr == '-') bias.bias = -bias.bias;
  return bias;
}

template <class T, class U>
void take(const std::optional<T>& flag, U& value) {
  if (flag) value = static_cast<U>(*flag);
}

}  // namespace

void add_model_flag(CLI::App& command, std::string& model) {
  model = embedded_model();
  auto* option = command.add_option("-m,--model", model, "Model file; default: the embedded model")
                     ->envname("NEMO_MODEL")
                     ->type_name("FILE");
  if (model.empty()) option->required();
}

void add_kv_aliases(CLI::App& command, std::string& kv) {
  struct Aliases {
    std::optional<int> turbo_keys, turbo_values, turbo_sink;  // turboquant-mlx
    std::optional<int> rotor_bits, rotor_group;               // rotorquant
    std::optional<int> affine_bits, affine_group;             // mlx-lm
  };
  const auto a = std::make_shared<Aliases>();
  const auto add = [&](const char* name, std::optional<int>& value, const char* text) {
    command.add_option(name, value, text)->group("KV cache aliases");
  };
  add("--kv-k-bits", a->turbo_keys, "turbo: bits of keys");
  add("--kv-v-bits", a->turbo_values, "turbo: bits of values");
  add("--kv-min-tokens", a->turbo_sink, "turbo: first tokens in half precision (default 128)");
  add("--rotor-bits", a->rotor_bits, "rotor: bits of keys and values");
  add("--group-size", a->rotor_group, "rotor: channels of a group (default 64)");
  add("--kv-bits", a->affine_bits, "affine: bits of keys and values");
  add("--kv-group-size", a->affine_group, "affine: channels of a group (default 64)");
  command.parse_complete_callback([a, &kv] {
    const bool turbo = a->turbo_keys || a->turbo_values || a->turbo_sink;
    const bool rotor = a->rotor_bits || a->rotor_group;
    const bool affine = a->affine_bits || a->affine_group;
    const auto refuse = [](const char* why) { throw Error(ErrorCode::usage, why); };
    if (int{turbo} + int{rotor} + int{affine} + int{!kv.empty()} > 1) {
      refuse("--kv, --kv-k-bits, --rotor-bits and --kv-bits name different policies: give one");
    }
    const auto text = [](int value) { return std::to_string(value); };
    if (turbo) {
      if (!a->turbo_keys || !a->turbo_values) {
        refuse("--kv-k-bits and --kv-v-bits go together, with or without --kv-min-tokens");
      }
      kv = "turbo:" + text(*a->turbo_keys) + "," + text(*a->turbo_values) +
           ",sink=" + text(a->turbo_sink.value_or(128));
    } else if (rotor) {
      if (!a->rotor_bits) refuse("--group-size needs --rotor-bits");
      kv = "rotor:" + text(*a->rotor_bits) + "," + text(a->rotor_group.value_or(64));
    } else if (affine) {
      if (!a->affine_bits) refuse("--kv-group-size needs --kv-bits");
      kv = "affine:" + text(*a->affine_bits) + "," + text(a->affine_group.value_or(64));
    }
  });
}

namespace {

void add_run_flags(CLI::App& command, std::string& model, LoadOptions& load) {
  add_model_flag(command, model);
  command.add_option("-t,--threads", load.threads, "Threads; default: one per core");
  command.add_option("-c,--ctx-size,--ctx", load.context, "Context length in tokens");
  add_kv_aliases(command, load.kv);
  command.add_option("--kv-means", load.kv_means,
                     "Means of nemo calibrate-kv for quantized caches, or off");
  command.add_option("--kernels", load.kernels, "Kernel table; default: the best of this CPU");
  const std::map<std::string, Repack> choices = {
      {"auto", Repack::automatic}, {"on", Repack::on}, {"off", Repack::off}};
  command
      .add_option(
          "--repack", load.repack,
          "Copy weights into kernel order while loading: auto (default: up to 8 GiB, but not "
          "for the one answer of run), on, off; a pack (nemo pack) needs no copy")
      ->transform(CLI::Transformer(choices))
      ->type_name("WHEN");
}

}  // namespace

void add_load_flags(CLI::App& command, std::string& model, LoadOptions& load) {
  add_run_flags(command, model, load);
  command.add_option("--kv", load.kv, "KV cache policy; default: the model's own, else fp16");
}

void add_load_flags(CLI::App& command, std::string& model, LoadOptions& load,
                    std::vector<std::string>& kv) {
  add_run_flags(command, model, load);
  command.add_option("--kv", kv, "KV cache policy; may be given several times")
      ->allow_extra_args(false);
}

std::shared_ptr<const Model> load_model(const std::string& path, const LoadOptions& options) {
  std::shared_ptr<const Model> model;
  {
    ProgressBar bar("repacking weights", "bytes");
    LoadOptions with_bar = options;
    with_bar.progress = [&bar](std::uint64_t done, std::uint64_t total) {
      bar.update(done, total);
      return true;
    };
    model = load(path, with_bar);
  }
  const KvPolicy& kv = model->kv();
  if (!kv.origin.empty()) {
    std::fprintf(stderr, "nemo: kv %s%s, %zu bytes per token, from %s\n", one_line(kv.name).c_str(),
                 kv.means != nullptr ? " centered" : "", model->new_session()->kv_bytes_per_token(),
                 kv.origin.c_str());
  }
  return model;
}

void add_sampling_flags(CLI::App& command, SamplingFlags& flags) {
  const auto add = [&](const char* names, auto& value, const char* text) {
    command.add_option(names, value, text)->group("Sampling");
  };
  add("--temp,--temperature", flags.temperature, "Temperature; 0 takes the likeliest token");
  add("--top-k", flags.top_k, "Only the K likeliest tokens; 0 = off");
  add("--top-p", flags.top_p, "Only the likeliest tokens that reach this mass; 1 = off");
  add("--min-p", flags.min_p, "Only tokens this likely relative to the best; 0 = off");
  add("--repeat-penalty,--rep-penalty,--repetition-penalty", flags.repetition_penalty,
      "Weakens tokens that occurred; 1 = off");
  add("--repeat-last-n,--rep-ctx,--repetition-context-size", flags.penalty_window,
      "Tokens the penalties look back; 0 = none, -1 = all (default 64)");
  add("--presence-penalty", flags.presence_penalty, "Taken from tokens that occurred; 0 = off");
  add("--frequency-penalty", flags.frequency_penalty, "Taken per occurrence; 0 = off");
  command
      .add_option("--logit-bias", flags.logit_bias, "Added to a token's logit: ID+V, ID-V, ID-inf")
      ->allow_extra_args(false)
      ->delimiter(',')
      ->group("Sampling");
  add("--min-tokens", flags.min_tokens, "The answer does not end before this many tokens");
  add("-s,--seed", flags.seed, "Repeats the same draws; -1 = unpredictable (default)");
}

SamplingOptions sampling_from(const SamplingFlags& flags, SamplingOptions base) {
  take(flags.temperature, base.temperature);
  take(flags.top_k, base.top_k);
  take(flags.top_p, base.top_p);
  take(flags.min_p, base.min_p);
  take(flags.repetition_penalty, base.repetition_penalty);
  take(flags.penalty_window, base.penalty_window);
  take(flags.presence_penalty, base.presence_penalty);
  take(flags.frequency_penalty, base.frequency_penalty);
  take(flags.min_tokens, base.min_tokens);
  for (const auto& text : flags.logit_bias) base.logit_bias.push_back(parse_bias(text));
  if (flags.seed && *flags.seed < -1) {
    throw Error(ErrorCode::usage, "--seed must be 0 or more, or -1 for an unpredictable one");
  }
  if (flags.seed && *flags.seed >= 0) base.seed = static_cast<std::uint64_t>(*flags.seed);
  validate(base);
  return base;
}

void add_draft_flags(CLI::App& command, DraftOptions& draft) {
  command.add_option("--draft-mtp", draft.mtp,
                     "Tokens that the model's draft head guesses ahead, 1-6; same output, sooner");
  command.add_option("--draft-lookup", draft.lookup,
                     "Tokens copied ahead from where the text repeats itself, 1-15; same output");
}

std::string drafts_text(const DraftStatistics& drafts) {
  char rates[64];
  std::snprintf(rates, sizeof rates, "(%.0f %%), %.2f tokens a pass", 100.0 * drafts.acceptance(),
                drafts.tokens_per_pass());
  return "drafts: " + std::to_string(drafts.accepted) + " of " + std::to_string(drafts.drafted) +
         " accepted " + rates;
}

nlohmann::ordered_json drafts_json(const DraftStatistics& drafts) {
  return {{"drafted", drafts.drafted},
          {"accepted", drafts.accepted},
          {"acceptance", drafts.acceptance()},
          {"passes", drafts.passes},
          {"tokens_per_pass", drafts.tokens_per_pass()}};
}

void add_generate_flags(CLI::App& command, GenerateFlags& flags) {
  command.add_option("-n,--max-tokens", flags.max_tokens,
                     "Most tokens of an answer; -1 = until the context is full (default)");
  command.add_option("--stop", flags.stop, "Text that ends the answer; may be given several times")
      ->allow_extra_args(false);
  add_sampling_flags(command, flags.sampling);
  add_draft_flags(command, flags.draft);
}

void check(const GenerateFlags& flags) {
  (void)sampling_from(flags.sampling);
  if (flags.max_tokens < -1) {
    throw Error(ErrorCode::usage, "--max-tokens must be -1 (until the context is full) or more");
  }
  (void)StopStrings(flags.stop);
  validate(flags.draft);
}

GenerateOptions generate_options(const GenerateFlags& flags, const Model& model) {
  GenerateOptions options;
  options.sampling = sampling_from(flags.sampling, default_sampling(model.checkpoint()));
  options.max_tokens = flags.max_tokens;
  options.stop = flags.stop;
  options.draft = flags.draft;
  return options;
}

void add_think_flags(CLI::App& command, ThinkFlags& flags) {
  auto* off = command.add_flag("--no-think", flags.off, "Answer without thinking first");
  command.add_option("--enable-thinking", flags.enable, "Think before the answer (default true)")
      ->type_name("BOOL")
      ->excludes(off);
}

std::vector<std::int32_t> parse_ids(std::string_view text, const std::string& where) {
  const auto separates = [](char c) {
    return c == ',' || c == ' ' || c == '\n' || c == '\t' || c == '\r';
  };
  std::vector<std::int32_t> ids;
  for (const char *at = text.data(), *const end = at + text.size();;) {
    at = std::find_if_not(at, end, separates);
    if (at == end) return ids;
    const char* const word_end = std::find_if(at, end, separates);
    std::int32_t id = 0;
    const auto [stop, code] = std::from_chars(at, word_end, id);
    if (code != std::errc() || stop != word_end || id < 0) {
      throw Error(ErrorCode::bad_input,
                  where + ": " + in_quotes({at, static_cast<std::size_t>(word_end - at)}, 20) +
                      " is not a token id");
    }
    ids.push_back(id);
    at = word_end;
  }
}

std::string read_text(const std::string& path) {
  const auto slurp = [](std::istream& in) {
    return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  };
  if (path == "-") return slurp(std::cin);
  std::error_code error;
  if (fs::is_directory(path, error)) throw Error(ErrorCode::io, path + ": is a folder, not a file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::io, path + ": cannot be opened; check the path");
  std::string text = slurp(file);
  if (file.bad()) throw Error(ErrorCode::io, path + ": cannot be read");
  return text;
}

}  // namespace nemo::cli
