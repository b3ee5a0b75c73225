// Maps GGUF tensor names to canonical ones and checks every shape on the way.
#include "pack_header.hpp"
#include "pack_planes.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <unordered_set>

namespace nemo {
namespace {

using Shape = std::vector<std::int64_t>;  // row-major

/// A file's dims (contiguous first) without the ones: {K, 1, C} and {K, C} are the same bytes.
Shape squeezed(const GgufTensor& tensor) {
  Shape shape;
  for (std::size_t d = 4; d-- > 0;) {
    if (tensor.dims[d] != 1) shape.push_back(tensor.dims[d]);
  }
  return shape;
}
Shape squeezed(const Shape& full) {
  Shape shape;
  std::copy_if(full.begin(), full.end(), std::back_inserter(shape), [](auto n) { return n != 1; });
  return shape;
}

/// As GGUF tools print them: contiguous dimension first.
std::string as_dims(const Shape& shape) {
  std::string text = "{";
  for (std::size_t i = shape.size(); i-- > 0;) {
    text += std::to_string(shape[i]) + (i > 0 ? ", " : "}");
  }
  return text;
}

bool is_float(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}
bool is_matrix(DType type) {
  return type != DType::i8 && type != DType::i16 && type != DType::i32 && type != DType::i64 &&
         type != DType::f64;
}

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(Gguf gguf) : gguf_(std::move(gguf)), planes_(gguf_) {
    path_ = gguf_.name();
    if (auto header = read_pack_header(gguf_)) {
      pack_ = std::move(header->info);
      in_kernel_order_ = std::move(header->tensors);
    }
    config_ = config_from_gguf(gguf_);
    matrix("embeddings.weight", "token_embd.weight", {config_.vocab, config_.hidden});
    for (std::size_t i = 0; i < config_.layers.size(); ++i) map_layer(i);
    values("norm_f.weight", "output_norm.weight", {config_.hidden});
    if (!config_.tied_head) {
      matrix("lm_head.weight", "output.weight", {config_.vocab, config_.hidden});
    }
    map_draft_head();
    if (pack_) check_pack();
    for (const GgufTensor& tensor : gguf_.tensors()) {
      if (!used_.contains(tensor.name)) ignore(tensor.name);
    }
  }

  [[nodiscard]] std::string container() const override {
    if (pack_) return "pack, order " + order_name(pack_->lanes) + ", of " + pack_->source;
    std::string text = "GGUF v" + std::to_string(gguf_.version());
    if (gguf_.parts() > 1) text += ", " + std::to_string(gguf_.parts()) + " files";
    return text;
  }
  [[nodiscard]] text::TokenizerData tokenizer() const override;
  [[nodiscard]] std::string chat_template() const override {
    return std::string(gguf_.find_string("tokenizer.chat_template").value_or(""));
  }
  [[nodiscard]] SamplingDefaults sampling() const override;
  [[nodiscard]] KvPairing kv_pairing() const override {
    KvPairing pairing = Checkpoint::kv_pairing();
    if (const auto config = gguf_.find_string("nemo.kv.config")) {
      pairing.config = std::string(*config);
      pairing.config_origin = path_ + ", key nemo.kv.config";
    }
    if (auto means = find_kv_means(gguf_, config_)) pairing.means = std::move(means);
    return pairing;
  }
  void will_need() const override { gguf_.will_need(); }
  void dont_need(std::span<const std::byte> bytes) const override { gguf_.dont_need(bytes); }

 private:
  void ignore(std::string_view name);
  void check_pack();
  void map_layer(std::size_t index);
  void map_draft_head();
  void map_mamba(const std::string& to, const std::string& from);
  void map_attention(const std::string& to, const std::string& from, const LayerConfig& layer);
  void map_moe(const std::string& to, const std::string& from, const LayerConfig& layer);

  [[nodiscard]] const GgufTensor& require(const std::string& name) const {
    if (const GgufTensor* tensor = gguf_.find_tensor(name)) return *tensor;
    gguf_.fail("tensor " + in_quotes(name) + " is missing");
  }
  void check_shape(const GgufTensor& tensor, const Shape& expected) const {
    if (squeezed(tensor) == squeezed(expected)) return;
    Shape found(tensor.dims.begin(), tensor.dims.begin() + std::max(tensor.rank, 1));
    std::reverse(found.begin(), found.end());
    gguf_.fail("tensor " + in_quotes(tensor.name) + " has dims " + as_dims(found) +
               ", the model's sizes ask for " + as_dims(expected));
  }
  void keep(const std::string& canonical, const GgufTensor& tensor, const Shape& shape,
            std::vector<float> scales = {}) {
    TensorRef ref;
    ref.name = canonical;
    ref.stored = tensor.name;
    ref.type = tensor.type;
    ref.rank = static_cast<int>(shape.size());
    std::copy(shape.begin(), shape.end(), ref.shape.begin());
    ref.data = tensor.data;
    ref.scales = std::move(scales);
    if (in_kernel_order_.contains(tensor.name)) ref.lanes = pack_->lanes;
    used_.insert(tensor.name);
    add(std::move(ref));
  }

