// Keys as converters write them.
#include "gguf_metadata.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/tokenizer_json_writer.hpp>

namespace nemo {
namespace {

class Sizes {
 public:
  Sizes(GgufWriter& writer, const ModelConfig& config)
      : w_(writer), c_(config), blocks_(config.layers) {
    if (config.mtp.empty()) return;
    LayerConfig& head = blocks_.emplace_back();
    for (const LayerConfig& layer : config.mtp) {
      if (layer.kind == LayerKind::moe) {
        const LayerConfig before = head;
        head = layer;
        head.kv_heads = before.kv_heads;
      } else if (layer.kind == LayerKind::attention) {
        head.kv_heads = layer.kv_heads;
      }
    }
  }

  void write(const std::string& name, std::uint32_t file_type) const {
    w_.add_string("general.architecture", c_.architecture);
    w_.add_string("general.type", "model");
    w_.add_string("general.name", name);
    w_.add_u32("general.quantization_version", 2);
    w_.add_u32("general.file_type", file_type);
    sizes();
    if (c_.has(LayerKind::mamba)) mamba();
    if (c_.has(LayerKind::moe)) experts();
    if (!c_.mtp.empty()) number("nextn_predict_layers", 1);
  }

 private:
  [[nodiscard]] std::string key(const char* name) const { return c_.architecture + "." + name; }
  void number(const char* name, std::int64_t value) const {
    w_.add_u32(key(name), static_cast<std::uint32_t>(value));
  }
  [[nodiscard]] std::vector<std::int32_t> per_layer(std::int64_t LayerConfig::*field) const {
    std::vector<std::int32_t> values;
    for (const LayerConfig& layer : blocks_) {
      values.push_back(static_cast<std::int32_t>(layer.*field));
    }
    return values;
  }
  [[nodiscard]] const LayerConfig* first(LayerKind kind) const {
    for (const LayerConfig& layer : c_.layers) {
      if (layer.kind == kind) return &layer;
    }
    return nullptr;
  }

  void sizes() const {
    number("block_count", static_cast<std::int64_t>(blocks_.size()));
    number("context_length", c_.context_length > 0 ? c_.context_length : 1048576);
    number("embedding_length", c_.hidden);
    number("vocab_size", c_.vocab);
    std::vector<std::int32_t> widths;
    for (const LayerConfig& l : blocks_) {
      widths.push_back(static_cast<std::int32_t>(l.kind == LayerKind::moe ? l.expert_ff : l.ff));
    }
    w_.add_i32s(key("feed_forward_length"), widths);
    w_.add_i32s(key("attention.head_count_kv"), per_layer(&LayerConfig::kv_heads));
    // Cut models may have no attention layer, but readers expect the keys.
    const LayerConfig* attention = first(LayerKind::attention);
    const std::int64_t heads = attention != nullptr ? attention->q_heads : 1;
    const std::int64_t width = attention != nullptr ? attention->head_dim : 128;
    number("attention.head_count", heads);
    number("attention.key_length", width);
    number("attention.value_length", width);
    w_.add_f32(key("attention.layer_norm_rms_epsilon"), c_.norm_eps);
    w_.add_f32(key("attention.layer_norm_epsilon"), c_.norm_eps);
    if (c_.attention_scale != 0.0f) w_.add_f32(key("attention.scale"), c_.attention_scale);
    // Present in converted files and without meaning: there is no rotary embedding.
    w_.add_f32(key("rope.freq_base"), 10000.0f);
    number("rope.dimension_count", c_.hidden / heads);
    w_.add_bool(key("rope.scaling.finetuned"), false);
  }

  void mamba() const {
    number("ssm.conv_kernel", c_.mamba.conv_kernel);
    number("ssm.state_size", c_.mamba.state);
    number("ssm.group_count", c_.mamba.groups);
    number("ssm.inner_size", c_.mamba.inner());
    number("ssm.time_step_rank", c_.mamba.heads);
  }

