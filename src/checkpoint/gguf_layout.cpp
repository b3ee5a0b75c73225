// The tensor list of a Nemotron-H GGUF, from the model's sizes.
#include <nemo/checkpoint/gguf_layout.hpp>

namespace nemo {
namespace {

class Layout {
 public:
  explicit Layout(const ModelConfig& config) : c_(config), d_(config.hidden) {}

  [[nodiscard]] std::vector<LayoutTensor> build() {
    list_.push_back({"token_embd.weight", {d_, c_.vocab}, TensorRole::embedding});
    list_.push_back({"output_norm.weight", {d_}, TensorRole::norm});
    if (!c_.tied_head) list_.push_back({"output.weight", {d_, c_.vocab}, TensorRole::head});
    for (std::size_t i = 0; i < c_.layers.size(); ++i) {
      layer_ = static_cast<int>(i);
      const LayerConfig& l = c_.layers[i];
      add("attn_norm.weight", {d_}, TensorRole::norm);
      switch (l.kind) {
        case LayerKind::mamba:
          mamba();
          break;
        case LayerKind::attention:
          attention(l);
          break;
        case LayerKind::mlp:
          add("ffn_up.weight", {d_, l.ff}, TensorRole::mixer_in);
          add("ffn_down.weight", {l.ff, d_}, TensorRole::mixer_out);
          break;
        case LayerKind::moe:
          moe(l);
          break;
      }
    }
    return std::move(list_);
  }

 private:
  void add(const char* name, std::vector<std::int64_t> dims, TensorRole role) {
    list_.push_back({"blk." + std::to_string(layer_) + "." + name, std::move(dims), role, layer_});
  }

  void mamba() {
    const MambaConfig& m = c_.mamba;
    add("ssm_in.weight", {d_, m.in_rows()}, TensorRole::mixer_in);
    add("ssm_conv1d.weight", {m.conv_kernel, m.conv_channels()}, TensorRole::conv);
    add("ssm_conv1d.bias", {m.conv_channels()}, TensorRole::conv_bias);
    add("ssm_dt.bias", {m.heads}, TensorRole::dt_bias);
    add("ssm_a", {1, m.heads}, TensorRole::a);
    add("ssm_d", {1, m.heads}, TensorRole::d);
    add("ssm_norm.weight", {m.inner() / m.groups, m.groups}, TensorRole::norm);
    add("ssm_out.weight", {m.inner(), d_}, TensorRole::mixer_out);
  }

  void attention(const LayerConfig& l) {
    const std::int64_t q = l.q_heads * l.head_dim;
    const std::int64_t kv = l.kv_heads * l.head_dim;
    add("attn_q.weight", {d_, q}, TensorRole::mixer_in);
    add("attn_k.weight", {d_, kv}, TensorRole::mixer_in);
    add("attn_v.weight", {d_, kv}, TensorRole::mixer_in);
    add("attn_output.weight", {q, d_}, TensorRole::mixer_out);
  }

  void moe(const LayerConfig& l) {
    const std::int64_t width = l.expert_width(d_);
    add("ffn_gate_inp.weight", {d_, l.experts}, TensorRole::router);
    add("exp_probs_b.bias", {l.experts}, TensorRole::router_bias);
    if (l.latent > 0) {
      add("ffn_latent_down.weight", {d_, width}, TensorRole::mixer_in);
      add("ffn_latent_up.weight", {width, d_}, TensorRole::mixer_in);
    }
    add("ffn_up_exps.weight", {width, l.expert_ff, l.experts}, TensorRole::mixer_in);
    add("ffn_down_exps.weight", {l.expert_ff, width, l.experts}, TensorRole::mixer_out);
    if (l.shared_ff > 0) {
      add("ffn_up_shexp.weight", {d_, l.shared_ff}, TensorRole::mixer_in);
      add("ffn_down_shexp.weight", {l.shared_ff, d_}, TensorRole::mixer_out);
    }
  }

  const ModelConfig& c_;
  std::int64_t d_;
  int layer_ = -1;
  std::vector<LayoutTensor> list_;
};

}  // namespace

std::vector<LayoutTensor> gguf_layout(const ModelConfig& config) { return Layout(config).build(); }

}  // namespace nemo
