// The keys of a published config.json, from a ModelConfig.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/config_writer.hpp>

#include <charconv>
#include <cmath>

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;

/// The double that prints as the float does: 1e-05, not 9.99999974e-06.
double plain(float x) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, x).ptr;
  double value = 0;
  std::from_chars(text, end, value);
  return value;
}

const LayerConfig* first(const ModelConfig& c, LayerKind kind) {
  for (const LayerConfig& layer : c.layers) {
    if (layer.kind == kind) return &layer;
  }
  return nullptr;
}

bool same_experts(const LayerConfig& a, const LayerConfig& b) {
  return a.experts == b.experts && a.experts_used == b.experts_used && a.expert_ff == b.expert_ff &&
         a.shared_ff == b.shared_ff && a.latent == b.latent;
}

void put_experts(Json& json, const LayerConfig& l) {
  json["n_routed_experts"] = l.experts;
  json["n_shared_experts"] = l.shared_ff > 0 ? 1 : 0;
  json["num_experts_per_tok"] = l.experts_used;
  json["moe_intermediate_size"] = l.expert_ff;
  json["moe_shared_expert_intermediate_size"] = l.shared_ff;
  if (l.latent > 0) json["moe_latent_size"] = l.latent;
}

/// One entry for each layer, when the MoE layers differ.
Json blocks(const std::vector<LayerConfig>& layers) {
  Json list = Json::array();
  for (const LayerConfig& layer : layers) {
    Json block;
    switch (layer.kind) {
      case LayerKind::mamba:
        block["block_type"] = "mamba";
        break;
      case LayerKind::attention:
        block["block_type"] = "attention";
        break;
      case LayerKind::mlp:
        block["block_type"] = "mlp";
        break;
      case LayerKind::moe:
        block["block_type"] = "moe";
        put_experts(block, layer);
        break;
    }
    list.push_back(std::move(block));
  }
  return list;
}

void put_limit(Json& json, const MambaConfig& m) {
  // Python's JSON spells infinity as a bare word, which JSON proper cannot; a string reads as well.
  const auto bound = [](float x) -> Json {
    return std::isinf(x) ? Json("Infinity") : Json(plain(x));
  };
  if (m.dt_min == 0.0f && std::isinf(m.dt_max)) return;  // the default
  json["time_step_limit"] = {bound(m.dt_min), bound(m.dt_max)};
}

void put_attention(Json& json, const ModelConfig& c) {
  const LayerConfig* l = first(c, LayerKind::attention);
  if (l == nullptr) return;
  for (const LayerConfig& layer : c.layers) {
    if (layer.kind != LayerKind::attention) continue;
    if (layer.q_heads != l->q_heads || layer.kv_heads != l->kv_heads ||
        layer.head_dim != l->head_dim) {
      throw Error(ErrorCode::unsupported,
                  "attention layers of different sizes cannot be written to a config.json");
    }
  }
  const float usual = 1.0f / std::sqrt(static_cast<float>(l->head_dim));
  if (std::abs(c.scale_of(*l) - usual) > 1e-6f * usual) {
    throw Error(ErrorCode::unsupported,
                "an attention scale of " + std::to_string(c.scale_of(*l)) +
                    " cannot be written to a config.json, which implies 1/sqrt(head_dim)");
  }
  json["num_attention_heads"] = l->q_heads;
  json["num_key_value_heads"] = l->kv_heads;
  json["head_dim"] = l->head_dim;
  json["attention_bias"] = false;
  json["attention_dropout"] = 0.0;
}

void put_mamba(Json& json, const ModelConfig& c) {
  if (!c.has(LayerKind::mamba)) return;
  const MambaConfig& m = c.mamba;
  json["mamba_num_heads"] = m.heads;
  json["mamba_head_dim"] = m.head_dim;
  json["n_groups"] = m.groups;
  json["ssm_state_size"] = m.state;
  json["conv_kernel"] = m.conv_kernel;
  json["use_conv_bias"] = m.conv_bias;
  json["chunk_size"] = 128;
  json["mamba_hidden_act"] = "silu";
  json["mamba_proj_bias"] = false;
  json["mamba_ssm_cache_dtype"] = "float32";
  put_limit(json, m);
}

void put_mlp(Json& json, const ModelConfig& c) {
  std::vector<std::int64_t> widths;
  bool same = true;
  for (const LayerConfig& layer : c.layers) {
    if (layer.kind != LayerKind::mlp) continue;
    widths.push_back(layer.ff);
    same = same && layer.ff == widths[0];
  }
  if (!widths.empty() && same) json["intermediate_size"] = widths[0];
  if (!same) json["intermediate_size"] = widths;
  json["mlp_hidden_act"] = "relu2";
  json["mlp_bias"] = false;
}

void put_moe(Json& json, const ModelConfig& c) {
  const LayerConfig* l = first(c, LayerKind::moe);
  if (l == nullptr) return;
  put_experts(json, *l);
  json["moe_shared_expert_overlap"] = true;
  json["norm_topk_prob"] = c.router.normalize;
  json["routed_scaling_factor"] = plain(c.router.scale);
  json["n_group"] = c.router.groups;
  json["topk_group"] = c.router.groups_used;
  for (const LayerConfig& layer : c.layers) {
    if (layer.kind == LayerKind::moe && !same_experts(layer, *l)) {
      json["block_configs"] = blocks(c.layers);
      return;
    }
  }
}

void put_draft_head(Json& json, const ModelConfig& c) {
  if (c.mtp.empty()) return;
  ModelConfig head;
  head.layers = c.mtp;
  json["num_nextn_predict_layers"] = 1;
  json["mtp_hybrid_override_pattern"] = head.pattern();
  const LayerConfig* trunk = first(c, LayerKind::moe);
  const LayerConfig* own = first(head, LayerKind::moe);
  if (own != nullptr && (trunk == nullptr || !same_experts(*trunk, *own))) {
    json["mtp_block_configs"] = blocks(c.mtp);
  }
}

}  // namespace

Json config_to_json(const ModelConfig& c) {
  Json json;
  json["architectures"] = {"NemotronHForCausalLM"};
  json["model_type"] = "nemotron_h";
  json["vocab_size"] = c.vocab;
  json["hidden_size"] = c.hidden;
  json["num_hidden_layers"] = c.layers.size();
  json["hybrid_override_pattern"] = c.pattern();
  if (c.context_length > 0) json["max_position_embeddings"] = c.context_length;
  json["layer_norm_epsilon"] = plain(c.norm_eps);
  json["norm_eps"] = plain(c.norm_eps);
  json["tie_word_embeddings"] = c.tied_head;
  put_attention(json, c);
  put_mamba(json, c);
  put_mlp(json, c);
  put_moe(json, c);
  put_draft_head(json, c);
  json["residual_in_fp32"] = false;
  json["use_bias"] = false;
  json["use_cache"] = true;
  json["torch_dtype"] = "bfloat16";
  return json;
}

}  // namespace nemo
