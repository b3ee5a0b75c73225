// Binding a checkpoint's tensors to the modules' weights.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/check_scales.hpp>
#include <nemo/model/weights.hpp>

#include <cstring>
#include <omp.h>
#include <string>

namespace nemo {
namespace {

/// Reads tensors of one layer by their short names.
class Binder {
 public:
  Binder(const Checkpoint& checkpoint, const Repacked& repacked, std::string prefix)
      : checkpoint_(checkpoint), repacked_(repacked), prefix_(std::move(prefix)) {}

  [[nodiscard]] Matrix matrix(const char* name) const {
    const TensorRef& t = checkpoint_.tensor(prefix_ + name);
    Matrix m{t.type, t.count(), t.rows(), t.cols(), t.data, t.scales, t.side, t.lanes};
    if (const auto copy = repacked_.places.find(&t); copy != repacked_.places.end()) {
      const MatrixBytes& arrays = copy->second.arrays;
      m.data = arrays.codes;
      m.side.scales = arrays.scales;
      m.side.biases = arrays.biases;
      m.side.parts.clear();
      m.lanes = copy->second.lanes;
    }
    return m;
  }
  [[nodiscard]] Matrix optional_matrix(const char* name) const {
    return checkpoint_.find(prefix_ + name) != nullptr ? matrix(name) : Matrix{};
  }
  [[nodiscard]] std::vector<float> floats(const char* name) const {
    return read_floats(checkpoint_.tensor(prefix_ + name));
  }
  [[nodiscard]] std::vector<float> optional_floats(const char* name) const {
    return checkpoint_.find(prefix_ + name) != nullptr ? floats(name) : std::vector<float>{};
  }

