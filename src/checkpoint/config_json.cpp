// Reads config.json of Hugging Face repositories, in all its spellings, into a ModelConfig.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/config.hpp>
#include <nemo/io/mapped_file.hpp>
#include <nemo/io/printable.hpp>

#include <cmath>
#include <initializer_list>
#include <optional>

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void bad(const std::string& message) {
  throw Error(ErrorCode::bad_file, "config.json: " + message);
}

/// One JSON object with typed, named access. Absent and null mean the same.
class Keys {
 public:
  explicit Keys(const Json& json) : json_(json) {
    if (!json.is_object()) bad("expected an object at the top");
  }

  /// The first of several spellings that is present, or null.
  [[nodiscard]] const Json* find(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      const auto it = json_.find(name);
      if (it != json_.end() && !it->is_null()) return &*it;
    }
    return nullptr;
  }

  [[nodiscard]] static std::int64_t integer(const Json& value, const char* name) {
    if (value.is_number_integer()) return saturated(value);
    if (value.is_number_float()) {
      const double number = value.get<double>();
      if (number == std::floor(number) && std::abs(number) < 1e15) {
        return static_cast<std::int64_t>(number);
      }
    }
    bad("key " + in_quotes(name) + " must be an integer");
  }
  [[nodiscard]] std::optional<std::int64_t> maybe_int(
      std::initializer_list<const char*> names) const {
    const Json* value = find(names);
    if (value == nullptr) return std::nullopt;
    return integer(*value, *names.begin());
  }
  [[nodiscard]] std::int64_t integer(std::initializer_list<const char*> names) const {
    const auto value = maybe_int(names);
    if (!value) bad("key " + in_quotes(*names.begin()) + " is missing");
    return *value;
  }
  [[nodiscard]] std::int64_t integer(std::initializer_list<const char*> names,
                                     std::int64_t fallback) const {
    return maybe_int(names).value_or(fallback);
  }
  [[nodiscard]] static double number(const Json& value, const char* name) {
    if (value.is_number()) return value.get<double>();
    if (value.is_string()) {
      const std::string& text = value.get_ref<const std::string&>();
      if (text == "Infinity" || text == "inf" || text == "+inf") {
        return std::numeric_limits<double>::infinity();
      }
      std::size_t used = 0;
      try {
        const double parsed = std::stod(text, &used);
        if (used == text.size()) return parsed;
      } catch (const std::exception&) {
      }
    }
    bad("key " + in_quotes(name) + " must be a number");
  }
  [[nodiscard]] double number(std::initializer_list<const char*> names, double fallback) const {
    const Json* value = find(names);
    return value == nullptr ? fallback : number(*value, *names.begin());
  }
  [[nodiscard]] bool flag(std::initializer_list<const char*> names, bool fallback) const {
    const Json* value = find(names);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) bad("key " + in_quotes(*names.begin()) + " must be true or false");
    return value->get<bool>();
  }
  [[nodiscard]] std::string text(std::initializer_list<const char*> names) const {
    const Json* value = find(names);
    if (value == nullptr) return {};
    if (!value->is_string()) bad("key " + in_quotes(*names.begin()) + " must be a string");
    return value->get<std::string>();
  }

 private:
  static std::int64_t saturated(const Json& value) {
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()) {
      return std::numeric_limits<std::int64_t>::max();
    }
    return value.get<std::int64_t>();
  }
  const Json& json_;
};

LayerKind kind_of(const std::string& word) {
  if (word == "mamba" || word == "mamba2" || word == "linear_attention") return LayerKind::mamba;
  if (word == "attention" || word == "full_attention") return LayerKind::attention;
  if (word == "mlp") return LayerKind::mlp;
  if (word == "moe") return LayerKind::moe;
  bad("unknown layer type " + in_quotes(word) + "; known are mamba, attention, mlp and moe");
}

std::vector<LayerKind> kinds_of(const Json& list, const char* name) {
  if (list.is_string()) return parse_pattern(list.get_ref<const std::string&>());
  if (!list.is_array()) bad("key " + in_quotes(name) + " must be a list of layer types");
  std::vector<LayerKind> kinds;
  for (const Json& item : list) {
    if (!item.is_string()) bad("key " + in_quotes(name) + " must be a list of strings");
    kinds.push_back(kind_of(item.get_ref<const std::string&>()));
  }
  return kinds;
}

std::vector<LayerKind> kinds_of_blocks(const Json& blocks) {
  if (!blocks.is_array()) bad("key 'block_configs' must be a list");
  std::vector<LayerKind> kinds;
  for (const Json& block : blocks) kinds.push_back(kind_of(Keys(block).text({"block_type"})));
  return kinds;
}