  /// A matrix, or a stack of them, of any weight format.
  void matrix(const std::string& canonical, const std::string& name, const Shape& shape) {
    if (planes_.contains(name)) {
      std::vector<std::string_view> used;
      TensorRef ref = planes_.find(name, shape, used);
      used_.insert(used.begin(), used.end());
      ref.name = canonical;
      ref.scales = side_scales(name, shape);
      if (in_kernel_order_.contains(name)) ref.lanes = pack_->lanes;
      return add(std::move(ref));
    }
    const GgufTensor& tensor = require(name);
    check_shape(tensor, shape);
    check_matrix(tensor);
    keep(canonical, tensor, shape, side_scales(name, shape));
  }
  void check_matrix(const GgufTensor& tensor) const {
    if (is_matrix(tensor.type)) return;
    gguf_.fail("tensor " + in_quotes(tensor.name) + " has type " +
               std::string(info(tensor.type).name) + ", which cannot hold a weight matrix");
  }
  /// Small vectors that are used as float.
  void values(const std::string& canonical, const std::string& name, const Shape& shape) {
    const GgufTensor& tensor = require(name);
    check_shape(tensor, shape);
    check_float(tensor);
    keep(canonical, tensor, shape);
  }
  void optional_values(const std::string& canonical, const std::string& name, const Shape& shape) {
    if (gguf_.find_tensor(name) != nullptr) values(canonical, name, shape);
  }
  void check_float(const GgufTensor& tensor) const {
    if (is_float(tensor.type)) return;
    gguf_.fail("tensor " + in_quotes(tensor.name) + " has type " +
               std::string(info(tensor.type).name) + ", expected F32, F16 or BF16");
  }
  [[nodiscard]] std::vector<float> side_scales(const std::string& name, const Shape& shape);

