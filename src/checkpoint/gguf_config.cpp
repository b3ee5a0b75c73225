// Sizes of a Nemotron-H model from GGUF metadata.
//
// Layer kind of block i:  head_count_kv[i] = 0 and feed_forward_length[i] = 0: Mamba-2;
//                         feed_forward_length[i] = 0: attention;
//                         else MoE where ffn_gate_inp.weight exists, MLP where not.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>

namespace nemo {
namespace {

constexpr std::int64_t kMaxBlocks = 4096;

class Reader {
 public:
  explicit Reader(const Gguf& gguf) : gguf_(gguf), prefix_(architecture()) {}

  [[nodiscard]] ModelConfig read();

 private:
  [[nodiscard]] std::string architecture() const;
  [[nodiscard]] std::string key(const char* name) const { return prefix_ + "." + name; }
  [[nodiscard]] std::string block(std::int64_t i, const char* name) const {
    return "blk." + std::to_string(i) + "." + name;
  }
  [[nodiscard]] bool has_tensor(std::int64_t i, const char* name) const {
    return gguf_.find_tensor(block(i, name)) != nullptr;
  }
  [[nodiscard]] bool has_nextn(std::int64_t i) const {
    return has_tensor(i, "nextn.eh_proj.weight") || has_tensor(i, "nextn.enorm.weight") ||
           has_tensor(i, "nextn.hnorm.weight") || has_tensor(i, "nextn.shared_head_norm.weight");
  }
  [[nodiscard]] std::int64_t count_trunk_blocks(std::int64_t blocks) const;
  [[nodiscard]] std::int64_t dim(std::int64_t i, const char* name, std::size_t axis) const {
    const GgufTensor* tensor = gguf_.find_tensor(block(i, name));
    return tensor == nullptr ? 0 : tensor->dims[axis];
  }

  /// A per-layer value given as an array or once for all layers.
  struct PerLayer {
    std::vector<std::int64_t> values;
    bool is_array = false;
    [[nodiscard]] bool empty() const { return values.empty(); }
    [[nodiscard]] std::int64_t operator[](std::int64_t i) const {
      if (!is_array) return values[0];
      const auto at = static_cast<std::size_t>(i);
      return at < values.size() ? values[at] : 0;
    }
  };
  [[nodiscard]] PerLayer per_layer(const char* name, bool required) const;
  [[nodiscard]] LayerKind kind(std::int64_t i) const;
  [[nodiscard]] LayerConfig layer(std::int64_t i, LayerKind kind) const;
  void read_draft_head(ModelConfig& c, std::int64_t blocks) const;

