// nemo info: what a checkpoint is made of and what memory it will take.
#include "src/cli/commands.hpp"
#include "src/cli/cpu_report.hpp"
#include "src/cli/options.hpp"

#include <nemo/base/error.hpp>
#include <nemo/cache/kv_pairing.hpp>
#include <nemo/cache/packed_cache.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/checkpoint/directory_layout.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/checkpoint/quant_mix.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/io/printable.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <omp.h>
#include <optional>

namespace nemo::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InfoFlags {
  std::string model;
  std::string arch;
  std::int64_t context = 0;
  std::string mix;  // empty: what config.json says, else Q4_K_M
  std::string kv;   // a further policy to list
  bool plan = false;
  bool cpu = false;
  bool json = false;
};

/// Parameters and bytes of a class of tensors, by storage type.
struct ClassSummary {
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;
  std::map<std::string, std::int64_t> types;  // tensors of each type

  void add(const std::string& type, std::int64_t elements, std::int64_t stored) {
    parameters += elements;
    bytes += stored;
    ++types[type];
  }
  [[nodiscard]] double bits() const {
    return parameters == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters);
  }
  [[nodiscard]] std::string type_list() const {
    std::string text;
    for (const auto& [name, count] : types) {
      text += (text.empty() ? "" : ", ") + name + " x" + std::to_string(count);
    }
    return text;
  }
};

/// Which part of the model a tensor belongs to, from its canonical name.
const char* class_of(const std::string& name) {
  const auto has = [&name](const char* part) { return name.find(part) != std::string::npos; };
  if (name.starts_with("mtp.")) return "draft head";
  if (has("embeddings.")) return "embeddings";
  if (has("lm_head.")) return "head";
  if (has("shared_experts.")) return "shared experts";
  if (has(".experts.")) return "experts";
  if (has("latent")) return "latent projections";
  if (has("gate.weight")) return "router";
  if (has("in_proj.weight") || has("mixer.out_proj.weight")) return "mamba projections";
  for (const char* part : {"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"}) {
    if (has(part)) return "attention";
  }
  if (has("up_proj.weight") || has("down_proj.weight")) return "mlp";
  return "norms, conv, biases";
}

/// What is printed, gathered from a file or from a plan.
struct Report {
  std::string path;
  std::string container;
  ModelConfig config;
  std::vector<std::pair<std::string, ClassSummary>> classes;
  ClassSummary total;
  Json tokenizer;  // null: none
  std::size_t template_bytes = 0;
  SamplingDefaults sampling;
  std::vector<std::string> ignored;
  bool drafts = false;  // a draft head is there and can be used
  MemoryPlan plan;
  std::vector<std::pair<std::string, std::int64_t>> others;  // bytes of the plan in other types
  std::string paired_kv;  // the policy stored with the model; empty: none
  Json order;             // of the matrices; null: a plan

  void set_order(const Checkpoint& checkpoint);

  void add(const std::string& name, const std::string& type, std::int64_t elements,
           std::int64_t bytes) {
    const std::string label = class_of(name);
    auto it = std::find_if(classes.begin(), classes.end(),
                           [&](const auto& entry) { return entry.first == label; });
    if (it == classes.end()) it = classes.insert(it, {label, {}});
    it->second.add(type, elements, bytes);
    total.add(type, elements, bytes);
  }
};

Json tokenizer_summary(const Checkpoint& checkpoint) {
  try {
    const text::TokenizerData data = checkpoint.tokenizer();
    Json json = {{"tokens", data.tokens.size()},
                 {"merges", data.merges.size()},
                 {"pre", data.pre_name},
                 {"end_ids", data.end_ids}};
    if (data.bos) json["bos"] = *data.bos;
    if (data.eos) json["eos"] = *data.eos;
    if (data.add_bos) json["add_bos"] = *data.add_bos;
    return json;
  } catch (const Error& error) {
    // A model without a usable tokenizer still has sizes worth showing.
    return {{"error", error.what()}};
  }
}

