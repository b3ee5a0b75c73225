// nemo bench: prefill and decode speed at given depths, beside what the memory could deliver; and
// nemo bench roofline: what the machine and each weight format's product can do.
#include "src/cli/commands.hpp"
#include "src/cli/options.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/machine.hpp>
#include <nemo/engine/benchmark.hpp>
#include <nemo/engine/roofline.hpp>
#include <nemo/version.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <omp.h>

namespace nemo::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BenchFlags {
  std::string model;
  LoadOptions load;
  std::vector<std::string> kv;
  BenchmarkOptions bench;
  bool json = false;
  bool json_lines = false;
};

struct RooflineFlags {
  std::string kernels;
  int threads = 0;
  std::vector<std::string> formats;
  RooflineOptions options;
  bool json_lines = false;
};

/// What a line needs to be understood by itself.
Json origin(const std::string& command) {
  return {{"machine", cpu_name()}, {"nemo", NEMO_VERSION}, {"command", command}};
}

Json profile_json(const BenchmarkResult& r) {
  auto parts = Json::array();
  for (int i = 0; i < Profile::kParts; ++i) {
    const Profile::Entry& e = r.profile[static_cast<Profile::Part>(i)];
    if (e.calls == 0) continue;
    const auto per_token = [&r](double x) { return x / static_cast<double>(r.profiled_tokens); };
    parts.push_back({{"part", Profile::kNames[static_cast<std::size_t>(i)]},
                     {"us_per_token", 1e6 * per_token(e.seconds)},
                     {"product_us_per_token", 1e6 * per_token(e.product_seconds)},
                     {"product_bytes_per_token", per_token(static_cast<double>(e.product_bytes))},
                     {"product_ops_per_token", per_token(static_cast<double>(e.product_ops))}});
  }
  return parts;
}

void print_profile(const BenchmarkResult& r) {
  double total = 0;
  for (int i = 0; i < Profile::kParts; ++i)
    total += r.profile[static_cast<Profile::Part>(i)].seconds;
  std::printf("  %-10s %12s %7s %14s %10s %10s\n", "part", "us/token", "share", "in products",
              "GB/s", "GOPS");
  for (int i = 0; i < Profile::kParts; ++i) {
    const Profile::Entry& e = r.profile[static_cast<Profile::Part>(i)];
    if (e.calls == 0) continue;
    const auto tokens = static_cast<double>(r.profiled_tokens);
    std::printf("  %-10s %12.1f %6.1f%% %14.1f",
                Profile::kNames[static_cast<std::size_t>(i)].data(), 1e6 * e.seconds / tokens,
                100 * e.seconds / total, 1e6 * e.product_seconds / tokens);
    if (e.product_seconds > 0) {
      std::printf(" %10.2f %10.1f", static_cast<double>(e.product_bytes) / e.product_seconds / 1e9,
                  static_cast<double>(e.product_ops) / e.product_seconds / 1e9);
    }
    std::printf("\n");
  }
}

Json result_json(const BenchmarkResult& r, const Model& model) {
  Json json = {{"test", r.test},
               {"depth", r.depth},
               {"tok_s", r.tokens_per_second},
               {"tok_s_sd", r.deviation},
               {"gb_s", r.bytes_per_second / 1e9},
               {"bandwidth_fraction", r.bandwidth_fraction},
               {"kv_bytes", r.kv_bytes},
               {"rss_bytes", r.rss_bytes},
               {"kv", model.kv_policy()},
               {"kernels", model.kernels().name},
               {"order", model.order()},
               {"threads", model.threads()}};
  if (r.drafts.passes > 0) json["drafts"] = drafts_json(r.drafts);
  if (r.profiled_tokens > 0) json["profile"] = profile_json(r);
  return json;
}

void print_row(const BenchmarkResult& r, const std::string& kv) {
  std::printf("%-20s %-10s %8lld %12.2f %8.2f %8.2f %6.0f%% of %5.1f %7.2f GB %7.2f GB\n",
              kv.c_str(), r.test.c_str(), static_cast<long long>(r.depth), r.tokens_per_second,
              r.deviation, r.bytes_per_second / 1e9, 100 * r.bandwidth_fraction,
              r.read_bytes_per_second / 1e9, static_cast<double>(r.kv_bytes) / 1e9,
              static_cast<double>(r.rss_bytes) / 1e9);
  if (r.profiled_tokens > 0) print_profile(r);
  if (r.drafts.passes > 0) std::printf("  %s\n", drafts_text(r.drafts).c_str());
}

