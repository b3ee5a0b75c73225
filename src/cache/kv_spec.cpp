// Parsing of --kv strings and kv_config.json.
#include <nemo/base/error.hpp>
#include <nemo/cache/kv_spec.hpp>
#include <nemo/io/printable.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <set>

namespace nemo {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kGrammar =
    "fp16, fp32, turbo:K,V[,sink=N] (bits 2 to 8), rotor:BITS[,GROUP] (bits 2 to 8, group 16, 32, "
    "64 "
    "or 128), affine:BITS[,GROUP], or a kv_config.json file";
// No model has more layers than fit into this many bytes of configuration.
constexpr std::size_t kMaxConfigBytes = std::size_t{1} << 20;

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
  throw Error(ErrorCode::usage,
              "--kv '" + one_line(text) + "': " + why + "; there are: " + std::string(kGrammar));
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

/// "turbo:8,4,sink=128" as a name, plain numbers and key=value pairs.
struct Parts {
  std::string_view scheme;
  std::vector<int> numbers;
  std::vector<std::pair<std::string_view, std::string_view>> options;
};

Parts split(std::string_view text) {
  Parts parts;
  const std::size_t colon = text.find(':');
  parts.scheme = text.substr(0, colon);
  if (colon == std::string_view::npos) return parts;
  std::string_view rest = text.substr(colon + 1);
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const std::size_t equals = item.find('=');
    if (equals != std::string_view::npos) {
      parts.options.emplace_back(item.substr(0, equals), item.substr(equals + 1));
    } else if (const auto value = number(item); value && parts.options.empty()) {
      parts.numbers.push_back(*value);
    } else {
      refuse(text, "'" + one_line(item) + "' is not a number");
    }
    if (comma == std::string_view::npos) return parts;
    rest = rest.substr(comma + 1);
  }
}

constexpr const char* kPresets = "rotor, haar, iso, iso-full, planar, rotor3";

std::optional<KvRotation> find_preset(std::string_view name) {
  for (const KvRotation r : {KvRotation::rotor, KvRotation::haar, KvRotation::iso,
                             KvRotation::iso_full, KvRotation::planar, KvRotation::rotor3}) {
    if (name == name_of(r)) return r;
  }
  return std::nullopt;
}

/// Applies sink=, v= and preset= where the scheme has them.
void apply_options(std::string_view text, const Parts& parts, KvFormat& format) {
  std::set<std::string_view> seen;
  for (const auto& [key, value] : parts.options) {
    if (!seen.insert(key).second) refuse(text, "'" + one_line(key) + "' is given twice");
    const bool known = key == "sink" || (key == "v" && format.scheme != KvScheme::turbo) ||
                       (key == "preset" && format.scheme == KvScheme::rotor);
    if (!known) refuse(text, "unknown option '" + one_line(key) + "'");
    if (key == "preset") {
      const auto preset = find_preset(value);
      if (!preset) refuse(text, "preset '" + one_line(value) + "' is none of " + kPresets);
      format.rotation = *preset;
      continue;
    }
    const auto n = number(value);
    if (!n) refuse(text, one_line(key) + "='" + one_line(value) + "' is not a number");
    (key == "sink" ? format.sink : format.value_bits) = *n;
  }
}

