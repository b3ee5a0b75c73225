// Maps the tensor names of Hugging Face and MLX folders to canonical ones, and reads the folder's
// tokenizer, chat template and sampling defaults.
#include "stored_matrices.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/folder_checkpoint.hpp>
#include <nemo/io/printable.hpp>
#include <nemo/text/tokenizer_json.hpp>

#include <algorithm>
#include <cmath>

namespace nemo {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string read_file(const fs::path& path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.size()};
}
/// Empty when the folder has no such file.
std::string read_optional(const fs::path& folder, const char* name) {
  std::error_code ignored;
  if (folder.empty() || !fs::exists(folder / name, ignored)) return {};
  return read_file(folder / name);
}

class FolderCheckpoint final : public Checkpoint {
 public:
  explicit FolderCheckpoint(ModelFolder folder)
      : folder_(std::move(folder)),
        json_(parse_config_json(folder_.config, folder_.name + ": config.json")),
        stored_(folder_.weights, json_, folder_.name) {
    path_ = folder_.name;
    try {
      config_ = config_from_json(json_);
    } catch (const Error& error) {
      throw Error(error.code(), folder_.name + ": " + error.what());
    }
    find_prefix();
    map_trunk();
    map_draft_head();
    check_leftovers();
  }

  [[nodiscard]] std::string container() const override {
    std::string text;
    for (const auto& [kind, count] : stored_.kinds()) text += (text.empty() ? "" : " + ") + kind;
    if (text.empty()) text = "unquantized";
    const std::size_t files = folder_.weights.files();
    return "safetensors, " + text +
           (files > 1 ? ", " + std::to_string(files) + " files" : std::string());
  }
  [[nodiscard]] text::TokenizerData tokenizer() const override;
  [[nodiscard]] std::string chat_template() const override;
  [[nodiscard]] SamplingDefaults sampling() const override;
  void will_need() const override { folder_.weights.will_need(); }
  void dont_need(std::span<const std::byte> bytes) const override {
    folder_.weights.dont_need(bytes);
  }

 private:
  void find_prefix();
  void map_trunk();
  void map_draft_head();
  void map_layer(const std::string& from, const std::string& to, const LayerConfig& layer);
  void map_mamba(const std::string& from, const std::string& to);
  void map_attention(const std::string& from, const std::string& to, const LayerConfig& layer);
  void map_moe(const std::string& from, const std::string& to, const LayerConfig& layer);
  void map_experts(const std::string& from, const std::string& to, const char* name,
                   const char* mlx_name, std::int64_t count, std::int64_t rows, std::int64_t cols);
  void map_expert_biases(const std::string& from, const std::string& to, const char* name,
                         const std::string& stacked, std::int64_t count, std::int64_t rows);
  void check_leftovers();

  void keep(const std::string& canonical, TensorRef ref) {
    ref.name = canonical;
    add(std::move(ref));
  }
  void matrix(const std::string& to, const std::string& from, std::int64_t rows,
              std::int64_t cols) {
    keep(to + ".weight", stored_.matrix(from, 0, rows, cols));
  }
  /// One whose rows are read as they are. A rotation can only be undone in a product.
  void unrotated(const std::string& to, const std::string& from, std::int64_t rows,
                 std::int64_t cols) {
    TensorRef ref = stored_.matrix(from, 0, rows, cols);
    if (ref.side.rotation != nullptr) {
      throw Error(ErrorCode::unsupported,
                  folder_.name + ": module " + in_quotes(from) +
                      " is stored rotated, which TurboQuant-MLX does to no embedding or router; "
                      "convert the model again with this module unquantized");
    }
    keep(to + ".weight", std::move(ref));
  }
  void values(const std::string& to, const std::string& from,
              const std::vector<std::int64_t>& shape) {
    keep(to, stored_.values(from, shape));
  }
  void optional_bias(const std::string& to, const std::string& from, std::int64_t rows) {
    if (stored_.has(from + ".bias")) values(to + ".bias", from + ".bias", {rows});
  }
  [[nodiscard]] Json small_json(const char* name) const {
    const std::string text = read_optional(folder_.folder, name);
    return text.empty() ? Json::object() : parse_config_json(text, folder_.name + ": " + name);
  }

  ModelFolder folder_;
  Json json_;
  StoredMatrices stored_;
  std::string prefix_;                  // of the trunk's tensors: "backbone."
  std::string outer_;                   // of lm_head and mtp: "" or "language_model."
  std::string embeddings_;              // the module
  std::deque<std::vector<float>> own_;  // A of each Mamba layer, biases of experts that lie apart
};