void run_bench(const BenchFlags& flags, const std::string& command) {
  validate(flags.bench.draft);
  LoadOptions load_options = flags.load;
  if (load_options.context == 0) {
    std::int64_t longest = 0;
    for (const std::int64_t d : flags.bench.depths) {
      for (const auto* list : {&flags.bench.prompt_tokens, &flags.bench.decode_tokens}) {
        for (const std::int64_t n : *list) longest = std::max(longest, d + n);
      }
    }
    const bool draft = flags.bench.draft.mtp > 0 || flags.bench.draft.lookup > 0;
    if (draft) longest += BenchmarkOptions::kDraftPrompt;
    load_options.context = std::max<std::int64_t>(longest, 1);
  }
  std::vector<std::string> policies = flags.kv;
  if (policies.empty() || !load_options.kv.empty()) policies.push_back(load_options.kv);
  load_options.kv = policies.front();
  std::vector<std::shared_ptr<const Model>> models = {load_model(flags.model, load_options)};
  for (std::size_t i = 1; i < policies.size(); ++i) {
    models.push_back(models.front()->with_kv(policies[i]));
  }
  const Model& first = *models.front();
  const bool table = !flags.json && !flags.json_lines;
  if (table) {
    std::printf("%s, %d threads, kernels %s, order %s\n", flags.model.c_str(), first.threads(),
                std::string(first.kernels().name).c_str(), first.order().c_str());
    std::printf("%-20s %-10s %8s %12s %8s %8s %16s %10s %10s\n", "kv", "test", "depth", "tok/s",
                "+-", "GB/s", "of reading", "kv memory", "peak RSS");
  }
  auto list = Json::array();
  for (const auto& model : models) {
    run_benchmark(*model, flags.bench, [&](const BenchmarkResult& r) {
      if (table) {
        print_row(r, model->kv_policy());
      } else if (flags.json_lines) {
        Json line = result_json(r, *model);
        line["model"] = flags.model;
        line["tok_s_reps"] = r.speeds;
        line["read_gb_s"] = r.read_bytes_per_second / 1e9;
        line.update(origin(command));
        std::printf("%s\n", line.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
      } else {
        list.push_back(result_json(r, *model));
      }
      std::fflush(stdout);
    });
  }
  if (flags.json) std::printf("%s\n", list.dump(2).c_str());
}

std::vector<DType> formats_from(const std::vector<std::string>& names) {
  std::vector<DType> types;
  for (const std::string& name : names) {
    const std::optional<DType> type = dtype_from_name(name);
    if (!type || select_kernels("reference").format(*type).matmul == nullptr) {
      throw Error(ErrorCode::usage, "--format: '" + name + "' is not a format of weights");
    }
    types.push_back(*type);
  }
  if (names.empty()) {
    for (const DTypeInfo& type : all_dtypes()) types.push_back(type.type);
  }
  return types;
}

void run_roofline(const RooflineFlags& flags, const std::string& command) {
  if (flags.threads < 0) throw Error(ErrorCode::usage, "-t: at least 1 thread");
  const std::vector<DType> types = formats_from(flags.formats);
  const Kernels& kernels = select_kernels(flags.kernels);
  const int threads = flags.threads > 0 ? flags.threads : omp_get_max_threads();
  const MachineLimits limits = measure_limits(kernels, threads);
  const auto giga = [](double x) { return x / 1e9; };
  if (flags.json_lines) {
    Json line = {{"kernels", kernels.name},
                 {"threads", threads},
                 {"read_gb_s", giga(limits.read_bytes_per_second)},
                 {"f32_gops", giga(limits.f32_ops_per_second)},
                 {"bf16_gops", giga(limits.bf16_ops_per_second)},
                 {"dot4_gops", giga(limits.dot4_ops_per_second)},
                 {"dot8_gops", giga(limits.dot8_ops_per_second)}};
    line.update(origin(command));
    std::printf("%s\n", line.dump().c_str());
  } else {
    std::printf("%s, %d threads, kernels %s\n", cpu_name().c_str(), threads,
                std::string(kernels.name).c_str());
    std::printf("%-34s %10.1f GB/s\n", "read bandwidth", giga(limits.read_bytes_per_second));
    std::printf("%-34s %10.1f GOPS\n", "float multiply-add", giga(limits.f32_ops_per_second));
    if (limits.bf16_ops_per_second > 0) {
      std::printf("%-34s %10.1f GOPS\n", "bf16 x bf16", giga(limits.bf16_ops_per_second));
    }
    std::printf("%-34s %10.1f GOPS\n", "4-bit codes x int8", giga(limits.dot4_ops_per_second));
    std::printf("%-34s %10.1f GOPS\n", "int8 x int8", giga(limits.dot8_ops_per_second));
    std::printf("\n%-16s %-7s %14s %9s %18s %9s\n", "format", "order", "1 token GB/s", "of read",
                "batch GOPS", "of peak");
  }
  const auto print = [&](const std::string& name, const char* order, const ProductSpeed& s) {
    if (flags.json_lines) {
      const Json line = {{"format", name},
                         {"order", order},
                         {"kernels", kernels.name},
                         {"threads", threads},
                         {"cols", flags.options.cols},
                         {"gb_s", giga(s.bytes_per_second)},
                         {"bandwidth_fraction", s.bandwidth_fraction},
                         {"tokens", flags.options.tokens},
                         {"gops", giga(s.ops_per_second)},
                         {"peak_fraction", s.peak_fraction}};
      std::printf("%s\n", line.dump().c_str());
    } else {
      std::printf("%-16s %-7s %14.2f %8.0f%% %18.1f %8.0f%%\n", name.c_str(), order,
                  giga(s.bytes_per_second), 100 * s.bandwidth_fraction, giga(s.ops_per_second),
                  100 * s.peak_fraction);
    }
    std::fflush(stdout);
  };
  measure_formats(kernels, threads, types, limits, flags.options, [&](const FormatSpeed& s) {
    print(s.name, "file", s.file);
    if (s.kernel) print(s.name, "kernel", *s.kernel);
  });
}

void add_roofline(CLI::App& bench, const std::string& command_line) {
  auto flags = std::make_shared<RooflineFlags>();
  CLI::App* command = bench.add_subcommand(
      "roofline", "Measure the machine's limits, and each weight format's product beside them");
  command->add_option("-t,--threads", flags->threads, "Threads; default: one per core");
  command->add_option("--kernels", flags->kernels, "Kernel table; default: the best of this CPU");
  command
      ->add_option("--format", flags->formats,
                   "Only these weight formats: Q4_0, AFFINE4, TURBO3, E2M1, ...")
      ->delimiter(',');
  command->add_option("--cols", flags->options.cols, "Columns of the matrices")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--tokens", flags->options.tokens, "Tokens of the batch")
      ->check(CLI::Range(1, 1 << 16));
  command->add_flag("--json", flags->json_lines, "Print a line of JSON for each result");
  command->callback([flags, command_line] { run_roofline(*flags, command_line); });
}

}  // namespace