/// Reads whole numbers of one object of kv_config.json.
class Entry {
 public:
  Entry(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is_object()) fail("must be an object with layer_idx, bits and group_size");
    static const std::set<std::string> known = {"layer_idx", "bits",         "group_size",
                                                "k_bits",    "v_bits",       "scheme",
                                                "sink",      "group_size_v", "preset"};
    for (const auto& [key, value] : json.items()) {
      if (known.count(key) == 0) fail("unknown key '" + one_line(key) + "'");
    }
  }
  [[nodiscard]] bool has(const char* key) const { return json_.contains(key); }
  [[nodiscard]] int integer(const char* key) const {
    if (!has(key)) fail(std::string(key) + " is missing");
    const Json& value = json_.at(key);
    if (!value.is_number_integer() && !value.is_number_unsigned()) {
      fail(std::string(key) + " must be a whole number");
    }
    const auto n = value.is_number_unsigned() && value.get<std::uint64_t>() > 1u << 30
                       ? std::int64_t{-1}
                       : value.get<std::int64_t>();
    if (n < 0 || n > 1 << 30) fail(std::string(key) + " is out of range");
    return static_cast<int>(n);
  }
  [[nodiscard]] int integer_or(const char* key, int value) const {
    return has(key) ? integer(key) : value;
  }
  [[nodiscard]] std::string scheme() const {
    if (!has("scheme")) return "affine";
    const Json& value = json_.at("scheme");
    if (!value.is_string()) fail("scheme must be a string");
    return value.get<std::string>();
  }
  [[nodiscard]] KvRotation preset() const {
    if (!has("preset")) return KvRotation::rotor;
    const Json& value = json_.at("preset");
    const auto found = value.is_string() ? find_preset(value.get<std::string>()) : std::nullopt;
    if (!found) fail("preset is none of " + std::string(kPresets));
    return *found;
  }
  /// What only other readers of the file go by must still make sense to them.
  void check_base_keys(bool half_precision) const {
    const auto fits = [&](const char* key, std::initializer_list<int> allowed, const char* text) {
      if (has(key) && std::count(allowed.begin(), allowed.end(), integer(key)) == 0) {
        fail(std::string(key) + " must be " + text);
      }
    };
    fits("group_size", {16, 32, 64, 128}, "16, 32, 64 or 128");
    if (half_precision)
      fits("bits", {2, 3, 4, 5, 6, 7, 8, 16}, "2 to 8, or 16");
    else
      fits("bits", {2, 3, 4, 5, 6, 7, 8}, "2 to 8");
  }
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(ErrorCode::bad_file, where_ + ": " + why);
  }

 private:
  const Json& json_;
  std::string where_;
};

KvFormat format_of(const Entry& entry) {
  const std::string scheme = entry.scheme();
  entry.check_base_keys(scheme == "fp16");
  if (scheme == "fp16") return KvFormat::fp16();
  const int bits = entry.has("k_bits") && entry.has("v_bits") ? 0 : entry.integer("bits");
  const int k = entry.integer_or("k_bits", bits), v = entry.integer_or("v_bits", bits);
  KvFormat format;
  if (scheme == "turbo") {
    // Its groups are fixed; a group_size is there for readers that know only affine.
    format = KvFormat::turbo(k, v, entry.integer_or("sink", 128));
  } else if (scheme == "rotor") {
    format =
        KvFormat::rotor(k, entry.integer_or("group_size", 64), v, entry.integer_or("sink", 128));
    format.rotation = entry.preset();
    format.value_group = entry.integer_or("group_size_v", format.key_group);
  } else if (scheme == "affine") {
    format = KvFormat::affine(k, entry.integer("group_size"));
    format.value_bits = v;
    format.value_group = entry.integer_or("group_size_v", format.key_group);
    format.sink = entry.integer_or("sink", 0);
  } else {
    entry.fail("scheme '" + one_line(scheme) + "' is none of affine, turbo, rotor, fp16");
  }
  try {
    format.check();
  } catch (const Error& e) {
    entry.fail(e.what());
  }
  return format;
}

/// Attention slot of every layer for the two ways of counting; -1: not attention.
std::vector<int> slots(const ModelConfig& config, bool cached_only) {
  std::vector<int> slots;
  int next = 0;
  for (const LayerConfig& layer : config.layers) {
    const bool attention = layer.kind == LayerKind::attention;
    if (attention || layer.kind == LayerKind::mamba || !cached_only) {
      slots.push_back(attention ? next : -1);
    }
    next += attention ? 1 : 0;
  }
  return slots;
}

std::string read_config(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw Error(ErrorCode::io, "--kv '" + one_line(path) + "': the file cannot be opened");
  }
  std::string text(kMaxConfigBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

/// Throws when an object has the same key twice: which one counts would be chance.
Json parse_json(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxConfigBytes) {
    throw Error(ErrorCode::bad_file, origin + ": too large for a kv_config.json");
  }
  std::vector<std::set<std::string>> open;  // keys of the objects around
  const auto see = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key &&
        !open.back().insert(parsed.get<std::string>()).second) {
      throw Error(ErrorCode::bad_file, origin + ": key " + in_quotes(parsed.get<std::string>()) +
                                           " stands twice in one object");
    }
    return true;
  };
  return Json::parse(text.begin(), text.end(), see, false);
}

}  // namespace