/// The layer schedule; every spelling that is present must say the same.
std::vector<LayerKind> schedule(const Keys& keys) {
  std::vector<LayerKind> kinds;
  const char* source = nullptr;
  const auto merge = [&](const char* name, std::vector<LayerKind> found) {
    if (source != nullptr && found != kinds) {
      bad("keys " + in_quotes(source) + " and " + in_quotes(name) + " describe different layers");
    }
    source = name;
    kinds = std::move(found);
  };
  for (const char* name : {"hybrid_override_pattern", "layers_block_type", "layer_types"}) {
    if (const Json* value = keys.find({name})) merge(name, kinds_of(*value, name));
  }
  if (const Json* blocks = keys.find({"block_configs"})) {
    merge("block_configs", kinds_of_blocks(*blocks));
  }
  if (source == nullptr) bad("key 'hybrid_override_pattern' (or 'layers_block_type') is missing");
  if (const auto layers = keys.maybe_int({"num_hidden_layers"});
      layers && *layers != static_cast<std::int64_t>(kinds.size())) {
    bad("'num_hidden_layers' is " + std::to_string(*layers) + " but " + in_quotes(source) +
        " lists " + std::to_string(kinds.size()) + " layers");
  }
  return kinds;
}

/// Sizes of the layers in `kinds`; `blocks` (or null) overrides those of MoE layers one by one.
std::vector<LayerConfig> layers_of(const Keys& keys, const std::vector<LayerKind>& kinds,
                                   const Json* blocks) {
  if (blocks != nullptr && (!blocks->is_array() || blocks->size() != kinds.size())) {
    bad("the list of block configurations does not match the number of layers");
  }
  std::vector<LayerConfig> layers;
  std::size_t mlps = 0;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    LayerConfig layer;
    layer.kind = kinds[i];
    switch (layer.kind) {
      case LayerKind::mamba:
        break;
      case LayerKind::attention:
        layer.q_heads = keys.integer({"num_attention_heads"});
        layer.kv_heads = keys.integer({"num_key_value_heads"});
        layer.head_dim = keys.integer({"head_dim", "attention_head_dim"}, 128);
        break;
      case LayerKind::mlp: {
        const Json* ff = keys.find({"intermediate_size"});
        if (ff == nullptr) bad("key 'intermediate_size' is missing");
        if (ff->is_array()) {  // by ordinal of the mlp layer
          if (mlps >= ff->size()) bad("'intermediate_size' lists too few sizes");
          ff = &(*ff)[mlps];
        }
        layer.ff = Keys::integer(*ff, "intermediate_size");
        ++mlps;
        break;
      }
      case LayerKind::moe: {
        static const Json kNone = Json::object();
        const Keys own(blocks == nullptr ? kNone : (*blocks)[i]);
        const auto size = [&](const char* name, std::optional<std::int64_t> fallback) {
          if (const auto value = own.maybe_int({name})) return *value;
          return fallback ? keys.integer({name}, *fallback) : keys.integer({name});
        };
        layer.experts = size("n_routed_experts", std::nullopt);
        layer.experts_used = size("num_experts_per_tok", std::nullopt);
        layer.expert_ff = size("moe_intermediate_size", std::nullopt);
        layer.latent = size("moe_latent_size", 0);
        // The count says how often the expert was split in training; the stored width is whole.
        layer.shared_ff =
            size("n_shared_experts", 1) == 0 ? 0 : size("moe_shared_expert_intermediate_size", 0);
        break;
      }
    }
    layers.push_back(layer);
  }
  return layers;
}

MambaConfig mamba_of(const Keys& keys) {
  // A legacy mamba_* spelling overrides the modern one, as the reference implementation does.
  MambaConfig m;
  m.heads = keys.integer({"mamba_num_heads"});
  m.head_dim = keys.integer({"mamba_head_dim"});
  m.groups = keys.integer({"mamba_n_groups", "n_groups", "mamba_num_groups"}, 8);
  m.state = keys.integer({"ssm_state_size"}, 128);
  m.conv_kernel = keys.integer({"mamba_d_conv", "conv_kernel"}, 4);
  m.conv_bias = keys.flag({"mamba_conv_bias", "use_conv_bias"}, true);
  if (const Json* limit = keys.find({"mamba_dt_limit", "time_step_limit"})) {
    if (!limit->is_array() || limit->size() != 2) bad("'time_step_limit' must be two numbers");
    m.dt_min = static_cast<float>(Keys::number((*limit)[0], "time_step_limit"));
    m.dt_max = static_cast<float>(Keys::number((*limit)[1], "time_step_limit"));
  }
  return m;
}