/// How the matrices lie, or would lie once loaded.
void Report::set_order(const Checkpoint& checkpoint) {
  if (const PackInfo* pack = checkpoint.pack()) {
    order = {{"file", order_name(pack->lanes)},
             {"matrices", pack->matrices},
             {"source", pack->source},
             {"made_on", pack->cpu}};
    return;
  }
  const Kernels& kernels = select_kernels();
  const auto tensors = kernel_order_tensors(checkpoint, kernels);
  order = {{"file", order_name(0)},
           {"kernels", kernels.name},
           {"kernel_order", order_name(kernel_order(kernels))},
           {"matrices", tensors.size()},
           {"bytes", bytes_of(tensors)},
           {"repack", !tensors.empty() && worth_repacking(bytes_of(tensors))}};
}

/// "rows8, 20 matrices, from model.gguf, made on AMD EPYC", or what --repack makes of the file.
std::string order_text(const Json& order) {
  const std::string count = std::to_string(order["matrices"].get<std::size_t>()) + " matrices";
  if (order.contains("source")) {
    return order["file"].get<std::string>() + ", " + count + ", from " +
           order["source"].get<std::string>() + ", made on " + order["made_on"].get<std::string>();
  }
  const std::string kernels = "kernels " + order["kernels"].get<std::string>();
  if (order["matrices"] == 0) return "file; " + kernels + " have no other for these matrices";
  const std::string copy = human_bytes(order["bytes"].get<std::int64_t>()) + " of " + count +
                           " in order " + order["kernel_order"].get<std::string>() + " of " +
                           kernels;
  if (order["repack"]) return "loading copies " + copy + " (run: with --repack on)";
  return "file; --repack on would copy " + copy + ", nemo pack does so once";
}

Report report_file(const InfoFlags& flags) {
  const auto checkpoint = open_checkpoint(flags.model);
  Report r;
  r.path = flags.model;
  r.container = checkpoint->container();
  r.config = checkpoint->config();
  for (const TensorRef& tensor : checkpoint->tensors()) {
    r.add(tensor.name, stored_form(tensor), tensor.elements(), tensor.bytes());
  }
  r.tokenizer = tokenizer_summary(*checkpoint);
  r.template_bytes = checkpoint->chat_template().size();
  r.sampling = checkpoint->sampling();
  r.drafts = checkpoint->find("mtp.layers.0.eh_proj.weight") != nullptr;
  if (const KvPolicy kv = resolve_kv("", "", *checkpoint); !kv.origin.empty()) {
    r.paired_kv = kv.name + (kv.means != nullptr ? ", centered" : "") + ", from " + kv.origin;
  }
  r.set_order(*checkpoint);
  r.ignored.assign(checkpoint->ignored().begin(), checkpoint->ignored().end());
  return r;
}

/// The bytes of one tensor of the layout under a directory's recipe, by the type of its codes.
void add_planned(Report& r, const DirectoryRecipe& recipe, const LayoutTensor& tensor) {
  const WeightFormat format = format_of(r.config, recipe, tensor);
  std::int64_t bytes = 0;
  for (const DirectoryTensor& t : directory_tensors(recipe.kind, tensor, 0, format)) {
    bytes += t.bytes();
  }
  r.add(tensor.canonical, describe(format), tensor.elements(), bytes);
}

std::optional<DirectoryRecipe> planned_recipe(const InfoFlags& flags, const ModelConfig& config) {
  if (names_directory_recipe(flags.mix)) return find_directory_recipe(flags.mix);
  if (!flags.mix.empty()) return std::nullopt;
  const auto path = config_path(flags.model);
  if (!path) return std::nullopt;
  return recipe_from_config(read_config_json(*path), config);
}

