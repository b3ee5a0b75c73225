// Picking up and writing paired KV cache policies.
#include <nemo/base/error.hpp>
#include <nemo/cache/kv_pairing.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/io/atomic_file.hpp>
#include <nemo/io/gguf.hpp>
#include <nemo/io/gguf_writer.hpp>
#include <nemo/io/printable.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace nemo {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::string_view kConfigKey = "nemo.kv.config";

KvPolicy paired_policy(const KvPairing& pairing, const ModelConfig& config) {
  KvPolicy policy;
  policy.origin = one_line(pairing.config_origin);
  policy.formats = parse_kv_config(*pairing.config, config, policy.origin);
  check_kv_formats(policy.formats, config, policy.origin);
  const bool uniform = !policy.formats.empty() &&
                       std::all_of(policy.formats.begin(), policy.formats.end(),
                                   [&](const KvFormat& f) { return f == policy.formats[0]; });
  policy.name = uniform ? policy.formats[0].name() : "kv_config.json";
  return policy;
}

/// One array entry; layers in half precision are not listed.
Json entry_of(const KvFormat& f, std::size_t layer) {
  Json entry = {{"layer_idx", layer}, {"bits", f.key_bits}, {"group_size", f.key_group}};
  const bool affine = f.scheme == KvScheme::affine;
  if (!affine) entry["scheme"] = f.scheme == KvScheme::turbo ? "turbo" : "rotor";
  if (f.value_bits != f.key_bits) entry["v_bits"] = f.value_bits;
  if (f.scheme != KvScheme::turbo && f.value_group != f.key_group) {
    entry["group_size_v"] = f.value_group;
  }
  if (!affine || f.sink != 0) entry["sink"] = f.sink;
  if (f.scheme == KvScheme::rotor && f.rotation != KvRotation::rotor) {
    entry["preset"] = name_of(f.rotation);
  }
  return entry;
}

void pair_gguf(const fs::path& from, const std::string& kv_config, const KvPolicy& policy,
               const ModelConfig& config, const fs::path& to) {
  const Gguf gguf = Gguf::open(from);
  std::uint32_t alignment = 32;
  if (const auto value = gguf.find_int("general.alignment")) {
    alignment = static_cast<std::uint32_t>(*value);
  }
  GgufWriter writer(to, alignment);
  writer.add_keys(gguf, "nemo.kv.");
  writer.add_string(kConfigKey, kv_config);
  if (policy.means != nullptr) add_kv_means(writer, *policy.means, config);
  for (const GgufTensor& tensor : gguf.tensors()) {
    writer.add_tensor(tensor.name, tensor.type,
                      {tensor.dims.data(), static_cast<std::size_t>(std::max(tensor.rank, 1))});
  }
  writer.begin();
  std::size_t index = 0;
  for (const GgufTensor& tensor : gguf.tensors()) {
    writer.write(index++, 0, {tensor.data, static_cast<std::size_t>(tensor.bytes)});
  }
  writer.finish();
}

void pair_directory(const fs::path& from, const std::string& kv_config, const KvPolicy& policy,
                    const ModelConfig& config, const fs::path& to) {
  std::error_code error;
  if (!fs::equivalent(from, to, error)) {
    fs::create_directories(to, error);
    for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
      const fs::path name = entry.path().filename();
      if (!entry.is_regular_file() || name == "kv_config.json" || name == "kv_means.gguf") continue;
      if (!fs::copy_file(entry.path(), to / name, fs::copy_options::overwrite_existing, error)) {
        throw Error(ErrorCode::io,
                    "'" + (to / name).string() + "' cannot be written: " + error.message());
      }
    }
  }
  if (policy.means != nullptr) {
    write_kv_means(to / "kv_means.gguf", *policy.means, config);
  } else {
    fs::remove(to / "kv_means.gguf", error);
  }
  AtomicFile file(to / "kv_config.json");
  file.append(kv_config);
  file.commit();
}

}  // namespace

KvPolicy resolve_kv(const std::string& kv, const std::string& means, const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  // What is asked for need not care about a broken pairing.
  const KvPairing pairing = kv.empty() || means.empty() ? checkpoint.kv_pairing() : KvPairing{};
  KvPolicy policy = !kv.empty()       ? resolve_kv(kv, config)
                    : !pairing.config ? resolve_kv("fp16", config)
                                      : paired_policy(pairing, config);
  if (means.empty() && pairing.means) {
    policy.means = std::make_shared<const KvMeans>(*pairing.means);
  } else if (!means.empty() && means != "off") {
    policy.means = std::make_shared<const KvMeans>(read_kv_means(means, config));
  }
  return policy;
}

std::string kv_config_json(const KvPolicy& policy, const ModelConfig& config) {
  if (policy.fp32) {
    throw Error(ErrorCode::usage, "--kv fp32 is for verification and cannot be stored; use fp16");
  }
  Json list = Json::array();
  std::size_t slot = 0;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].kind != LayerKind::attention) continue;
    const KvFormat& format = policy.formats[slot++];
    if (format.scheme != KvScheme::fp16) list.push_back(entry_of(format, i));
  }
  return list.dump(1) + "\n";
}

void pair_model(const fs::path& model, const KvPolicy& policy, const fs::path& out) {
  const auto checkpoint = open_checkpoint(model);
  require_file_order(*checkpoint);
  const ModelConfig& config = checkpoint->config();
  const std::string kv_config = kv_config_json(policy, config);
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) {
    if (fs::exists(out, ignored) && !fs::is_directory(out, ignored)) {
      throw Error(ErrorCode::usage, "'" + out.string() + "' is a file, but the model a directory");
    }
    pair_directory(model, kv_config, policy, config, out);
    return;
  }
  if (fs::equivalent(model, out, ignored)) {
    throw Error(ErrorCode::usage, "'" + out.string() + "' is the model itself; name another file");
  }
  pair_gguf(model, kv_config, policy, config, out);
}

}  // namespace nemo