void refuse_other_families(const Keys& keys) {
  const std::string type = keys.text({"model_type"});
  if (!type.empty() && !type.starts_with("nemotron_h")) {
    throw Error(ErrorCode::unsupported,
                "config.json: model type " + in_quotes(type) + " is not a Nemotron-H model");
  }
  for (const auto& [name, known] :
       {std::pair{"mlp_hidden_act", "relu2"}, std::pair{"mamba_hidden_act", "silu"}}) {
    const std::string act = keys.text({name});
    if (!act.empty() && act != known) {
      throw Error(ErrorCode::unsupported, "config.json: " + in_quotes(name) + " is " +
                                              in_quotes(act) + "; only " + in_quotes(known) +
                                              " is supported");
    }
  }
}

}  // namespace

std::optional<std::filesystem::path> config_path(const std::string& model) {
  const std::filesystem::path path(model);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return path / "config.json";
  if (model.ends_with(".json")) return path;
  return std::nullopt;
}

nlohmann::ordered_json read_config_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.size());
  return parse_config_json(text, path.string());
}

nlohmann::ordered_json parse_config_json(std::string_view text, const std::string& name) {
  // JSON proper has no Infinity or NaN; quote them where they stand outside strings.
  constexpr int kMaxDepth = 64;
  std::string quoted_text;
  quoted_text.reserve(text.size() + 16);
  bool in_string = false;
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      quoted_text += text[i];
      if (text[i] == '\\' && i + 1 < text.size()) {
        quoted_text += text[++i];
      } else if (text[i] == '"') {
        in_string = false;
      }
      continue;
    }
    std::string_view literal;
    for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (text.substr(i).starts_with(word)) literal = word;
    }
    if (!literal.empty()) {
      quoted_text += '"' + std::string(literal) + '"';
      i += literal.size() - 1;
      continue;
    }
    if (text[i] == '{' || text[i] == '[') ++depth;
    if (text[i] == '}' || text[i] == ']') --depth;
    if (depth > kMaxDepth) {
      throw Error(ErrorCode::bad_file, name + ": nested deeper than any configuration");
    }
    in_string = text[i] == '"';
    quoted_text += text[i];
  }
  try {
    return Json::parse(quoted_text);
  } catch (const nlohmann::json::exception& error) {
    std::string reason = error.what();
    for (char& c : reason) {
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    }
    throw Error(ErrorCode::bad_file, name + ": not valid JSON: " + reason);
  }
}

ModelConfig config_from_json(const nlohmann::ordered_json& json) {
  const Keys top(json);
  if (const Json* text_model = top.find({"llm_config", "text_config"})) {
    return config_from_json(*text_model);
  }
  refuse_other_families(top);

  ModelConfig c;
  c.vocab = top.integer({"vocab_size"}, 131072);
  c.hidden = top.integer({"hidden_size"});
  c.context_length = top.integer({"max_position_embeddings"}, 0);
  c.norm_eps =
      static_cast<float>(top.number({"norm_eps", "layer_norm_epsilon", "rms_norm_eps"}, 1e-5));
  c.tied_head = top.flag({"tie_word_embeddings"}, false);
  c.layers = layers_of(top, schedule(top), top.find({"block_configs"}));
  if (c.has(LayerKind::mamba)) c.mamba = mamba_of(top);
  if (c.has(LayerKind::moe)) {
    c.router.normalize = top.flag({"norm_topk_prob"}, true);
    c.router.scale = static_cast<float>(top.number({"routed_scaling_factor"}, 1.0));
    c.router.groups = top.integer({"n_group"}, 1);
    c.router.groups_used = top.integer({"topk_group"}, 1);
  }
  if (top.integer({"num_nextn_predict_layers"}, 0) > 0) {
    const Json* blocks = top.find({"mtp_block_configs"});
    const Json* list = top.find({"mtp_layers_block_type", "mtp_hybrid_override_pattern"});
    std::vector<LayerKind> kinds = {LayerKind::attention, LayerKind::moe};
    if (blocks != nullptr) kinds = kinds_of_blocks(*blocks);
    if (list != nullptr) kinds = kinds_of(*list, "mtp_layers_block_type");
    c.mtp = layers_of(top, kinds, blocks);
  }
  c.architecture = c.has(LayerKind::moe) ? "nemotron_h_moe" : "nemotron_h";
  c.validate();
  return c;
}

}  // namespace nemo