Report report_plan(const InfoFlags& flags) {
  Report r;
  r.path = flags.model;
  r.config = synth_config(flags.model, 0);
  for (const char* mix : {"Q8_0", "Q4_K_M", "Q2_K"}) {
    r.others.emplace_back(mix, planned_weight_bytes(r.config, mix));
  }
  for (const char* name :
       {"hf-bf16", "oq4e", "mlx-q4g64", "tq3-g64", "tq3a-tq2e-g32", "tqTe-g64"}) {
    r.others.emplace_back(name, planned_directory_bytes(r.config, find_directory_recipe(name)));
  }
  if (const auto recipe = planned_recipe(flags, r.config)) {
    r.container = "plan as directory, " + recipe->name;
    for (const LayoutTensor& tensor : gguf_layout(r.config)) add_planned(r, *recipe, tensor);
    return r;
  }
  const QuantMix& mix = find_quant_mix(flags.mix.empty() ? "Q4_K_M" : flags.mix);
  r.container = "plan as GGUF " + std::string(mix.name);
  MixAssigner types(mix, r.config);
  for (const LayoutTensor& tensor : gguf_layout(r.config)) {
    const DType type = types.next(tensor);
    const std::int64_t rows = tensor.elements() / tensor.dims[0];
    r.add(tensor.canonical, std::string(info(type).name), tensor.elements(),
          rows * row_bytes(type, tensor.dims[0]));
  }
  return r;
}