  /// A number, or an array where the layers differ.
  void number_or_array(const char* name, std::int64_t LayerConfig::*field) const {
    const std::int64_t common = first(LayerKind::moe)->*field;
    for (const LayerConfig& layer : blocks_) {
      if (layer.kind == LayerKind::moe && layer.*field != common) {
        w_.add_i32s(key(name), per_layer(field));
        return;
      }
    }
    number(name, common);
  }

  void experts() const {
    number_or_array("expert_count", &LayerConfig::experts);
    number_or_array("expert_used_count", &LayerConfig::experts_used);
    number_or_array("expert_feed_forward_length", &LayerConfig::expert_ff);
    number_or_array("expert_shared_feed_forward_length", &LayerConfig::shared_ff);
    number("expert_shared_count", first(LayerKind::moe)->shared_ff > 0 ? 1 : 0);
    w_.add_bool(key("expert_weights_norm"), c_.router.normalize);
    w_.add_f32(key("expert_weights_scale"), c_.router.scale);
    number("expert_group_count", c_.router.groups);
    number("expert_group_used_count", c_.router.groups_used);
    if (first(LayerKind::moe)->latent > 0) number_or_array("moe_latent_size", &LayerConfig::latent);
  }

  GgufWriter& w_;
  const ModelConfig& c_;
  std::vector<LayerConfig> blocks_;  // of the file
};

/// Types that say what a tokenizer.json's list of added tokens says.
std::vector<std::int32_t> token_types(const text::TokenizerData& data) {
  std::vector<std::int32_t> types(data.tokens.size(), 1);
  for (std::size_t i = 0; i < data.types.size(); ++i) {
    types[i] = static_cast<std::int32_t>(data.types[i]);
  }
  return types;
}

}  // namespace

void put_gguf_sizes(GgufWriter& writer, const ModelConfig& config, const std::string& name,
                    std::uint32_t file_type) {
  Sizes(writer, config).write(name, file_type);
}

void put_gguf_tokenizer(GgufWriter& writer, const text::TokenizerData& data) {
  const auto pre = text::gguf_name_of(data);
  if (!pre) {
    throw Error(ErrorCode::unsupported,
                "the tokenizer splits text in a way that GGUF files have no name for; keep the "
                "model as a folder");
  }
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_string("tokenizer.ggml.pre", *pre);
  writer.add_strings("tokenizer.ggml.tokens", data.tokens);
  writer.add_i32s("tokenizer.ggml.token_type", token_types(data));
  writer.add_strings("tokenizer.ggml.merges", data.merges);
  const auto id = [&](const char* key, const std::optional<std::int32_t>& value) {
    if (value) writer.add_u32(key, static_cast<std::uint32_t>(*value));
  };
  id("tokenizer.ggml.bos_token_id", data.bos);
  id("tokenizer.ggml.eos_token_id", data.eos);
  for (const std::int32_t end : data.end_ids) {
    if (data.eos == end) continue;
    id("tokenizer.ggml.eot_token_id", end);
    break;
  }
  id("tokenizer.ggml.unknown_token_id", data.unk);
  id("tokenizer.ggml.padding_token_id", data.pad);
  const bool bos = !data.prefix.empty() || data.add_bos.value_or(false);
  if (bos || data.splits || data.add_bos) writer.add_bool("tokenizer.ggml.add_bos_token", bos);
  if (!data.suffix.empty() || data.add_eos) {
    writer.add_bool("tokenizer.ggml.add_eos_token",
                    !data.suffix.empty() || data.add_eos.value_or(false));
  }
}

void put_gguf_sampling(GgufWriter& writer, const SamplingDefaults& sampling) {
  const auto number = [&](const char* key, const std::optional<float>& value) {
    if (value) writer.add_f32(std::string("general.sampling.") + key, *value);
  };
  number("temp", sampling.temperature);
  number("top_p", sampling.top_p);
  number("min_p", sampling.min_p);
  if (sampling.top_k) {
    writer.add_i32("general.sampling.top_k", static_cast<std::int32_t>(*sampling.top_k));
  }
  number("penalty_repeat", sampling.repeat_penalty);
  if (sampling.repeat_last) {
    writer.add_i32("general.sampling.penalty_last_n",
                   static_cast<std::int32_t>(*sampling.repeat_last));
  }
}

}  // namespace nemo
