// nemo eval: accuracy on generated tasks; nemo eval kv: what KV cache policies cost in quality.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"
#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/eval/kv_quality.hpp>
#include <nemo/eval/tasks.hpp>
#include <nemo/io/atomic_file.hpp>
#include <nemo/io/printable.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace nemo::cli {
namespace {

struct EvalFlags {
  std::string model;
  std::vector<std::string> tasks = {"arithmetic", "recall", "hashhop", "format"};
  LoadOptions load;
  ThinkFlags think;
  int n = 200;
  std::uint64_t seed = 1;
  bool json = false;
  bool verbose = false;

  // nemo eval kv
  std::vector<std::string> kv;
  std::string text, plot;
  std::int64_t window = 1024;
  std::int64_t windows = 32;
};

using Cases = std::vector<std::vector<eval::Case>>;

Cases cases_of(const EvalFlags& flags) {
  Cases cases;
  for (const auto& task : flags.tasks) {
    cases.push_back(eval::make_cases(task, flags.seed, flags.n));
  }
  return cases;
}

/// The share of right answers of each task, in the order of flags.tasks.
std::vector<double> answer(const EvalFlags& flags, const std::shared_ptr<const Model>& model,
                           const Cases& cases) {
  std::uint64_t done = 0, total = 0;
  for (const auto& task : cases) total += task.size();
  ProgressBar bar("eval " + model->kv_policy(), "answers");
  std::optional<bool> thinking;
  if (flags.think.off || flags.think.enable) thinking = flags.think.thinking();
  std::vector<double> accuracy;
  for (const auto& task : cases) {
    accuracy.push_back(eval::answer_cases(
        model, task, thinking, [&](const eval::Case& item, const ChatReply& reply, bool right) {
          bar.update(++done, total);
          if (flags.verbose && !right) {
            std::fprintf(stderr, "%s: expected %s, got %s\n", item.task.c_str(),
                         in_quotes(item.expected).c_str(), in_quotes(reply.content).c_str());
          }
        }));
  }
  return accuracy;
}

void run(const EvalFlags& flags) {
  const Cases cases = cases_of(flags);  // made first: a wrong name fails at once
  const auto model = load_model(flags.model, flags.load);
  const std::vector<double> accuracy = answer(flags, model, cases);
  nlohmann::ordered_json tasks = nlohmann::ordered_json::object();
  for (std::size_t t = 0; t < cases.size(); ++t) {
    tasks[flags.tasks[t]] = {{"accuracy", accuracy[t]}, {"n", cases[t].size()}};
  }
  if (flags.json) {
    std::cout << nlohmann::ordered_json{{"tasks", tasks}}.dump() << "\n";
    return;
  }
  for (const auto& [task, result] : tasks.items()) {
    std::printf("%-12s %6.1f %%  of %d\n", task.c_str(), 100.0 * result["accuracy"].get<double>(),
                result["n"].get<int>());
  }
}

eval::Sequences sequences_of(const EvalFlags& flags, const std::shared_ptr<const Model>& fp16,
                             const std::string& text) {
  if (flags.text.empty()) {
    ProgressBar bar("making conversations", "");
    return eval::task_conversations(fp16, flags.windows, flags.seed,
                                    [&](std::uint64_t done, std::uint64_t total) {
                                      bar.update(done, total);
                                      return true;
                                    });
  }
  const auto& tokenizer = fp16->tokenizer();
  const auto ids = tokenizer.encode(text, {.parse_special = false, .add_bos = true});
  std::optional<std::int32_t> bos;
  if (!tokenizer.prefix().empty()) bos = tokenizer.prefix().front();
  return eval::text_windows(ids, flags.window, flags.windows, bos);
}

void print_quality(const std::vector<eval::KvQuality>& results) {
  std::printf("%-28s %9s %10s %10s %8s %10s", "kv", "B/token", "mean KL", "p99 KL", "top-1",
              "perplexity");
  for (const auto& [task, accuracy] : results.front().tasks) std::printf(" %10s", task.c_str());
  std::printf("\n");
  for (const eval::KvQuality& r : results) {
    std::printf("%-28s %9.0f %10.2e %10.2e %7.2f%% %10.4f", one_line(r.kv).c_str(),
                r.bytes_per_token, r.kl_mean, r.kl_p99, 100 * r.top1, r.perplexity);
    for (const auto& [task, accuracy] : r.tasks) std::printf(" %9.1f%%", 100 * accuracy);
    std::printf("\n");
  }
}

void run_kv(const EvalFlags& flags) {
  // What cannot work fails before anything is loaded.
  const std::string text = flags.text.empty() ? std::string() : read_text(flags.text);
  const bool no_tasks = flags.tasks == std::vector<std::string>{"none"};
  const Cases cases = no_tasks ? Cases{} : cases_of(flags);
  std::vector<std::string> policies = flags.kv;
  if (!flags.load.kv.empty()) policies.push_back(flags.load.kv);  // an alias of --kv
  if (policies.empty()) {
    policies = {"turbo:8,4", "turbo:8,3", "rotor:8", "rotor:4,64", "affine:8", "affine:4"};
  }
  LoadOptions options = flags.load;
  options.kv = "fp16";
  const auto fp16 = load(flags.model, options);
  std::vector<std::shared_ptr<const Model>> models = {fp16};
  for (const std::string& policy : policies) {
    if (policy != "fp16") models.push_back(fp16->with_kv(policy));
  }
  const eval::Sequences sequences = sequences_of(flags, fp16, text);
  std::vector<eval::KvQuality> results;
  {
    ProgressBar bar("comparing logits", "tokens");
    results = eval::compare_logits(*fp16, models, sequences,
                                   [&](std::uint64_t done, std::uint64_t total) {
                                     bar.update(done, total);
                                     return true;
                                   });
  }
  for (std::size_t i = 0; i < models.size() && !no_tasks; ++i) {
    const std::vector<double> accuracy = answer(flags, models[i], cases);
    for (std::size_t t = 0; t < accuracy.size(); ++t) {
      results[i].tasks.emplace_back(flags.tasks[t], accuracy[t]);
    }
  }
  if (!flags.plot.empty()) {
    AtomicFile file(flags.plot);
    file.append(eval::quality_svg(results));
    file.commit();
  }
  if (!flags.json) {
    print_quality(results);
    return;
  }
  auto list = nlohmann::ordered_json::array();
  for (const eval::KvQuality& r : results) {
    auto tasks = nlohmann::ordered_json::object();
    for (const auto& [task, accuracy] : r.tasks) tasks[task] = accuracy;
    list.push_back({{"kv", r.kv},
                    {"bytes_per_token", r.bytes_per_token},
                    {"kl_mean", r.kl_mean},
                    {"kl_p99", r.kl_p99},
                    {"top1", r.top1},
                    {"perplexity", r.perplexity},
                    {"tasks", std::move(tasks)}});
  }
  std::cout << list.dump(1) << "\n";
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command = app.add_subcommand("eval", "Measure accuracy on generated tasks");
  std::string names;
  for (const auto task : eval::task_names())
    names += (names.empty() ? "" : ", ") + std::string(task);
  add_load_flags(*command, flags->model, flags->load);
  command->add_option("--tasks", flags->tasks, "Tasks, separated by commas, of: " + names)
      ->delimiter(',');
  command->add_option("--n,-n", flags->n, "Cases per task")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("-s,--seed", flags->seed, "Which cases")->capture_default_str();
  add_think_flags(*command, flags->think);
  command->add_flag("--json", flags->json, "Print {\"tasks\": {NAME: {accuracy, n}}}");
  command->add_flag("-v,--verbose", flags->verbose, "Print wrong answers on standard error");

  CLI::App* kv = command->add_subcommand("kv", "Compare KV cache policies with fp16");
  kv->fallthrough();  // all flags of eval count here too
  kv->add_option("--kv", flags->kv, "A policy; may be given several times")
      ->allow_extra_args(false);
  kv->add_option("--text", flags->text,
                 "Text to predict; - = standard input; default: the model's own answers to the "
                 "tasks");
  kv->add_option("--window", flags->window,
                 "Tokens of a piece of --text; its second half is scored")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  kv->add_option("--windows", flags->windows, "Most pieces of text, or answers")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  kv->add_option("--plot", flags->plot, "Draw mean KL against bytes per token as SVG");
  kv->footer(
      "--tasks none compares logits only. With --json: a list of {kv, bytes_per_token, "
      "kl_mean, kl_p99, top1, perplexity, tasks: {NAME: accuracy}}.");
  command->callback([flags, kv] { kv->parsed() ? run_kv(*flags) : run(*flags); });
}

}  // namespace nemo::cli