KvFormat parse_kv_format(std::string_view text) {
  const Parts parts = split(text);
  const auto need = [&](std::size_t least, std::size_t most, const char* shape) {
    if (parts.numbers.size() < least || parts.numbers.size() > most) {
      refuse(text, std::string("it must look like ") + shape);
    }
  };
  const auto number_or = [&](std::size_t i, int value) {
    return i < parts.numbers.size() ? parts.numbers[i] : value;
  };
  KvFormat format;
  if (text == "fp16") return format;
  if (parts.scheme == "turbo") {
    need(2, 2, "turbo:8,4 or turbo:8,4,sink=128");
    format = KvFormat::turbo(parts.numbers[0], parts.numbers[1]);
  } else if (parts.scheme == "rotor") {
    need(1, 2, "rotor:4 or rotor:4,64");
    format = KvFormat::rotor(parts.numbers[0], number_or(1, 64));
  } else if (parts.scheme == "affine") {
    need(1, 2, "affine:8 or affine:8,64");
    format = KvFormat::affine(parts.numbers[0], number_or(1, 64));
  } else {
    refuse(text, "no such KV cache policy");
  }
  apply_options(text, parts, format);
  try {
    format.check();
  } catch (const Error& e) {
    throw Error(ErrorCode::usage, std::string(e.what()) + "; there are: " + std::string(kGrammar));
  }
  return format;
}

std::vector<KvFormat> parse_kv_config(std::string_view json, const ModelConfig& config,
                                      const std::string& origin) {
  const Json root = parse_json(json, origin);
  if (root.is_discarded() || !root.is_array()) {
    throw Error(ErrorCode::bad_file,
                origin + ": must be a JSON array of {layer_idx, bits, group_size} objects");
  }
  std::vector<std::pair<int, KvFormat>> entries;  // layer_idx as written
  std::set<int> seen;
  for (std::size_t i = 0; i < root.size(); ++i) {
    const Entry entry(root[i], origin + ", entry " + std::to_string(i));
    const int index = entry.integer("layer_idx");
    if (!seen.insert(index).second) {
      entry.fail("layer_idx " + std::to_string(index) + " is listed twice");
    }
    entries.emplace_back(index, format_of(entry));
  }
  for (const bool cached_only : {false, true}) {
    const std::vector<int> slot = slots(config, cached_only);
    const bool fits = std::all_of(entries.begin(), entries.end(), [&](const auto& e) {
      return static_cast<std::size_t>(e.first) < slot.size() &&
             slot[static_cast<std::size_t>(e.first)] >= 0;
    });
    if (!fits) continue;
    std::vector<KvFormat> formats(static_cast<std::size_t>(config.count(LayerKind::attention)));
    for (const auto& [index, format] : entries) {
      formats[static_cast<std::size_t>(slot[static_cast<std::size_t>(index)])] = format;
    }
    return formats;
  }
  std::string attention;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].kind != LayerKind::attention) continue;
    attention += (attention.empty() ? "" : ", ") + std::to_string(i);
  }
  throw Error(ErrorCode::bad_file, origin +
                                       ": layer_idx must name attention layers; this model's are " +
                                       (attention.empty() ? "none" : attention));
}

bool KvPolicy::dense() const noexcept {
  return fp32 || std::all_of(formats.begin(), formats.end(),
                             [](const KvFormat& f) { return f.scheme == KvScheme::fp16; });
}

void check_kv_formats(const std::vector<KvFormat>& formats, const ModelConfig& config,
                      const std::string& origin) {
  std::size_t slot = 0;
  try {
    for (const LayerConfig& layer : config.layers) {
      if (layer.kind == LayerKind::attention) formats[slot++].check(layer.head_dim);
    }
  } catch (const Error& e) {
    throw Error(e.code(), origin + ": " + e.what());
  }
}

KvPolicy resolve_kv(const std::string& text, const ModelConfig& config) {
  KvPolicy policy;
  const auto layers = static_cast<std::size_t>(config.count(LayerKind::attention));
  if (text == "fp32") {
    policy.name = text;
    policy.fp32 = true;
    return policy;
  }
  if (text.size() > 5 && text.compare(text.size() - 5, 5, ".json") == 0) {
    policy.name = text;
    policy.formats = parse_kv_config(read_config(text), config, one_line(text));
    check_kv_formats(policy.formats, config, one_line(text));
  } else {
    const KvFormat format = parse_kv_format(text);
    policy.name = format.name();
    policy.formats.assign(layers, format);
    check_kv_formats(policy.formats, config, "--kv");
  }
  return policy;
}

}  // namespace nemo