  const Gguf& gguf_;
  std::string prefix_;
  std::int64_t blocks_ = 0;
  std::int64_t trunk_ = 0;
  std::int64_t hidden_ = 0;
  PerLayer heads_, kv_heads_, ff_;
  PerLayer experts_, experts_used_, expert_ff_, shared_ff_, latent_;
};

std::string Reader::architecture() const {
  if (const auto type = gguf_.find_string("general.type"); type && *type != "model") {
    throw Error(ErrorCode::unsupported, gguf_.name() + ": this is a GGUF of type " +
                                            in_quotes(*type) + ", not a text model");
  }
  const std::string_view name = gguf_.get_string("general.architecture");
  if (name != "nemotron_h" && name != "nemotron_h_moe" && name != "nemotron_h_omni") {
    throw Error(ErrorCode::unsupported,
                gguf_.name() + ": architecture " + in_quotes(name) +
                    " is not a Nemotron-H model; nemo runs nemotron_h and nemotron_h_moe");
  }
  return std::string(name);
}

Reader::PerLayer Reader::per_layer(const char* name, bool required) const {
  PerLayer out;
  const std::string full = key(name);
  auto values = gguf_.find_ints(full);
  if (!values) {
    if (required) gguf_.fail("key " + in_quotes(full) + " is missing");
    return out;
  }
  out.values = std::move(*values);
  out.is_array = gguf_.find(full)->type == GgufType::array;
  const auto size = static_cast<std::int64_t>(out.values.size());
  if (out.is_array && size != blocks_ && size != trunk_) {
    gguf_.fail("key " + in_quotes(full) + " has " + std::to_string(size) + " values for " +
               std::to_string(blocks_) + " layers");
  }
  return out;
}

std::int64_t Reader::count_trunk_blocks(std::int64_t blocks) const {
  // Newer converters append the draft head as one block, some forks as two; the first block with
  // tensors named nextn.* ends the trunk.
  const std::int64_t draft = gguf_.find_int(key("nextn_predict_layers")).value_or(0);
  if (draft < 0 || draft >= blocks) {
    gguf_.fail("key " + in_quotes(key("nextn_predict_layers")) + " is " + std::to_string(draft) +
               " of " + std::to_string(blocks) + " blocks");
  }
  std::int64_t trunk = blocks - draft;
  const std::int64_t first =
      std::max<std::int64_t>(1, blocks - 2 * std::max<std::int64_t>(1, draft));
  for (std::int64_t i = first; i < trunk; ++i) {
    if (has_nextn(i)) trunk = i;
  }
  return trunk;
}

LayerKind Reader::kind(std::int64_t i) const {
  if (kv_heads_.is_array && ff_.is_array) {
    if (ff_[i] == 0) return kv_heads_[i] == 0 ? LayerKind::mamba : LayerKind::attention;
    return has_tensor(i, "ffn_gate_inp.weight") ? LayerKind::moe : LayerKind::mlp;
  }
  // One value for all layers says nothing about kinds; the tensors do.
  if (has_tensor(i, "ssm_in.weight")) return LayerKind::mamba;
  if (has_tensor(i, "attn_output.weight")) return LayerKind::attention;
  if (has_tensor(i, "ffn_gate_inp.weight")) return LayerKind::moe;
  if (has_tensor(i, "ffn_up.weight")) return LayerKind::mlp;
  gguf_.fail("layer " + std::to_string(i) +
             " has no tensors that tell its kind: the file is "
             "incomplete");
}

LayerConfig Reader::layer(std::int64_t i, LayerKind kind) const {
  LayerConfig l;
  l.kind = kind;
  switch (kind) {
    case LayerKind::mamba:
      break;
    case LayerKind::attention: {
      l.q_heads = heads_[i];
      l.kv_heads = kv_heads_[i];
      const auto width = gguf_.find_int(key("attention.key_length"));
      l.head_dim = width ? *width : (l.q_heads > 0 ? hidden_ / l.q_heads : 0);
      const auto values = gguf_.find_int(key("attention.value_length"));
      if (values && *values != l.head_dim) {
        gguf_.fail("keys and values of different width (" + std::to_string(l.head_dim) + " and " +
                   std::to_string(*values) + ") are not part of Nemotron-H");
      }
      break;
    }
    case LayerKind::mlp:
      l.ff = ff_[i];
      break;
    case LayerKind::moe: {
      if (experts_.empty()) gguf_.fail("key " + in_quotes(key("expert_count")) + " is missing");
      if (experts_used_.empty()) {
        gguf_.fail("key " + in_quotes(key("expert_used_count")) + " is missing");
      }
      l.experts = experts_[i];
      l.experts_used = experts_used_[i];
      l.latent = latent_.empty() ? 0 : latent_[i];
      // Models with experts of different sizes may say so in either key; the tensor decides.
      const std::int64_t own = ff_.is_array ? ff_[i] : 0;
      l.expert_ff = expert_ff_.empty() ? own : expert_ff_[i];
      if (own > 0 && dim(i, "ffn_up_exps.weight", 1) == own) l.expert_ff = own;
      l.shared_ff = dim(i, "ffn_up_shexp.weight", 1);
      if (!shared_ff_.empty() && shared_ff_[i] > 0) l.shared_ff = shared_ff_[i];
      break;
    }
  }
  return l;
}

void Reader::read_draft_head(ModelConfig& c, std::int64_t blocks) const {
  bool attention = false;
  bool experts = false;
  for (std::int64_t i = trunk_; i < blocks; ++i) {
    if (has_tensor(i, "attn_output.weight") && !attention) {
      c.mtp.push_back(layer(i, LayerKind::attention));
      attention = true;
    }
    if (has_tensor(i, "ffn_gate_inp.weight") && !experts) {
      c.mtp.push_back(layer(i, LayerKind::moe));
      experts = true;
    }
  }
  // The block's array entries describe one mixer only; the other's sizes are the trunk's.
  for (LayerConfig& draft : c.mtp) {
    for (const LayerConfig& l : c.layers) {
      if (l.kind != draft.kind) continue;
      if (draft.kv_heads == 0) draft.kv_heads = l.kv_heads;
      if (draft.q_heads == 0) draft.q_heads = l.q_heads;
      if (draft.experts_used == 0) draft.experts_used = l.experts_used;
      if (draft.expert_ff == 0) draft.expert_ff = l.expert_ff;
    }
  }
}

ModelConfig Reader::read() {
  ModelConfig c;
  c.architecture = prefix_;
  c.name = gguf_.find_string("general.name").value_or("");
  hidden_ = c.hidden = gguf_.get_int(key("embedding_length"));
  c.context_length = gguf_.find_int(key("context_length")).value_or(0);
  blocks_ = gguf_.get_int(key("block_count"));
  if (blocks_ < 1 || blocks_ > kMaxBlocks) {
    gguf_.fail("key " + in_quotes(key("block_count")) + " is " + std::to_string(blocks_) +
               ", expected 1 to " + std::to_string(kMaxBlocks));
  }
  trunk_ = count_trunk_blocks(blocks_);

  const GgufTensor* embeddings = gguf_.find_tensor("token_embd.weight");
  if (embeddings == nullptr) gguf_.fail("tensor 'token_embd.weight' is missing");
  c.vocab = gguf_.find_int(key("vocab_size")).value_or(embeddings->dims[1]);
  c.tied_head = gguf_.find_tensor("output.weight") == nullptr;

  for (const char* name : {"attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"}) {
    if (const auto eps = gguf_.find_float(key(name))) {
      c.norm_eps = static_cast<float>(*eps);
      break;
    }
  }
  c.attention_scale = static_cast<float>(gguf_.find_float(key("attention.scale")).value_or(0.0));

  heads_ = per_layer("attention.head_count", false);
  kv_heads_ = per_layer("attention.head_count_kv", true);
  ff_ = per_layer("feed_forward_length", true);
  experts_ = per_layer("expert_count", false);
  experts_used_ = per_layer("expert_used_count", false);
  expert_ff_ = per_layer("expert_feed_forward_length", false);
  shared_ff_ = per_layer("expert_shared_feed_forward_length", false);
  latent_ = per_layer("moe_latent_size", false);
  for (std::int64_t i = 0; i < trunk_; ++i) {
    const LayerKind k = kind(i);
    if (k == LayerKind::attention && heads_.empty()) {
      gguf_.fail("key " + in_quotes(key("attention.head_count")) + " is missing");
    }
    c.layers.push_back(layer(i, k));
  }
  if (c.has(LayerKind::mamba)) {
    MambaConfig& m = c.mamba;
    m.conv_kernel = gguf_.get_int(key("ssm.conv_kernel"));
    m.state = gguf_.get_int(key("ssm.state_size"));
    m.groups = gguf_.get_int(key("ssm.group_count"));
    m.heads = gguf_.get_int(key("ssm.time_step_rank"));
    const std::int64_t inner = gguf_.get_int(key("ssm.inner_size"));
    if (m.heads < 1 || inner % m.heads != 0) {
      gguf_.fail("the Mamba inner size (" + std::to_string(inner) + ") is not a multiple of its " +
                 std::to_string(m.heads) + " heads");
    }
    m.head_dim = inner / m.heads;
  }
  if (c.has(LayerKind::moe)) {
    RouterConfig& r = c.router;
    r.normalize = gguf_.find_bool(key("expert_weights_norm")).value_or(true);
    r.scale = static_cast<float>(gguf_.find_float(key("expert_weights_scale")).value_or(1.0));
    if (r.scale == 0.0f) r.scale = 1.0f;  // written by converters for "none"
    r.groups = gguf_.find_int(key("expert_group_count")).value_or(1);
    if (r.groups == 0) r.groups = 1;
    r.groups_used = gguf_.find_int(key("expert_group_used_count")).value_or(r.groups);
    if (r.groups_used == 0) r.groups_used = r.groups;
  }
  if (!heads_.empty()) read_draft_head(c, blocks_);
  try {
    c.validate();
  } catch (const Error& error) {
    throw Error(error.code(), gguf_.name() + ": " + error.what());
  }
  return c;
}

}  // namespace

ModelConfig config_from_gguf(const Gguf& gguf) { return Reader(gguf).read(); }

}  // namespace nemo