/// "affine 4 g64" -> "4", "TurboQuant 3 g32" -> "3", "BF16" -> "bf16".
std::string short_form(const std::string& form) {
  const auto first = form.find(' ');
  if (first != std::string::npos) return form.substr(first + 1, form.rfind(' ') - first - 1);
  std::string text = form;
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// "embeddings 8, router bf16, experts 4; 4.70 bpw"
std::string recipe(const Report& r) {
  std::string text;
  for (const auto& [name, summary] : r.classes) {
    if (name == "norms, conv, biases") continue;
    std::string forms;
    for (const auto& [form, count] : summary.types) {
      const std::string form_text = short_form(form);
      if (("/" + forms + "/").find("/" + form_text + "/") == std::string::npos) {
        forms += (forms.empty() ? "" : "/") + form_text;
      }
    }
    text += (text.empty() ? "" : ", ") + name + " " + forms;
  }
  char bits[32];
  std::snprintf(bits, sizeof bits, "; %.2f bpw", r.total.bits());
  return text + bits;
}

Json layer_sizes(const ModelConfig& c) {
  Json json = {{"hidden", c.hidden}, {"vocab", c.vocab}};
  if (c.has(LayerKind::mamba)) {
    json["mamba"] = {{"heads", c.mamba.heads},
                     {"head_dim", c.mamba.head_dim},
                     {"groups", c.mamba.groups},
                     {"state", c.mamba.state},
                     {"conv", c.mamba.conv_kernel}};
  }
  for (const LayerConfig& l : c.layers) {
    if (l.kind == LayerKind::attention && !json.contains("attention")) {
      json["attention"] = {
          {"heads", l.q_heads}, {"kv_heads", l.kv_heads}, {"head_dim", l.head_dim}};
    }
    if (l.kind == LayerKind::mlp && !json.contains("mlp")) json["mlp"] = {{"ff", l.ff}};
    if (l.kind == LayerKind::moe && !json.contains("moe")) {
      json["moe"] = {{"experts", l.experts},     {"experts_used", l.experts_used},
                     {"expert_ff", l.expert_ff}, {"shared_ff", l.shared_ff},
                     {"latent", l.latent},       {"scale", c.router.scale}};
    }
  }
  return json;
}

Json to_json(const Report& r) {
  const ModelConfig& c = r.config;
  Json json;
  json["path"] = r.path;
  json["container"] = r.container;
  json["architecture"] = c.architecture;
  json["name"] = c.name;
  json["layers"] = {
      {"count", c.layers.size()},           {"pattern", c.pattern()},
      {"mamba", c.count(LayerKind::mamba)}, {"attention", c.count(LayerKind::attention)},
      {"mlp", c.count(LayerKind::mlp)},     {"moe", c.count(LayerKind::moe)}};
  json["sizes"] = layer_sizes(c);
  json["context_length"] = c.context_length;
  json["tied_head"] = c.tied_head;
  json["parameters"] = c.parameters();
  json["active_parameters"] = c.active_parameters();
  json["mtp"] = {{"layers", c.mtp.size()}, {"parameters", c.mtp_parameters()}, {"used", r.drafts}};
  json["tensor_bytes"] = r.total.bytes;
  json["bits_per_weight"] = r.total.bits();
  json["recipe"] = recipe(r);
  json["tensor_types"] = r.total.types;
  Json classes = Json::object();
  for (const auto& [name, summary] : r.classes) {
    classes[name] = {{"parameters", summary.parameters},
                     {"bytes", summary.bytes},
                     {"bits_per_weight", summary.bits()},
                     {"types", summary.types}};
  }
  json["classes"] = std::move(classes);
  json["tokenizer"] = r.tokenizer;
  json["chat_template_bytes"] = r.template_bytes;
  Json sampling = Json::object();
  if (r.sampling.temperature) sampling["temperature"] = *r.sampling.temperature;
  if (r.sampling.top_p) sampling["top_p"] = *r.sampling.top_p;
  if (r.sampling.min_p) sampling["min_p"] = *r.sampling.min_p;
  if (r.sampling.top_k) sampling["top_k"] = *r.sampling.top_k;
  json["sampling"] = std::move(sampling);
  if (!r.paired_kv.empty()) json["paired_kv"] = r.paired_kv;
  if (!r.order.is_null()) json["order"] = r.order;
  json["ignored_tensors"] = r.ignored;
  Json kv = Json::object();
  for (const MemoryPlan::Kv& policy : r.plan.kv) {
    kv[policy.policy] = {{"bytes_per_token", policy.bytes_per_token},
                         {"bytes", policy.bytes},
                         {"total", policy.total},
                         {"saved", r.plan.kv[0].bytes - policy.bytes}};
    if (r.plan.physical > 0) {
      kv[policy.policy]["fits"] = r.plan.fits(policy);
      kv[policy.policy]["longest_context"] = r.plan.longest_context(policy);
    }
  }
  json["memory"] = {{"context", r.plan.context},  {"weights", r.plan.weights},
                    {"ssm_state", r.plan.state},  {"scratch", r.plan.scratch},
                    {"kv", std::move(kv)},        {"physical", r.plan.physical},
                    {"verdict", r.plan.verdict()}};
  for (const auto& [name, bytes] : r.others) json["other_types"][name] = bytes;
  return json;
}

std::string grouped(std::int64_t value) {
  std::string text = std::to_string(value);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

void line(const char* label, const std::string& value) {
  std::printf("%-24s %s\n", label, one_line(value).c_str());
}

void print_sizes(const ModelConfig& c) {
  const Json sizes = layer_sizes(c);
  line("hidden, vocab", std::to_string(c.hidden) + ", " + std::to_string(c.vocab) +
                            (c.tied_head ? " (head tied to the embeddings)" : ""));
  for (const char* part : {"mamba", "attention", "mlp", "moe"}) {
    if (!sizes.contains(part)) continue;
    std::string text;
    for (const auto& [key, value] : sizes[part].items()) {
      text += (text.empty() ? "" : ", ") + key + " " + value.dump();
    }
    line(part, text);
  }
}

void print_classes(const Report& r) {
  std::printf("\n%-22s %15s %10s %6s  %s\n", "tensors", "parameters", "bytes", "bpw", "types");
  const auto row = [](const std::string& name, const ClassSummary& s) {
    std::printf("%-22s %15s %10s %6.2f  %s\n", name.c_str(), grouped(s.parameters).c_str(),
                human_bytes(s.bytes).c_str(), s.bits(), s.type_list().c_str());
  };
  for (const auto& [name, summary] : r.classes) row(name, summary);
  row("total", r.total);
}

/// "it fits" for a cache, with the context up to which it does.
std::string room(const MemoryPlan& plan, const MemoryPlan::Kv& kv) {
  if (plan.physical <= 0) return "";
  const std::int64_t longest = plan.longest_context(kv);
  if (longest == 0) return "";
  constexpr std::int64_t kBeyond = 100'000'000;
  if (longest > kBeyond) return "; fits at any context";
  return "; fits up to " + grouped(longest) + " tokens";
}

void print_plan(const Report& r) {
  const MemoryPlan& plan = r.plan;
  std::printf("\nmemory at %s tokens of context\n", grouped(plan.context).c_str());
  line("  weights", human_bytes(plan.weights));
  line("  SSM state", human_bytes(plan.state) + " per sequence");
  line("  scratch", human_bytes(plan.scratch));
  for (const MemoryPlan::Kv& kv : plan.kv) {
    const std::int64_t saved = plan.kv[0].bytes - kv.bytes;
    line(("  KV " + kv.policy).c_str(),
         human_bytes(kv.bytes) + " (" + grouped(std::llround(kv.bytes_per_token)) +
             " bytes per token), " + human_bytes(kv.total) + " in all" +
             (saved > 0 ? ", saves " + human_bytes(saved) : "") + room(plan, kv));
  }
  line("  verdict", plan.verdict());
  if (r.others.empty()) return;
  std::printf("\nweights of other types (--type)\n");
  for (const auto& [name, bytes] : r.others) {
    const std::int64_t total = plan.kv[0].total - plan.weights + bytes;
    const char* fits = plan.physical <= 0 ? "" : total <= plan.usable() ? ", fits" : ", too large";
    line(("  " + name).c_str(), human_bytes(bytes) + ", " + human_bytes(total) + " in all" + fits);
  }
}

void print(const Report& r) {
  const ModelConfig& c = r.config;
  line("file", r.path);
  line("container", r.container);
  line("architecture", c.architecture);
  line("name", c.name);
  line("layers", std::to_string(c.layers.size()) + " (" +
                     std::to_string(c.count(LayerKind::mamba)) + " mamba, " +
                     std::to_string(c.count(LayerKind::attention)) + " attention, " +
                     std::to_string(c.count(LayerKind::mlp)) + " mlp, " +
                     std::to_string(c.count(LayerKind::moe)) + " moe)");
  line("pattern", c.pattern());
  print_sizes(c);
  line("parameters",
       grouped(c.parameters()) + ", " + grouped(c.active_parameters()) + " active per token");
  if (!c.mtp.empty()) {
    line("draft head (MTP)", std::to_string(c.mtp.size()) + " layers, " +
                                 grouped(c.mtp_parameters()) + " parameters; " +
                                 (r.drafts ? "used by --draft-mtp" : "present, skipped"));
  }
  if (c.context_length > 0) line("advertised context", grouped(c.context_length));
  if (r.tokenizer.contains("error")) {
    line("tokenizer", r.tokenizer["error"].get<std::string>());
  } else if (!r.tokenizer.is_null()) {
    line("tokenizer", std::to_string(r.tokenizer["tokens"].get<std::size_t>()) + " tokens, " +
                          std::to_string(r.tokenizer["merges"].get<std::size_t>()) +
                          " merges, pre-tokenizer '" + r.tokenizer["pre"].get<std::string>() +
                          "', ends at " + r.tokenizer["end_ids"].dump());
    line("chat template",
         r.template_bytes > 0 ? std::to_string(r.template_bytes) + " bytes" : "none (built-in)");
  }
  if (!r.paired_kv.empty()) line("paired KV cache", r.paired_kv);
  if (!r.order.is_null()) line("order of weights", order_text(r.order));
  if (!r.ignored.empty()) {
    std::string names;
    for (std::size_t i = 0; i < std::min<std::size_t>(r.ignored.size(), 3); ++i) {
      names += (i > 0 ? ", " : "") + r.ignored[i];
    }
    line("ignored tensors",
         std::to_string(r.ignored.size()) + ": " + names + (r.ignored.size() > 3 ? ", ..." : ""));
  }
  line("recipe", recipe(r));
  print_classes(r);
  print_plan(r);
}

/// Quantized KV caches at the plan's context; a policy that does not fit the model's heads is left
/// out unless the user asked for it.
void add_quantized_kv(MemoryPlan& plan, const ModelConfig& config, const std::string& wanted) {
  std::vector<std::string> policies = {"affine:8", "turbo:8,4", "turbo:8,3", "rotor:4"};
  if (!wanted.empty()) policies.push_back(wanted);
  for (const std::string& text : policies) {
    try {
      const KvPolicy policy = resolve_kv(text, config);
      const bool listed = std::any_of(plan.kv.begin(), plan.kv.end(),
                                      [&](const auto& kv) { return kv.policy == policy.name; });
      if (listed || policy.dense()) continue;
      KvShape shape;
      for (const LayerConfig& layer : config.layers) {
        if (layer.kind != LayerKind::attention) continue;
        shape.layers.push_back({layer.kv_heads, layer.head_dim});
      }
      shape.formats = policy.formats;
      shape.capacity = plan.context;
      const PackedCache cache(shape);       // allocates when tokens arrive
      constexpr std::int64_t kFar = 65536;  // behind the exact first tokens
      const auto bytes = [&cache](std::int64_t tokens) {
        return static_cast<std::int64_t>(cache.bytes(tokens));
      };
      const auto per_token = static_cast<double>(bytes(2 * kFar) - bytes(kFar)) / kFar;
      plan.add_kv(policy.name, per_token, bytes(plan.context));
    } catch (const Error& error) {
      if (text == wanted || error.code() != ErrorCode::unsupported) throw;
    }
  }
}

void run(const InfoFlags& flags) {
  const bool plan = flags.plan || flags.model.ends_with(".json");
  Report report = plan ? report_plan(flags) : report_file(flags);
  std::int64_t context = flags.context;
  if (context == 0) {
    // What a session holds by default.
    constexpr std::int64_t kDefaultMost = 131072;
    context = report.config.context_length > 0 ? report.config.context_length : kDefaultMost;
    context = std::min(context, kDefaultMost);
  }
  report.plan = plan_memory(report.config, report.total.bytes, context, omp_get_max_threads());
  add_quantized_kv(report.plan, report.config, flags.kv);
  if (flags.json) {
    // Names come from files and need not be valid UTF-8.
    std::printf("%s\n",
                to_json(report).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  } else {
    print(report);
  }
}

}  // namespace

void add_info_command(CLI::App& app) {
  auto flags = std::make_shared<InfoFlags>();
  CLI::App* command = app.add_subcommand("info", "Show what a checkpoint is made of");
  add_model_flag(*command, flags->model);
  command->get_option("--model")->required(false)->description(
      "A model's file or folder, or a config.json; with --plan also an architecture name of synth");
  command->add_option("-c,--ctx,--ctx-size", flags->context, "Context length of the memory plan")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 32));
  command->add_flag("--plan", flags->plan, "Plan from sizes alone, without weights");
  command->add_option("--arch", flags->arch, "Plan for an architecture name of synth");
  command->add_option("--type", flags->mix,
                      "Quantization of the plan: what config.json says or else "
                      "Q4_K_M; others are mlx-q4g64, oq4e, tq3a-tq2e-g32, ...; see synth --help");
  command->add_option("--kv", flags->kv, "A further KV cache policy to plan for");
  command->add_flag("--cpu", flags->cpu,
                    "Show this CPU and which kernels it runs, instead of a model");
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags] {
    if (!flags->arch.empty()) {
      flags->model = flags->arch;
      flags->plan = true;
    }
    if (flags->cpu) {
      print_cpu_report(flags->json);
    } else if (flags->model.empty()) {
      throw Error(ErrorCode::usage, "--model is required, or --cpu to see what this machine runs");
    } else {
      run(*flags);
    }
  });
}

}  // namespace nemo::cli
