// The tensor list of a Nemotron-H GGUF, from the model's sizes.
#include <nemo/checkpoint/gguf_layout.hpp>

namespace nemo {
namespace {

class Layout {
 public:
  explicit Layout(const ModelConfig& config) : c_(config), d_(config.hidden) {}

  [[nodiscard]] std::vector<LayoutTensor> build() {
    using enum TensorRole;
    list_.push_back({"token_embd.weight",
                     "embeddings.weight",
                     {d_, c_.vocab},
                     embedding,
                     ModelPart::embeddings});
    list_.push_back({"output_norm.weight", "norm_f.weight", {d_}, norm});
    if (!c_.tied_head) {
      list_.push_back({"output.weight", "lm_head.weight", {d_, c_.vocab}, head, ModelPart::head});
    }
    for (std::size_t i = 0; i < c_.layers.size(); ++i) {
      layer_ = static_cast<int>(i);
      const LayerConfig& l = c_.layers[i];
      list_.push_back({"blk." + std::to_string(layer_) + ".attn_norm.weight",
                       "layers." + std::to_string(layer_) + ".norm.weight",
                       {d_},
                       norm,
                       ModelPart::other,
                       layer_});
      switch (l.kind) {
        case LayerKind::mamba:
          mamba();
          break;
        case LayerKind::attention:
          attention(l);
          break;
        case LayerKind::mlp:
          add("ffn_up.weight", "up_proj.weight", {d_, l.ff}, mixer_in, ModelPart::mlp);
          add("ffn_down.weight", "down_proj.weight", {l.ff, d_}, mixer_out, ModelPart::mlp);
          break;
        case LayerKind::moe:
          moe(l);
          break;
      }
    }
    return std::move(list_);
  }

 private:
  /// Names below "blk.N." and "layers.N.mixer.".
  void add(const char* name, const char* canonical, std::vector<std::int64_t> dims, TensorRole role,
           ModelPart part = ModelPart::other) {
    const std::string number = std::to_string(layer_);
    list_.push_back({"blk." + number + "." + name, "layers." + number + ".mixer." + canonical,
                     std::move(dims), role, part, layer_});
  }

  void mamba() {
    using enum TensorRole;
    const MambaConfig& m = c_.mamba;
    add("ssm_in.weight", "in_proj.weight", {d_, m.in_rows()}, mixer_in, ModelPart::mamba);
    add("ssm_conv1d.weight", "conv1d.weight", {m.conv_kernel, m.conv_channels()}, conv);
    add("ssm_conv1d.bias", "conv1d.bias", {m.conv_channels()}, conv_bias);
    add("ssm_dt.bias", "dt_bias", {m.heads}, dt_bias);
    add("ssm_a", "A", {1, m.heads}, a);
    add("ssm_d", "D", {1, m.heads}, d);
    add("ssm_norm.weight", "norm.weight", {m.inner() / m.groups, m.groups}, norm);
    add("ssm_out.weight", "out_proj.weight", {m.inner(), d_}, mixer_out, ModelPart::mamba);
  }

  void attention(const LayerConfig& l) {
    using enum TensorRole;
    const std::int64_t q = l.q_heads * l.head_dim;
    const std::int64_t kv = l.kv_heads * l.head_dim;
    add("attn_q.weight", "q_proj.weight", {d_, q}, mixer_in, ModelPart::attention);
    add("attn_k.weight", "k_proj.weight", {d_, kv}, mixer_in, ModelPart::attention);
    add("attn_v.weight", "v_proj.weight", {d_, kv}, mixer_in, ModelPart::attention);
    add("attn_output.weight", "o_proj.weight", {q, d_}, mixer_out, ModelPart::attention);
  }

  void moe(const LayerConfig& l) {
    using enum TensorRole;
    const std::int64_t width = l.expert_width(d_);
    add("ffn_gate_inp.weight", "gate.weight", {d_, l.experts}, router);
    add("exp_probs_b.bias", "gate.bias", {l.experts}, router_bias);
    if (l.latent > 0) {
      add("ffn_latent_down.weight", "fc1_latent_proj.weight", {d_, width}, mixer_in,
          ModelPart::latent);
      add("ffn_latent_up.weight", "fc2_latent_proj.weight", {width, d_}, mixer_in,
          ModelPart::latent);
    }
    add("ffn_up_exps.weight", "experts.up_proj.weight", {width, l.expert_ff, l.experts}, mixer_in,
        ModelPart::experts);
    add("ffn_down_exps.weight", "experts.down_proj.weight", {l.expert_ff, width, l.experts},
        mixer_out, ModelPart::experts);
    if (l.shared_ff > 0) {
      add("ffn_up_shexp.weight", "shared_experts.up_proj.weight", {d_, l.shared_ff}, mixer_in,
          ModelPart::shared_experts);
      add("ffn_down_shexp.weight", "shared_experts.down_proj.weight", {l.shared_ff, d_}, mixer_out,
          ModelPart::shared_experts);
    }
  }

  const ModelConfig& c_;
  std::int64_t d_;
  int layer_ = -1;
  std::vector<LayoutTensor> list_;
};

}  // namespace

std::vector<LayoutTensor> gguf_layout(const ModelConfig& config) { return Layout(config).build(); }

std::vector<LayoutTensor> draft_head_layout(const ModelConfig& config) {
  std::vector<LayoutTensor> list;
  if (config.mtp.empty()) return list;
  const std::string block = "blk." + std::to_string(config.layers.size()) + ".";
  const auto keep = [&](LayoutTensor tensor) {
    tensor.name = block + tensor.name;
    tensor.canonical = "mtp.layers." + tensor.canonical;
    tensor.layer = -1;
    list.push_back(std::move(tensor));
  };
  const std::int64_t d = config.hidden;
  keep({"nextn.enorm.weight", "0.enorm.weight", {d}, TensorRole::norm});
  keep({"nextn.hnorm.weight", "0.hnorm.weight", {d}, TensorRole::norm});
  keep({"nextn.eh_proj.weight", "0.eh_proj.weight", {2 * d, d}, TensorRole::mixer_in});
  ModelConfig head = config;  // laid out like a trunk of its own layers
  head.layers = config.mtp;
  for (LayoutTensor& tensor : gguf_layout(head)) {
    if (tensor.layer < 0) continue;
    const bool second_norm = tensor.layer > 0 && tensor.canonical.ends_with(".norm.weight");
    tensor.name = second_norm ? "post_attention_norm.weight"
                              : tensor.name.substr(tensor.name.find('.', 4) + 1);
    tensor.canonical = tensor.canonical.substr(std::string("layers.").size());
    keep(std::move(tensor));
  }
  keep({"nextn.shared_head_norm.weight",
        std::to_string(config.mtp.size() - 1) + ".final_layernorm.weight",
        {d},
        TensorRole::norm});
  return list;
}

std::vector<LayoutTensor> whole_layout(const ModelConfig& config) {
  std::vector<LayoutTensor> list = gguf_layout(config);
  for (LayoutTensor& tensor : draft_head_layout(config)) list.push_back(std::move(tensor));
  return list;
}

}  // namespace nemo
