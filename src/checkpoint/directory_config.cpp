// Quantization blocks: MLX's defaults with exceptions by module path, TurboQuant's, ModelOpt's.
#include "directory_config.hpp"

#include <nemo/base/half.hpp>
#include <nemo/tensor/lloyd_max.hpp>

#include <algorithm>

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;

template <std::size_t kHalf>
std::vector<float> symmetric(const std::array<float, kHalf>& half) {
  std::vector<float> levels;
  for (std::size_t i = kHalf; i-- > 0;) levels.push_back(-half[i]);
  levels.insert(levels.end(), half.begin(), half.end());
  for (float& level : levels) level = to_float(to_half(level));
  return levels;
}

const char* mode_of(WeightCode code) {
  switch (code) {
    case WeightCode::mxfp4:
      return "mxfp4";
    case WeightCode::mxfp8:
      return "mxfp8";
    case WeightCode::nvfp4:
      return "nvfp4";
    default:
      return "affine";
  }
}

Json mlx_format(const WeightFormat& f) {
  return {{"group_size", f.group}, {"bits", f.bits}, {"mode", mode_of(f.code)}};
}

/// Calls fn(module path, format) for every matrix; experts of Hugging Face one by one.
template <class Fn>
void for_modules(const ModelConfig& config, const DirectoryRecipe& recipe, Fn fn) {
  for (const LayoutTensor& tensor : whole_layout(config)) {
    if (!tensor.is_matrix()) continue;
    const WeightFormat format = format_of(config, recipe, tensor);
    const bool apart = recipe.kind == DirectoryKind::hf && tensor.part == ModelPart::experts;
    for (std::int64_t e = 0; e < (apart ? tensor.dims[2] : 1); ++e) {
      fn(directory_module(recipe.kind, tensor.canonical, e), format);
    }
  }
}

Json mlx_block(const ModelConfig& config, const DirectoryRecipe& recipe) {
  Json block = mlx_format(recipe.base);
  for_modules(config, recipe, [&](const std::string& path, const WeightFormat& format) {
    if (format == recipe.base) return;
    block[path] = format.code == WeightCode::bf16 ? Json(false) : mlx_format(format);
  });
  return block;
}

Json turboquant_block(const DirectoryRecipe& recipe) {
  const int bits = recipe.base.bits;
  const int attention = recipe.of(ModelPart::attention).bits;
  // A ternary code takes two bits where the tools ask for a width.
  Json block = {{"mode", "turboquant"},
                {"bits", bits == 0 ? 2 : bits},
                {"group_size", recipe.base.group},
                {"use_qjl", false},
                {"rotation", "hadamard"},
                {"rotation_seed", 42},
                {"codebook", turboquant_codebook(bits)}};
  block["attn_bits"] = attention == bits ? Json(nullptr) : Json(attention == 0 ? 2 : attention);
  block["mlp_bits"] = attention == bits ? Json(nullptr) : Json(bits == 0 ? 2 : bits);
  if (recipe.of(ModelPart::experts).bits == 0) block["ternary_experts"] = true;
  return block;
}

/// "FP8" or "NVFP4" when all quantized modules are alike, else "MIXED_PRECISION" with a list.
Json modelopt_block(const ModelConfig& config, const DirectoryRecipe& recipe) {
  Json layers = Json::object();
  Json excluded = Json::array();
  bool uniform = true;
  for_modules(config, recipe, [&](const std::string& path, const WeightFormat& format) {
    if (format.code == WeightCode::bf16) {
      if (path != "backbone.embeddings") excluded.push_back(path);
      return;
    }
    uniform = uniform && format == recipe.base;
    Json entry = {{"quant_algo", format.code == WeightCode::fp8 ? "FP8" : "NVFP4"}};
    if (format.group > 0) entry["group_size"] = format.group;
    // operator[] of an ordered object searches linearly: tens of thousands of experts.
    layers.get_ref<Json::object_t&>().push_back({path, std::move(entry)});
  });
  Json block;
  if (uniform) {
    block["quant_algo"] = recipe.base.code == WeightCode::fp8 ? "FP8" : "NVFP4";
    if (recipe.base.group > 0) block["group_size"] = recipe.base.group;
    block["exclude_modules"] = std::move(excluded);
  } else {
    block["quant_algo"] = "MIXED_PRECISION";
    block["quantized_layers"] = std::move(layers);
  }
  block["kv_cache_quant_algo"] = nullptr;
  return block;
}

}  // namespace

std::vector<float> turboquant_codebook(int bits) {
  switch (bits) {
    case 0: {
      // Three levels: c = E[x | x > c/2] of N(0,1).
      const float c = to_float(to_half(1.22400562f));
      return {-c, 0.0f, c};
    }
    case 1:
      return symmetric(kLloydMaxHalf1);
    case 2:
      return symmetric(kLloydMaxHalf2);
    case 3:
      return symmetric(kLloydMaxHalf3);
    default:
      return symmetric(kLloydMaxHalf4);
  }
}

void put_quantization(Json& json, const ModelConfig& config, const DirectoryRecipe& recipe) {
  if (recipe.base.code == WeightCode::bf16) return;
  switch (recipe.kind) {
    case DirectoryKind::mlx:
      json["quantization"] = mlx_block(config, recipe);
      json["quantization_config"] = json["quantization"];
      break;
    case DirectoryKind::turboquant:
      json["quantization"] = turboquant_block(recipe);
      break;
    case DirectoryKind::hf: {
      Json block = {{"quant_method", "modelopt"}};
      block.update(modelopt_block(config, recipe));
      json["quantization_config"] = std::move(block);
      break;
    }
  }
}

Json hf_quant_config(const ModelConfig& config, const DirectoryRecipe& recipe) {
  if (recipe.kind != DirectoryKind::hf || recipe.base.code == WeightCode::bf16) return nullptr;
  return {{"producer", {{"name", "modelopt"}, {"version", "0.43.0"}}},
          {"quantization", modelopt_block(config, recipe)}};
}

}  // namespace nemo
