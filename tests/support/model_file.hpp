// A small Nemotron-H GGUF of zeros in memory whose every key and tensor can be changed.
#pragma once

#include "support/gguf_builder.hpp"

#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/checkpoint/gguf_layout.hpp>

#include <functional>
#include <map>
#include <memory>

namespace nemo::test {

/// All four kinds of layers, latent experts, two expert groups.
inline ModelConfig small_config() {
  ModelConfig c;
  c.architecture = "nemotron_h_moe";
  c.vocab = 300;
  c.hidden = 64;
  c.mamba = {.heads = 4, .head_dim = 16, .groups = 2, .state = 8, .conv_kernel = 4};
  c.router = {.normalize = true, .scale = 2.5f, .groups = 2, .groups_used = 1};
  LayerConfig m;
  LayerConfig a{.kind = LayerKind::attention, .q_heads = 4, .kv_heads = 2, .head_dim = 32};
  LayerConfig f;
  f.kind = LayerKind::mlp;
  f.ff = 96;
  LayerConfig e;
  e.kind = LayerKind::moe;
  e.experts = 8;
  e.experts_used = 2;
  e.expert_ff = 96;
  e.shared_ff = 128;
  e.latent = 32;
  c.layers = {m, e, a, f};
  c.validate();
  return c;
}

/// The parts of a model file before they become bytes.
struct ModelFile {
  std::map<std::string, std::function<void(GgufBuilder&, const std::string& full_key)>>
      keys;  // by key without architecture
  std::vector<LayoutTensor> tensors;
  std::map<std::string, DType> types;  // where not F32
  std::string architecture;

  explicit ModelFile(const ModelConfig& c = small_config())
      : tensors(gguf_layout(c)), architecture(c.architecture) {
    std::vector<std::int32_t> ff, kv;
    for (const LayerConfig& l : c.layers) {
      ff.push_back(static_cast<std::int32_t>(l.kind == LayerKind::moe ? l.expert_ff : l.ff));
      kv.push_back(static_cast<std::int32_t>(l.kv_heads));
    }
    number("block_count", static_cast<std::int64_t>(c.layers.size()));
    number("embedding_length", c.hidden);
    number("context_length", 4096);
    number("vocab_size", c.vocab);
    list("feed_forward_length", ff);
    list("attention.head_count_kv", kv);
    real("attention.layer_norm_rms_epsilon", c.norm_eps);
    for (const LayerConfig& l : c.layers) {
      if (l.kind == LayerKind::attention) {
        number("attention.head_count", l.q_heads);
        number("attention.key_length", l.head_dim);
        number("attention.value_length", l.head_dim);
      }
      if (l.kind == LayerKind::moe) {
        number("expert_count", l.experts);
        number("expert_used_count", l.experts_used);
        number("expert_feed_forward_length", l.expert_ff);
        number("expert_shared_feed_forward_length", l.shared_ff);
        if (l.latent > 0) number("moe_latent_size", l.latent);
      }
    }
    number("ssm.conv_kernel", c.mamba.conv_kernel);
    number("ssm.state_size", c.mamba.state);
    number("ssm.group_count", c.mamba.groups);
    number("ssm.inner_size", c.mamba.inner());
    number("ssm.time_step_rank", c.mamba.heads);
    if (c.has(LayerKind::moe)) {
      real("expert_weights_scale", c.router.scale);
      number("expert_group_count", c.router.groups);
      number("expert_group_used_count", c.router.groups_used);
    }
  }

  void number(const std::string& key, std::int64_t value) {
    keys[key] = [value](GgufBuilder& b, const std::string& full_key) {
      b.u32(full_key, static_cast<std::uint32_t>(value));
    };
  }
  void real(const std::string& key, float value) {
    keys[key] = [value](GgufBuilder& b, const std::string& full_key) { b.f32(full_key, value); };
  }
  void list(const std::string& key, const std::vector<std::int32_t>& values) {
    keys[key] = [values](GgufBuilder& b, const std::string& full_key) { b.i32s(full_key, values); };
  }
  void word(const std::string& key, const std::string& value) {
    keys[key] = [value](GgufBuilder& b, const std::string& full_key) { b.string(full_key, value); };
  }
  void drop(const std::string& name) {
    std::erase_if(tensors, [&](const LayoutTensor& t) { return t.name == name; });
  }
  void add(const std::string& name, std::vector<std::int64_t> dims) {
    tensors.push_back({name, name, std::move(dims), TensorRole::norm});
  }
  LayoutTensor& tensor(const std::string& name) {
    for (LayoutTensor& t : tensors) {
      if (t.name == name) return t;
    }
    throw std::runtime_error("no tensor " + name);
  }

  void put_keys(GgufBuilder& b) const {
    b.string("general.architecture", architecture);
    for (const auto& [key, put] : keys) put(b, architecture + "." + key);
  }
  [[nodiscard]] std::vector<std::byte> build() const {
    GgufBuilder b;
    put_keys(b);
    for (const LayoutTensor& t : tensors) {
      const auto type = types.find(t.name);
      b.tensor(t.name, {t.dims.begin(), t.dims.end()},
               type == types.end() ? DType::f32 : type->second);
    }
    return b.build();
  }
};

/// A checkpoint together with the bytes it reads.
struct OpenModel {
  explicit OpenModel(const ModelFile& file)
      : bytes(file.build()), checkpoint(checkpoint_from_gguf(Gguf::from_memory(bytes, "f"))) {}
  std::vector<std::byte> bytes;
  std::shared_ptr<const Checkpoint> checkpoint;
};

}  // namespace nemo::test