  Gguf gguf_;
  PlaneTensors planes_;
  std::unordered_set<std::string_view> in_kernel_order_;
  std::unordered_set<std::string_view> used_;
};

/// Only matrices that products read may lie in kernel order; and the header must be undamaged.
void GgufCheckpoint::check_pack() {
  const auto refuse = [this](std::string_view stored) {
    gguf_.fail("tensor " + in_quotes(stored) + " cannot lie in kernel order " +
               order_name(pack_->lanes) + ": the pack is damaged; make it again with nemo pack");
  };
  for (const TensorRef& tensor : tensors()) {
    if (tensor.lanes != 0 && !fits_kernel_order(*this, tensor, tensor.lanes)) refuse(tensor.stored);
  }
  for (const std::string_view stored : in_kernel_order_) {
    if (!used_.contains(stored)) refuse(stored);
  }
  check_pack_header(gguf_);
  used_.insert(kPackChecksums);
}

/// NVFP4 keeps a second scale beside the matrix: X.scale belongs to X.weight.
std::vector<float> GgufCheckpoint::side_scales(const std::string& name, const Shape& shape) {
  const std::string stem = name.substr(0, name.rfind('.'));
  const GgufTensor* tensor = gguf_.find_tensor(stem + ".scale");
  if (tensor == nullptr) return {};
  const std::int64_t stack = shape.size() > 2 ? shape[0] : 1;
  if (squeezed(*tensor) != Shape{} && squeezed(*tensor) != Shape{stack}) {
    check_shape(*tensor, {stack});
  }
  check_float(*tensor);
  used_.insert(tensor->name);
  TensorRef ref;
  ref.type = tensor->type;
  ref.shape[0] = squeezed(*tensor).empty() ? 1 : stack;
  ref.data = tensor->data;
  std::vector<float> scales = read_floats(ref);
  for (const float scale : scales) {
    if (!std::isfinite(scale)) gguf_.fail("tensor " + in_quotes(tensor->name) + " is not finite");
  }
  return scales;
}

/// A weight or bias that a layer of the trunk has and the network does not use would make it
/// compute something else than its file says.
void GgufCheckpoint::ignore(std::string_view name) {
  if (name.starts_with("blk.") && (name.ends_with(".weight") || name.ends_with(".bias"))) {
    const long long layer = std::atoll(std::string(name.substr(4, 9)).c_str());
    if (layer < static_cast<long long>(config_.layers.size())) {
      throw Error(ErrorCode::unsupported,
                  path_ + ": tensor " + in_quotes(name) +
                      " has no use in a Nemotron-H layer of the sizes that the metadata gives");
    }
  }
  ignored_.emplace_back(name);
}

void GgufCheckpoint::map_mamba(const std::string& to, const std::string& from) {
  const MambaConfig& m = config_.mamba;
  matrix(to + "in_proj.weight", from + "ssm_in.weight", {m.in_rows(), config_.hidden});
  optional_values(to + "in_proj.bias", from + "ssm_in.bias", {m.in_rows()});
  values(to + "conv1d.weight", from + "ssm_conv1d.weight", {m.conv_channels(), m.conv_kernel});
  values(to + "conv1d.bias", from + "ssm_conv1d.bias", {m.conv_channels()});
  values(to + "dt_bias", from + "ssm_dt.bias", {m.heads});
  values(to + "A", from + "ssm_a", {m.heads});
  values(to + "D", from + "ssm_d", {m.heads});
  // Stored as [groups, inner/groups] or flat, the same bytes.
  const GgufTensor& norm = require(from + "ssm_norm.weight");
  if (squeezed(norm) != squeezed(Shape{m.inner()})) {
    check_shape(norm, {m.groups, m.inner() / m.groups});
  }
  check_float(norm);
  keep(to + "norm.weight", norm, {m.inner()});
  matrix(to + "out_proj.weight", from + "ssm_out.weight", {config_.hidden, m.inner()});
  optional_values(to + "out_proj.bias", from + "ssm_out.bias", {config_.hidden});
}

void GgufCheckpoint::map_attention(const std::string& to, const std::string& from,
                                   const LayerConfig& layer) {
  const std::int64_t d = config_.hidden;
  const std::int64_t q = layer.q_heads * layer.head_dim;
  const std::int64_t kv = layer.kv_heads * layer.head_dim;
  const struct {
    const char* name;
    std::int64_t rows;
  } parts[] = {{"q", q}, {"k", kv}, {"v", kv}};
  if (gguf_.find_tensor(from + "attn_qkv.weight") != nullptr) {
    const GgufTensor& fused = require(from + "attn_qkv.weight");
    check_shape(fused, {q + 2 * kv, d});
    check_matrix(fused);
    const auto scales = side_scales(from + "attn_qkv.weight", {q + 2 * kv, d});
    GgufTensor slice = fused;
    for (const auto& part : parts) {
      keep(to + part.name + "_proj.weight", slice, {part.rows, d}, scales);
      slice.data += part.rows * row_bytes(fused.type, d);
    }
  } else {
    for (const auto& part : parts) {
      matrix(to + part.name + "_proj.weight", from + "attn_" + part.name + ".weight",
             {part.rows, d});
      optional_values(to + part.name + "_proj.bias", from + "attn_" + part.name + ".bias",
                      {part.rows});
    }
  }
  matrix(to + "o_proj.weight", from + "attn_output.weight", {d, q});
  optional_values(to + "o_proj.bias", from + "attn_output.bias", {d});
}

void GgufCheckpoint::map_moe(const std::string& to, const std::string& from,
                             const LayerConfig& layer) {
  const std::int64_t d = config_.hidden;
  const std::int64_t width = layer.expert_width(d);
  const std::int64_t e = layer.experts;
  matrix(to + "gate.weight", from + "ffn_gate_inp.weight", {e, d});
  values(to + "gate.bias", from + "exp_probs_b.bias", {e});
  matrix(to + "experts.up_proj.weight", from + "ffn_up_exps.weight", {e, layer.expert_ff, width});
  matrix(to + "experts.down_proj.weight", from + "ffn_down_exps.weight",
         {e, width, layer.expert_ff});
  optional_values(to + "experts.up_proj.bias", from + "ffn_up_exps.bias", {e, 1, layer.expert_ff});
  optional_values(to + "experts.down_proj.bias", from + "ffn_down_exps.bias", {e, 1, width});
  if (layer.shared_ff > 0) {
    matrix(to + "shared_experts.up_proj.weight", from + "ffn_up_shexp.weight",
           {layer.shared_ff, d});
    matrix(to + "shared_experts.down_proj.weight", from + "ffn_down_shexp.weight",
           {d, layer.shared_ff});
    optional_values(to + "shared_experts.up_proj.bias", from + "ffn_up_shexp.bias",
                    {layer.shared_ff});
    optional_values(to + "shared_experts.down_proj.bias", from + "ffn_down_shexp.bias", {d});
  }
  if (layer.latent > 0) {
    // The second spelling is that of ollama's converter.
    const bool in_out = gguf_.find_tensor(from + "ffn_latent_in.weight") != nullptr;
    matrix(to + "fc1_latent_proj.weight",
           from + (in_out ? "ffn_latent_in.weight" : "ffn_latent_down.weight"), {width, d});
    matrix(to + "fc2_latent_proj.weight",
           from + (in_out ? "ffn_latent_out.weight" : "ffn_latent_up.weight"), {d, width});
    optional_values(to + "fc1_latent_proj.bias", from + "ffn_latent_down.bias", {width});
    optional_values(to + "fc2_latent_proj.bias", from + "ffn_latent_up.bias", {d});
  }
}

void GgufCheckpoint::map_layer(std::size_t index) {
  const LayerConfig& layer = config_.layers[index];
  const std::string from = "blk." + std::to_string(index) + ".";
  const std::string base = "layers." + std::to_string(index) + ".";
  const std::string to = base + "mixer.";
  values(base + "norm.weight", from + "attn_norm.weight", {config_.hidden});
  switch (layer.kind) {
    case LayerKind::mamba:
      map_mamba(to, from);
      break;
    case LayerKind::attention:
      map_attention(to, from, layer);
      break;
    case LayerKind::mlp:
      matrix(to + "up_proj.weight", from + "ffn_up.weight", {layer.ff, config_.hidden});
      optional_values(to + "up_proj.bias", from + "ffn_up.bias", {layer.ff});
      matrix(to + "down_proj.weight", from + "ffn_down.weight", {config_.hidden, layer.ff});
      optional_values(to + "down_proj.bias", from + "ffn_down.bias", {config_.hidden});
      break;
    case LayerKind::moe:
      map_moe(to, from, layer);
      break;
  }
}

/// Folded behind the trunk as one block with both mixers, or as one block for each. Heads of other
/// kinds stay unused.
void GgufCheckpoint::map_draft_head() {
  const auto& mtp = config_.mtp;
  if (mtp.size() != 2 || mtp[0].kind != LayerKind::attention || mtp[1].kind != LayerKind::moe) {
    return;
  }
  const std::int64_t d = config_.hidden;
  const auto block = [&](std::size_t i) {
    return "blk." + std::to_string(config_.layers.size() + i) + ".";
  };
  const auto last_with = [&](const char* name) {
    return block(gguf_.find_tensor(block(1) + name) != nullptr ? 1 : 0);
  };
  const std::string attention = block(0);
  if (gguf_.find_tensor(attention + "nextn.eh_proj.weight") == nullptr ||
      gguf_.find_tensor(attention + "attn_output.weight") == nullptr) {
    return;
  }
  const std::string experts = last_with("ffn_gate_inp.weight");
  const std::string to = "mtp.layers.";
  values(to + "0.enorm.weight", attention + "nextn.enorm.weight", {d});
  values(to + "0.hnorm.weight", attention + "nextn.hnorm.weight", {d});
  matrix(to + "0.eh_proj.weight", attention + "nextn.eh_proj.weight", {d, 2 * d});
  values(to + "0.norm.weight", attention + "attn_norm.weight", {d});
  map_attention(to + "0.mixer.", attention, mtp[0]);
  values(to + "1.norm.weight",
         experts + (experts == attention ? "post_attention_norm.weight" : "attn_norm.weight"), {d});
  map_moe(to + "1.mixer.", experts, mtp[1]);
  values(to + "1.final_layernorm.weight",
         last_with("nextn.shared_head_norm.weight") + "nextn.shared_head_norm.weight", {d});
}

text::TokenizerData GgufCheckpoint::tokenizer() const {
  text::TokenizerData data = tokenizer_from_gguf(gguf_);
  pad_vocabulary(data);
  return data;
}

SamplingDefaults GgufCheckpoint::sampling() const {
  const auto number = [this](const char* name) -> std::optional<float> {
    const auto value = gguf_.find_float(std::string("general.sampling.") + name);
    if (!value || !std::isfinite(*value)) return std::nullopt;
    return static_cast<float>(*value);
  };
  SamplingDefaults s;
  s.temperature = number("temp");
  s.top_p = number("top_p");
  s.min_p = number("min_p");
  s.top_k = gguf_.find_int("general.sampling.top_k");
  s.repeat_penalty = number("penalty_repeat");
  s.repeat_last = gguf_.find_int("general.sampling.penalty_last_n");
  return s;
}

}  // namespace

std::shared_ptr<const Checkpoint> checkpoint_from_gguf(Gguf gguf) {
  return std::make_shared<GgufCheckpoint>(std::move(gguf));
}

}  // namespace nemo
