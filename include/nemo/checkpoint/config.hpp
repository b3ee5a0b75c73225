// What a Nemotron-H model looks like: kinds and sizes of its layers, whatever file it came from.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// A layer is one mixer behind one norm.
enum class LayerKind : std::uint8_t { mamba, attention, mlp, moe };

/// 'M', '*', '-', 'E' as in `hybrid_override_pattern`.
[[nodiscard]] char symbol_of(LayerKind kind) noexcept;

/// Sizes of one layer; only the fields of its kind are set, the others are 0.
struct LayerConfig {
  LayerKind kind = LayerKind::mamba;
  // attention
  std::int64_t q_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  // mlp
  std::int64_t ff = 0;
  // moe
  std::int64_t experts = 0;       // E
  std::int64_t experts_used = 0;  // k
  std::int64_t expert_ff = 0;     // m
  std::int64_t shared_ff = 0;     // s; 0: no shared expert
  std::int64_t latent = 0;        // L of a latent model; 0: the experts read the full width
  [[nodiscard]] std::int64_t expert_width(std::int64_t hidden) const noexcept {
    return latent > 0 ? latent : hidden;
  }
};

/// Sizes common to all Mamba-2 layers.
struct MambaConfig {
  std::int64_t heads = 0;        // H
  std::int64_t head_dim = 0;     // P
  std::int64_t groups = 0;       // G
  std::int64_t state = 0;        // N
  std::int64_t conv_kernel = 0;  // K
  bool conv_bias = true;
  float dt_min = 0.0f;  // clamp of dt; the defaults mean none
  float dt_max = std::numeric_limits<float>::infinity();

  [[nodiscard]] std::int64_t inner() const noexcept { return heads * head_dim; }  // I
  [[nodiscard]] std::int64_t conv_channels() const noexcept {                     // C
    return inner() + 2 * groups * state;
  }
  /// Rows of in_proj: z (I), x (I), B (GN), C (GN), dt (H).
  [[nodiscard]] std::int64_t in_rows() const noexcept { return inner() + conv_channels() + heads; }
};

struct RouterConfig {
  bool normalize = true;    // weights divided by their sum
  float scale = 1.0f;       // then multiplied by this
  std::int64_t groups = 1;  // expert groups; 1 = no group limit
  std::int64_t groups_used = 1;
};

struct ModelConfig {
  std::string architecture;  // "nemotron_h" or "nemotron_h_moe"
  std::string name;
  std::int64_t vocab = 0;
  std::int64_t hidden = 0;          // d
  std::int64_t context_length = 0;  // advertised by the file; nothing depends on it. 0: not said
  float norm_eps = 1e-5f;
  bool tied_head = false;
  float attention_scale = 0.0f;  // 0: 1/sqrt(head_dim)
  MambaConfig mamba;
  RouterConfig router;
  std::vector<LayerConfig> layers;
  std::vector<LayerConfig> mtp;  // layers of the draft head in the file; empty: none

  /// One symbol per layer: "MEM*-".
  [[nodiscard]] std::string pattern() const;
  [[nodiscard]] std::int64_t count(LayerKind kind) const noexcept;
  [[nodiscard]] bool has(LayerKind kind) const noexcept { return count(kind) > 0; }
  [[nodiscard]] float scale_of(const LayerConfig& layer) const noexcept;

  /// Trunk parameters, embeddings and head included.
  [[nodiscard]] std::int64_t parameters() const noexcept;
  /// Those that one token uses: experts_used of experts in each MoE layer.
  [[nodiscard]] std::int64_t active_parameters() const noexcept;
  [[nodiscard]] std::int64_t mtp_parameters() const noexcept;
  /// fp32 recurrent state (S and convolution inputs) of one sequence.
  [[nodiscard]] std::int64_t mamba_state_bytes() const noexcept;
  /// K and V elements that one token adds over all attention layers.
  [[nodiscard]] std::int64_t kv_elements_per_token() const noexcept;

  /// Throws Error{bad_file} naming the first size that is absurd or contradicts another. After it
  /// every product of sizes used by this library fits in 64 bits.
  void validate() const;
};

/// Layers from "MEM*-"; split marks '/' and '|' are skipped. Throws Error{bad_file} on others.
[[nodiscard]] std::vector<LayerKind> parse_pattern(std::string_view pattern);

/// From a Hugging Face config.json, modern or legacy spelling, text models nested in `llm_config`
/// or `text_config` included. Validated. Throws Error{bad_file} naming the key, {unsupported} for
/// another family of models.
[[nodiscard]] ModelConfig config_from_json(const nlohmann::ordered_json& json);

/// The config.json that `model` names: itself when it ends in .json, the one in a folder; nothing
/// for anything else.
[[nodiscard]] std::optional<std::filesystem::path> config_path(const std::string& model);
/// Throws Error{io}, {bad_file}.
[[nodiscard]] nlohmann::ordered_json read_config_json(const std::filesystem::path& path);

/// Parses JSON as Python writes it: bare Infinity, -Infinity and NaN become strings of that name.
/// Throws Error{bad_file} starting with `name`.
[[nodiscard]] nlohmann::ordered_json parse_config_json(std::string_view text,
                                                       const std::string& name);

}  // namespace nemo
