// nemo eval: accuracy on generated tasks with known answers.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"
#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/chat.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/eval/tasks.hpp>
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
  CLI::Option *no_think = nullptr, *enable = nullptr;
};

void run(const EvalFlags& flags) {
  std::vector<std::vector<eval::Case>> cases;  // made first: a wrong name fails at once
  for (const auto& task : flags.tasks) {
    cases.push_back(eval::make_cases(task, flags.seed, flags.n));
  }
  const auto model = load(flags.model, flags.load);
  ChatOptions options;
  options.generate.sampling.temperature = 0.0F;
  Chat chat(model, options);
  ProgressBar bar("eval", "answers");
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  for (const auto& task : cases) total += task.size();

  nlohmann::ordered_json tasks = nlohmann::ordered_json::object();
  for (std::size_t t = 0; t < cases.size(); ++t) {
    std::size_t correct = 0;
    for (const auto& item : cases[t]) {
      chat.reset();
      const bool forced = flags.think.off || flags.think.enable.has_value();
      chat.thinking(forced ? flags.think.thinking() : item.thinking);
      chat.generate_options().max_tokens = item.max_tokens;
      const ChatReply reply = chat.say(item.prompt);
      const bool right = eval::is_correct(item, reply.content);
      correct += right ? 1 : 0;
      bar.update(++done, total);
      if (flags.verbose && !right) {
        std::fprintf(stderr, "%s: expected %s, got %s\n", item.task.c_str(),
                     in_quotes(item.expected).c_str(), in_quotes(reply.content).c_str());
      }
    }
    const auto n = cases[t].size();
    const double accuracy = n > 0 ? static_cast<double>(correct) / static_cast<double>(n) : 0.0;
    tasks[flags.tasks[t]] = {{"accuracy", accuracy}, {"n", n}};
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
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