void FolderCheckpoint::find_prefix() {
  for (const char* outer : {"", "language_model."}) {
    for (const char* inner : {"backbone.", "model.", ""}) {
      for (const char* name : {"embeddings", "embedding", "embed_tokens"}) {
        const std::string prefix = std::string(outer) + inner;
        if (!stored_.has(prefix + name + ".weight")) continue;
        prefix_ = prefix;
        outer_ = outer;
        embeddings_ = prefix + name;
        return;
      }
    }
  }
  stored_.fail("tensor 'backbone.embeddings.weight' is missing");
}

void FolderCheckpoint::map_trunk() {
  unrotated("embeddings", embeddings_, config_.vocab, config_.hidden);
  for (std::size_t i = 0; i < config_.layers.size(); ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    map_layer(prefix_ + layer, layer, config_.layers[i]);
  }
  values("norm_f.weight", prefix_ + "norm_f.weight", {config_.hidden});
  if (!config_.tied_head) matrix("lm_head", outer_ + "lm_head", config_.vocab, config_.hidden);
}

/// Ports to MLX leave the draft head out but keep its sizes in config.json.
void FolderCheckpoint::map_draft_head() {
  const std::string from = outer_ + "mtp.layers.";
  if (config_.mtp.empty() || !stored_.has(from + "0.eh_proj.weight")) {
    config_.mtp.clear();
    return;
  }
  const std::int64_t d = config_.hidden;
  const std::string to = "mtp.layers.";
  values(to + "0.enorm.weight", from + "0.enorm.weight", {d});
  values(to + "0.hnorm.weight", from + "0.hnorm.weight", {d});
  matrix(to + "0.eh_proj", from + "0.eh_proj", d, 2 * d);
  for (std::size_t i = 0; i < config_.mtp.size(); ++i) {
    const std::string layer = std::to_string(i) + ".";
    map_layer(from + layer, to + layer, config_.mtp[i]);
  }
  const std::string last = std::to_string(config_.mtp.size() - 1) + ".final_layernorm.weight";
  values(to + last, from + last, {d});
}

void FolderCheckpoint::map_layer(const std::string& from, const std::string& to,
                                 const LayerConfig& layer) {
  const std::int64_t d = config_.hidden;
  values(to + "norm.weight", from + "norm.weight", {d});
  const std::string from_mixer = from + "mixer.";
  const std::string to_mixer = to + "mixer.";
  switch (layer.kind) {
    case LayerKind::mamba:
      map_mamba(from_mixer, to_mixer);
      break;
    case LayerKind::attention:
      map_attention(from_mixer, to_mixer, layer);
      break;
    case LayerKind::mlp:
      matrix(to_mixer + "up_proj", from_mixer + "up_proj", layer.ff, d);
      optional_bias(to_mixer + "up_proj", from_mixer + "up_proj", layer.ff);
      matrix(to_mixer + "down_proj", from_mixer + "down_proj", d, layer.ff);
      optional_bias(to_mixer + "down_proj", from_mixer + "down_proj", d);
      break;
    case LayerKind::moe:
      map_moe(from_mixer, to_mixer, layer);
      break;
  }
}

void FolderCheckpoint::map_mamba(const std::string& from, const std::string& to) {
  const MambaConfig& m = config_.mamba;
  matrix(to + "in_proj", from + "in_proj", m.in_rows(), config_.hidden);
  optional_bias(to + "in_proj", from + "in_proj", m.in_rows());
  // [C, 1, K] or, in MLX files, [C, K, 1]: the same bytes.
  values(to + "conv1d.weight", from + "conv1d.weight", {m.conv_channels(), m.conv_kernel});
  if (m.conv_bias) values(to + "conv1d.bias", from + "conv1d.bias", {m.conv_channels()});
  values(to + "dt_bias", from + "dt_bias", {m.heads});
  const std::vector<float>& decay = own_.emplace_back(stored_.decay(from + "A_log", m.heads));
  TensorRef a;
  a.stored = from + "A_log";
  a.shape[0] = m.heads;
  a.data = reinterpret_cast<const std::byte*>(decay.data());
  keep(to + "A", std::move(a));
  values(to + "D", from + "D", {m.heads});
  values(to + "norm.weight", from + "norm.weight", {m.inner()});
  matrix(to + "out_proj", from + "out_proj", config_.hidden, m.inner());
  optional_bias(to + "out_proj", from + "out_proj", config_.hidden);
}