 private:
  const Checkpoint& checkpoint_;
  const Repacked& repacked_;
  std::string prefix_;
};

Mamba2Weights bind_mamba(const Binder& b, const ModelConfig& config) {
  Mamba2Weights w;
  w.shape = config.mamba;
  w.in_proj = b.matrix("mixer.in_proj.weight");
  w.out_proj = b.matrix("mixer.out_proj.weight");
  w.in_bias = b.optional_floats("mixer.in_proj.bias");
  w.out_bias = b.optional_floats("mixer.out_proj.bias");
  w.conv = b.floats("mixer.conv1d.weight");
  w.conv_bias = b.optional_floats("mixer.conv1d.bias");
  w.a = b.floats("mixer.A");
  w.d = b.floats("mixer.D");
  w.dt_bias = b.floats("mixer.dt_bias");
  w.norm = b.floats("mixer.norm.weight");
  w.norm_eps = config.norm_eps;
  return w;
}

AttentionWeights bind_attention(const Binder& b, const ModelConfig& config,
                                const LayerConfig& layer) {
  AttentionWeights w;
  w.q = b.matrix("mixer.q_proj.weight");
  w.k = b.matrix("mixer.k_proj.weight");
  w.v = b.matrix("mixer.v_proj.weight");
  w.o = b.matrix("mixer.o_proj.weight");
  w.q_bias = b.optional_floats("mixer.q_proj.bias");
  w.k_bias = b.optional_floats("mixer.k_proj.bias");
  w.v_bias = b.optional_floats("mixer.v_proj.bias");
  w.o_bias = b.optional_floats("mixer.o_proj.bias");
  w.q_heads = layer.q_heads;
  w.kv_heads = layer.kv_heads;
  w.head_dim = layer.head_dim;
  w.scale = config.scale_of(layer);
  return w;
}

MlpWeights bind_mlp(const Binder& b) {
  return {b.matrix("mixer.up_proj.weight"), b.matrix("mixer.down_proj.weight"),
          b.optional_floats("mixer.up_proj.bias"), b.optional_floats("mixer.down_proj.bias")};
}

MoeWeights bind_moe(const Binder& b, const ModelConfig& config, const LayerConfig& layer,
                    std::vector<AlignedBuffer<float>>& converted) {
  MoeWeights w;
  Matrix gate = b.matrix("mixer.gate.weight");
  if (gate.type != DType::f32) {
    // Expert choice is a comparison of near-equal numbers: its products stay in float.
    AlignedBuffer<float> values(static_cast<std::size_t>(gate.rows * gate.cols));
    const FormatKernels& format = select_kernels("reference").format(gate.type);
    for (std::int64_t r = 0; r < gate.rows; ++r) {
      format.decode_row(gate.view(), r, values.data() + r * gate.cols);
      for (std::int64_t c = 0; c < gate.cols; ++c) {
        values[static_cast<std::size_t>(r * gate.cols + c)] *= gate.scale(0);
      }
    }
    gate = {DType::f32, 1,  gate.rows, gate.cols, reinterpret_cast<const std::byte*>(values.data()),
            {},         {}, 0};
    converted.push_back(std::move(values));
  }
  w.router = {gate,
              b.optional_floats("mixer.gate.bias"),
              layer.experts_used,
              config.router.groups,
              config.router.groups_used,
              config.router.normalize,
              config.router.scale};
  w.up = b.matrix("mixer.experts.up_proj.weight");
  w.down = b.matrix("mixer.experts.down_proj.weight");
  w.shared.up = b.optional_matrix("mixer.shared_experts.up_proj.weight");
  w.shared.down = b.optional_matrix("mixer.shared_experts.down_proj.weight");
  w.latent_down = b.optional_matrix("mixer.fc1_latent_proj.weight");
  w.latent_up = b.optional_matrix("mixer.fc2_latent_proj.weight");
  w.up_bias = b.optional_floats("mixer.experts.up_proj.bias");
  w.down_bias = b.optional_floats("mixer.experts.down_proj.bias");
  w.shared.up_bias = b.optional_floats("mixer.shared_experts.up_proj.bias");
  w.shared.down_bias = b.optional_floats("mixer.shared_experts.down_proj.bias");
  w.latent_down_bias = b.optional_floats("mixer.fc1_latent_proj.bias");
  w.latent_up_bias = b.optional_floats("mixer.fc2_latent_proj.bias");
  return w;
}

MtpWeights bind_mtp(const Checkpoint& checkpoint, ModelWeights& weights) {
  const ModelConfig& config = weights.config;
  const Binder first(checkpoint, weights.repacked, "mtp.layers.0.");
  const Binder second(checkpoint, weights.repacked, "mtp.layers.1.");
  MtpWeights w;
  w.token_norm = first.floats("enorm.weight");
  w.hidden_norm = first.floats("hnorm.weight");
  w.fuse = first.matrix("eh_proj.weight");
  w.attention_norm = first.floats("norm.weight");
  w.attention = bind_attention(first, config, config.mtp[0]);
  w.experts_norm = second.floats("norm.weight");
  w.experts = bind_moe(second, config, config.mtp[1], weights.converted);
  w.final_norm = second.floats("final_layernorm.weight");
  return w;
}

}  // namespace

std::shared_ptr<const ModelWeights> load_weights(std::shared_ptr<const Checkpoint> checkpoint,
                                                 Repacked repacked) {
  check_scales(*checkpoint, omp_get_max_threads());
  auto weights = std::make_shared<ModelWeights>();
  weights->config = checkpoint->config();
  weights->repacked = std::move(repacked);
  const ModelConfig& config = weights->config;
  const Binder top(*checkpoint, weights->repacked, "");
  weights->embeddings = top.matrix("embeddings.weight");
  const Matrix head = top.optional_matrix("lm_head.weight");
  weights->head = head ? head : weights->embeddings;
  weights->final_norm = top.floats("norm_f.weight");
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    const Binder b(*checkpoint, weights->repacked, "layers." + std::to_string(i) + ".");
    LayerWeights w;
    w.norm = b.floats("norm.weight");
    switch (layer.kind) {
      case LayerKind::mamba:
        w.mixer = bind_mamba(b, config);
        break;
      case LayerKind::attention:
        w.mixer = bind_attention(b, config, layer);
        break;
      case LayerKind::mlp:
        w.mixer = bind_mlp(b);
        break;
      case LayerKind::moe:
        w.mixer = bind_moe(b, config, layer, weights->converted);
        break;
    }
    weights->layers.push_back(std::move(w));
  }
  const auto& mtp = weights->config.mtp;
  if (checkpoint->find("mtp.layers.0.eh_proj.weight") != nullptr && mtp.size() == 2 &&
      mtp[0].kind == LayerKind::attention && mtp[1].kind == LayerKind::moe) {
    weights->mtp = bind_mtp(*checkpoint, *weights);
  }
  weights->checkpoint = std::move(checkpoint);
  return weights;
}

}  // namespace nemo
