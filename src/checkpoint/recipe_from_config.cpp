// What the quantization block of a config.json says about the modules of a model.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/directory_layout.hpp>
#include <nemo/io/printable.hpp>

#include <fnmatch.h>

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;

constexpr WeightFormat kFp8{WeightCode::fp8, 8, 0};
constexpr WeightFormat kFp4{WeightCode::modelopt_nvfp4, 4, 16};

[[noreturn]] void bad(const std::string& message) {
  throw Error(ErrorCode::bad_file, "config.json: quantization: " + message);
}

const Json* member(const Json& json, const char* key) {
  if (!json.is_object()) return nullptr;
  const auto it = json.find(key);
  return it == json.end() || it->is_null() ? nullptr : &*it;
}

int integer(const Json& json, const char* key, int fallback) {
  const Json* value = member(json, key);
  if (value == nullptr) return fallback;
  if (!value->is_number_unsigned() || value->get<std::uint64_t>() > 4096) {
    bad("key " + in_quotes(key) + " must be a small number");
  }
  return value->get<int>();
}

std::string text(const Json& json, const char* key, const char* fallback) {
  const Json* value = member(json, key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) bad("key " + in_quotes(key) + " must be a string");
  return value->get<std::string>();
}

/// "language_model.model.layers.1.mixer.q_proj" -> "backbone.layers.1.mixer.q_proj"
std::string usual_path(std::string_view path) {
  constexpr std::string_view kOuter = "language_model.";
  constexpr std::string_view kModel = "model.";
  if (path.starts_with(kOuter)) path.remove_prefix(kOuter.size());
  if (path.starts_with(kModel)) return "backbone." + std::string(path.substr(kModel.size()));
  return std::string(path);
}

WeightFormat mlx_format(const Json& json, const WeightFormat& fallback) {
  const std::string mode = text(json, "mode", "affine");
  WeightFormat format;
  if (mode == "affine") {
    format = {WeightCode::affine, integer(json, "bits", fallback.bits),
              integer(json, "group_size", fallback.group)};
  } else if (mode == "mxfp4") {
    format = {WeightCode::mxfp4, 4, 32};
  } else if (mode == "mxfp8") {
    format = {WeightCode::mxfp8, 8, 32};
  } else if (mode == "nvfp4") {
    format = {WeightCode::nvfp4, 4, 16};
  } else {
    bad("mode " + in_quotes(mode) + " is not known");
  }
  check_format(format);
  return format;
}

DirectoryRecipe mlx(const Json& block) {
  DirectoryRecipe recipe = uniform_recipe(DirectoryKind::mlx, mlx_format(block, {{}, 4, 64}));
  for (const auto& [path, own] : block.items()) {
    if (own.is_object()) recipe.modules[usual_path(path)] = mlx_format(own, recipe.base);
    if (own == false) recipe.modules[usual_path(path)] = {};
  }
  return recipe;
}

/// Tools that write these files pick bits by path: attention, what has "mlp" in its name (of
/// Nemotron's modules only switch_mlp, the routed experts), and the rest.
DirectoryRecipe turboquant(const Json& block, const ModelConfig& config) {
  const WeightFormat base{WeightCode::turboquant, integer(block, "bits", 4),
                          integer(block, "group_size", 64)};
  DirectoryRecipe recipe = uniform_recipe(DirectoryKind::turboquant, base);
  recipe.of(ModelPart::embeddings) = {};
  recipe.of(ModelPart::attention).bits = integer(block, "attn_bits", base.bits);
  recipe.of(ModelPart::experts).bits = integer(block, "mlp_bits", base.bits);
  recipe.of(ModelPart::experts).group = integer(block, "mlp_group_size", base.group);
  const Json* ternary = member(block, "ternary_experts");
  if (ternary != nullptr && *ternary == true) recipe.of(ModelPart::experts).bits = 0;
  const WeightFormat experts = recipe.of(ModelPart::experts);
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string stem = "backbone.layers." + std::to_string(i) + ".mixer.switch_mlp.fc";
    WeightFormat down = experts;
    down.bits = integer(block, "expert_down_bits", down.bits);
    if (down != experts) recipe.modules[stem + "2"] = down;
  }
  if (const Json* layers = member(block, "protected_expert_layers"); layers != nullptr) {
    WeightFormat format = experts;
    format.bits = integer(block, "protect_bits", format.bits);
    for (const Json& layer : *layers) {
      const std::string stem = "backbone.layers." + layer.dump() + ".mixer.switch_mlp.fc";
      recipe.modules[stem + "1"] = recipe.modules[stem + "2"] = format;
    }
  }
  for (const WeightFormat& format : recipe.parts) check_format(format);
  for (const auto& [path, format] : recipe.modules) check_format(format);
  return recipe;
}

WeightFormat modelopt_format(const std::string& algorithm) {
  if (algorithm == "FP8") return kFp8;
  if (algorithm == "NVFP4" || algorithm == "W4A16_NVFP4") return kFp4;
  bad("'quant_algo' " + in_quotes(algorithm) + " is not known; known are FP8 and NVFP4");
}

/// Either one algorithm with a list of modules it leaves out, or a list of modules with theirs.
DirectoryRecipe modelopt(const Json& block, const ModelConfig& config) {
  const std::string algorithm = text(block, "quant_algo", "");
  if (const Json* layers = member(block, "quantized_layers"); layers != nullptr) {
    DirectoryRecipe recipe = uniform_recipe(DirectoryKind::hf, {});
    for (const auto& [path, own] : layers->items()) {
      recipe.modules[usual_path(path)] = modelopt_format(text(own, "quant_algo", ""));
    }
    recipe.base = kFp4;
    return recipe;
  }
  DirectoryRecipe recipe = uniform_recipe(DirectoryKind::hf, modelopt_format(algorithm));
  recipe.of(ModelPart::embeddings) = {};
  for (const char* key : {"exclude_modules", "ignore"}) {
    const Json* globs = member(block, key);
    if (globs == nullptr) continue;
    for (const LayoutTensor& tensor : gguf_layout(config)) {
      if (!tensor.is_matrix()) continue;
      const std::string path = directory_module(DirectoryKind::hf, tensor.canonical, 0);
      for (const Json& glob : *globs) {
        if (!glob.is_string()) continue;
        const std::string pattern = usual_path(glob.get_ref<const std::string&>());
        if (::fnmatch(pattern.c_str(), path.c_str(), 0) == 0) recipe.modules[path] = {};
      }
    }
  }
  return recipe;
}

}  // namespace

std::optional<DirectoryRecipe> recipe_from_config(const Json& json, const ModelConfig& config) {
  for (const char* key : {"llm_config", "text_config"}) {
    if (const Json* nested = member(json, key)) {
      if (auto recipe = recipe_from_config(*nested, config)) return recipe;
    }
  }
  const Json* block = member(json, "quantization");
  if (block == nullptr) block = member(json, "quantization_config");
  if (block == nullptr) return std::nullopt;
  if (!block->is_object()) bad("expected an object");
  DirectoryRecipe recipe;
  if (text(*block, "mode", "") == "turboquant") {
    recipe = turboquant(*block, config);
  } else if (member(*block, "quant_algo") != nullptr) {
    recipe = modelopt(*block, config);
  } else {
    recipe = mlx(*block);
  }
  recipe.name = "as config.json says";
  return recipe;
}

}  // namespace nemo