void FolderCheckpoint::map_attention(const std::string& from, const std::string& to,
                                     const LayerConfig& layer) {
  const std::int64_t d = config_.hidden;
  const std::int64_t q = layer.q_heads * layer.head_dim;
  const std::int64_t kv = layer.kv_heads * layer.head_dim;
  const struct {
    const char* name;
    std::int64_t rows, cols;
  } parts[] = {{"q_proj", q, d}, {"k_proj", kv, d}, {"v_proj", kv, d}, {"o_proj", d, q}};
  for (const auto& part : parts) {
    matrix(to + part.name, from + part.name, part.rows, part.cols);
    optional_bias(to + part.name, from + part.name, part.rows);
  }
}

/// Stacked as MLX does it, fused as newer exports of transformers do it, or one module an expert.
void FolderCheckpoint::map_experts(const std::string& from, const std::string& to, const char* name,
                                   const char* mlx_name, std::int64_t count, std::int64_t rows,
                                   std::int64_t cols) {
  const std::string stacked = from + "switch_mlp." + mlx_name;
  const std::string fused = from + "experts." + name;
  const std::string canonical = to + "experts." + name + ".weight";
  if (stored_.has(stacked + ".weight")) {
    keep(canonical, stored_.matrix(stacked, count, rows, cols));
  } else if (stored_.has(fused) || stored_.has(fused + ".weight")) {
    keep(canonical, stored_.matrix(fused, count, rows, cols));
  } else {
    keep(canonical,
         stored_.scattered(from + "experts.", std::string(".") + name, count, rows, cols));
  }
  map_expert_biases(from, to, name, stored_.has(stacked + ".bias") ? stacked : fused, count, rows);
}

void FolderCheckpoint::map_expert_biases(const std::string& from, const std::string& to,
                                         const char* name, const std::string& stacked,
                                         std::int64_t count, std::int64_t rows) {
  const std::string canonical = to + "experts." + name + ".bias";
  if (stored_.has(stacked + ".bias")) {
    values(canonical, stacked + ".bias", {count, 1, rows});
    return;
  }
  const auto apart = [&](std::int64_t j) {
    return from + "experts." + std::to_string(j) + "." + name + ".bias";
  };
  if (!stored_.has(apart(0))) return;
  std::vector<float>& all = own_.emplace_back();
  for (std::int64_t j = 0; j < count; ++j) {
    const std::vector<float> one = read_floats(stored_.values(apart(j), {rows}));
    all.insert(all.end(), one.begin(), one.end());
  }
  TensorRef ref;
  ref.stored = apart(0);
  ref.rank = 3;
  ref.shape = {count, 1, rows};
  ref.data = reinterpret_cast<const std::byte*>(all.data());
  keep(canonical, std::move(ref));
}

void FolderCheckpoint::map_moe(const std::string& from, const std::string& to,
                               const LayerConfig& layer) {
  const std::int64_t d = config_.hidden;
  const std::int64_t width = layer.expert_width(d);
  unrotated(to + "gate", from + "gate", layer.experts, d);
  values(to + "gate.bias", from + "gate.e_score_correction_bias", {layer.experts});
  map_experts(from, to, "up_proj", "fc1", layer.experts, layer.expert_ff, width);
  map_experts(from, to, "down_proj", "fc2", layer.experts, width, layer.expert_ff);
  if (layer.shared_ff > 0) {
    const std::string shared = "shared_experts.";
    matrix(to + shared + "up_proj", from + shared + "up_proj", layer.shared_ff, d);
    matrix(to + shared + "down_proj", from + shared + "down_proj", d, layer.shared_ff);
    optional_bias(to + shared + "up_proj", from + shared + "up_proj", layer.shared_ff);
    optional_bias(to + shared + "down_proj", from + shared + "down_proj", d);
  }
  if (layer.latent > 0) {
    matrix(to + "fc1_latent_proj", from + "fc1_latent_proj", layer.latent, d);
    matrix(to + "fc2_latent_proj", from + "fc2_latent_proj", d, layer.latent);
    optional_bias(to + "fc1_latent_proj", from + "fc1_latent_proj", layer.latent);
    optional_bias(to + "fc2_latent_proj", from + "fc2_latent_proj", d);
  }
}

