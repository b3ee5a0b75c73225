// Which tensors a Hugging Face, MLX or TurboQuant-MLX directory of a given model holds, under a
// recipe that says how each part of the model is quantized.
#pragma once

#include <nemo/checkpoint/gguf_layout.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

enum class DirectoryKind : std::uint8_t { hf, mlx, turboquant };

/// How a matrix of a directory is stored.
enum class WeightCode : std::uint8_t {
  bf16,
  fp8,             // ModelOpt: E4M3, one factor
  modelopt_nvfp4,  // ModelOpt: E2M1, E4M3 scales of 16, one factor
  affine,          // MLX: unsigned codes, scale and bias of a group
  mxfp4,           // MLX's floating-point modes
  mxfp8,
  nvfp4,
  turboquant,  // indices into a codebook, rotated groups
};
struct WeightFormat {
  WeightCode code = WeightCode::bf16;
  int bits = 16;  // turboquant: 0 is ternary
  int group = 0;

  friend bool operator==(const WeightFormat&, const WeightFormat&) = default;
};

struct DirectoryRecipe {
  std::string name;
  DirectoryKind kind = DirectoryKind::hf;
  WeightFormat base;  // what config.json calls the default
  std::array<WeightFormat, kModelPartCount> parts{};
  int edge_v_bits = 0;  // of v_proj in the first and last attention layer, unless 0
  std::map<std::string, WeightFormat> modules;  // exceptions by directory_module(), of expert 0

  [[nodiscard]] WeightFormat& of(ModelPart part) { return parts[static_cast<std::size_t>(part)]; }
  [[nodiscard]] const WeightFormat& of(ModelPart part) const {
    return parts[static_cast<std::size_t>(part)];
  }
};

/// By name, case-insensitive; the published ones:
///   hf-bf16, hf-fp8, hf-nvfp4       as NVIDIA's own repositories
///   mlx-bf16, mlx-qB[gG], mlx-mxfp4, mlx-mxfp8, mlx-nvfp4
///   oq4e, oq5e, oq6e, oq8           MLX with protected parts
///   tqB[-gG], tqBa-tqBe[-gG]        TurboQuant; B may be T for ternary, "a" is attention and "e"
///                                   all the rest
/// Throws Error{usage} listing them.
[[nodiscard]] DirectoryRecipe find_directory_recipe(std::string_view name);
/// True when the name is meant to be one of these, not a GGUF mix.
[[nodiscard]] bool names_directory_recipe(std::string_view name) noexcept;

/// What a config.json's own quantization block says, whoever wrote it; nothing when it has none.
/// Throws Error{bad_file}.
[[nodiscard]] std::optional<DirectoryRecipe> recipe_from_config(const nlohmann::ordered_json& json,
                                                                const ModelConfig& config);

/// Every matrix alike. Throws as check_format().
[[nodiscard]] DirectoryRecipe uniform_recipe(DirectoryKind kind, const WeightFormat& format);

/// Throws Error{usage} for bits and groups that nobody can store.
void check_format(const WeightFormat& format);

/// Changes bits by part, "4" (all that are quantized) or "attn=3,experts=2" (parts: embed, head,
/// attn, mamba, mlp, shared, latent, experts; those not named follow the experts when these are
/// named), and the group size unless it is 0. Throws Error{usage}.
void set_bits(DirectoryRecipe& recipe, std::string_view bits, int group);

/// What a tensor of the directory is to the matrix or vector it belongs to.
enum class Plane : std::uint8_t {
  values,  // the numbers themselves
  codes,
  scales,
  biases,
  codebook,
  signs,
  factor,       // one number for the whole matrix
  input_scale,  // of static activation quantization: not used here
};

struct DirectoryTensor {
  std::string name;
  std::string dtype;                // as safetensors spells it
  std::vector<std::int64_t> shape;  // row-major
  Plane plane;
  WeightFormat format;
  std::size_t source;        // in whole_layout()
  std::int64_t expert = -1;  // of a stack that the directory keeps apart

  [[nodiscard]] std::int64_t elements() const noexcept;
  [[nodiscard]] std::int64_t bytes() const noexcept;
};

/// How `tensor` is stored under the recipe; rows that its groups do not divide stay BF16.
[[nodiscard]] WeightFormat format_of(const ModelConfig& config, const DirectoryRecipe& recipe,
                                     const LayoutTensor& tensor);

/// "BF16", "affine 4 g64", "TurboQuant T g32".
[[nodiscard]] std::string describe(const WeightFormat& format);

/// The tensors of one tensor of gguf_layout(): the matrix and what it needs beside it.
[[nodiscard]] std::vector<DirectoryTensor> directory_tensors(DirectoryKind kind,
                                                             const LayoutTensor& tensor,
                                                             std::size_t source,
                                                             const WeightFormat& format);

/// The stem of a module in a directory, without ".weight": "backbone.layers.1.mixer.q_proj".
/// Experts of Hugging Face directories need their number.
[[nodiscard]] std::string directory_module(DirectoryKind kind, std::string_view canonical,
                                           std::int64_t expert = -1);

}  // namespace nemo