void add_bench_command(CLI::App& app, const std::string& command_line) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand("bench", "Measure prefill and decode speed");
  add_load_flags(*command, flags->model, flags->load, flags->kv);
  command->get_option("--model")->required(false);  // roofline needs none
  command->add_option("-p,--prompt-tokens", flags->bench.prompt_tokens, "Prefill tests, in tokens")
      ->delimiter(',');
  command->add_option("-n,--max-tokens", flags->bench.decode_tokens, "Decode tests, in tokens")
      ->delimiter(',');
  command->add_option("-d,--depth", flags->bench.depths, "Tokens already in the cache")
      ->delimiter(',');
  command->add_option("--chunk", flags->bench.chunk_tokens, "Tokens of a prefill step");
  command->add_option("--reps", flags->bench.repetitions, "Timed repetitions of each test");
  add_draft_flags(*command, flags->bench.draft);
  command->add_flag("--profile", flags->bench.profile, "Also show where the time goes");
  auto* json = command->add_flag("--json", flags->json, "Print a JSON list");
  command
      ->add_flag("--json-lines", flags->json_lines,
                 "Print a line of JSON for each result, with machine and command")
      ->excludes(json);
  command->callback([flags, command, command_line] {
    if (!command->get_subcommands().empty()) return;
    if (flags->model.empty())
      throw Error(ErrorCode::usage, "--model is required; see nemo bench --help");
    run_bench(*flags, command_line);
  });
  add_roofline(*command, command_line);
}

}  // namespace nemo::cli