/// A tensor that should have been used but was not means that the model would compute something
/// else than its file says.
void FolderCheckpoint::check_leftovers() {
  static constexpr const char* kParts[] = {".scales",       ".biases",          ".codebook",
                                           ".signs",        ".weight_scale",    ".weight_scale_2",
                                           ".qjl_packed",   ".qjl_norms",       ".qjl_signs",
                                           ".global_scale", ".weight_scale_inv"};
  for (const SafeTensor& tensor : folder_.weights.tensors()) {
    if (stored_.was_used(tensor.name)) continue;
    const std::string& name = tensor.name;
    const bool head = name.starts_with(outer_ + "lm_head.") && !config_.tied_head;
    if (name.starts_with(prefix_ + "layers.") || head) {
      for (const char* part : kParts) {
        if (!name.ends_with(part)) continue;
        stored_.fail("tensor " + in_quotes(name) +
                     " belongs to a matrix that is not stored in any form that uses it");
      }
      if (!head) {
        const std::string number = name.substr(prefix_.size() + 7, 9);
        if (std::atoll(number.c_str()) >= static_cast<long long>(config_.layers.size())) {
          stored_.fail("tensor " + in_quotes(name) + " belongs to a layer that config.json, with " +
                       std::to_string(config_.layers.size()) + " layers, does not have");
        }
      }
      if (name.ends_with(".weight") || name.ends_with("bias")) {
        stored_.fail("tensor " + in_quotes(name) +
                     " has no use in a model of the sizes that config.json gives");
      }
    }
    ignored_.push_back(name);
  }
}

/// One id or a list of them.
void append_ids(const Json& json, const std::string& where, std::vector<std::int32_t>& ids) {
  if (json.is_null()) return;
  if (json.is_array()) {
    for (const Json& item : json) append_ids(item, where, ids);
    return;
  }
  if (!json.is_number_unsigned() || json.get<std::uint64_t>() > (1u << 30)) {
    throw Error(ErrorCode::bad_file,
                where + ": 'eos_token_id' must be a token id or a list of them");
  }
  ids.push_back(json.get<std::int32_t>());
}

text::TokenizerData FolderCheckpoint::tokenizer() const {
  const std::string json = read_optional(folder_.folder, "tokenizer.json");
  if (json.empty()) stored_.fail("there is no tokenizer.json");
  text::TokenizerData data;
  try {
    data = text::load_tokenizer_json(json, read_optional(folder_.folder, "tokenizer_config.json"));
  } catch (const Error& error) {
    throw Error(error.code(), folder_.name + ": " + error.what());
  }
  const Json generation = small_json("generation_config.json");
  if (const auto it = generation.find("eos_token_id"); it != generation.end()) {
    append_ids(*it, folder_.name + ": generation_config.json", data.end_ids);
  }
  if (const auto it = json_.find("eos_token_id"); it != json_.end()) {
    append_ids(*it, folder_.name + ": config.json", data.end_ids);
  }
  pad_vocabulary(data);
  return data;
}

std::string FolderCheckpoint::chat_template() const {
  if (std::string own = read_optional(folder_.folder, "chat_template.jinja"); !own.empty()) {
    return own;
  }
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    const Json json = small_json(name);
    const auto it = json.find("chat_template");
    if (it == json.end()) continue;
    if (it->is_string()) return it->get<std::string>();
    if (!it->is_array()) continue;
    for (const Json& named : *it) {  // [{"name": "default", "template": "..."}, ...]
      if (named.is_object() && named.value("name", Json()) == "default" &&
          named.value("template", Json()).is_string()) {
        return named["template"].get<std::string>();
      }
    }
  }
  return {};
}

SamplingDefaults FolderCheckpoint::sampling() const {
  const Json json = small_json("generation_config.json");
  const auto number = [&](const char* key) -> std::optional<float> {
    const auto it = json.find(key);
    if (it == json.end() || !it->is_number()) return std::nullopt;
    return it->get<float>();
  };
  SamplingDefaults s;
  s.temperature = number("temperature");
  s.top_p = number("top_p");
  s.min_p = number("min_p");
  if (const auto it = json.find("top_k"); it != json.end() && it->is_number_integer()) {
    s.top_k = it->get<std::int64_t>();
  }
  s.repeat_penalty = number("repetition_penalty");
  if (const auto it = json.find("do_sample"); it != json.end() && *it == false) {
    s.temperature = 0.0f;
  }
  return s;
}

}  // namespace

bool is_model_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) || path.extension() == ".safetensors";
}

ModelFolder read_model_folder(const fs::path& path) {
  std::error_code ignored;
  const bool is_folder = fs::is_directory(path, ignored);
  fs::path folder = is_folder ? path : path.parent_path();
  if (folder.empty()) folder = ".";
  if (!fs::exists(folder / "config.json", ignored)) {
    throw Error(ErrorCode::io, in_quotes(folder.string()) +
                                   " holds no config.json: give a model's folder or a GGUF file");
  }
  return {path.string(), folder, read_file(folder / "config.json"),
          is_folder ? Safetensors::open_folder(folder) : Safetensors::open(path)};
}

std::shared_ptr<const Checkpoint> checkpoint_from_folder(ModelFolder folder) {
  return std::make_shared<FolderCheckpoint>(std::move(folder));
}

}  // namespace nemo
