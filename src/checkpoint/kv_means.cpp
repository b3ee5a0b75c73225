// Reading and writing means of keys and values as GGUF metadata.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/config.hpp>
#include <nemo/checkpoint/kv_means.hpp>
#include <nemo/io/gguf.hpp>
#include <nemo/io/gguf_writer.hpp>
#include <nemo/io/printable.hpp>

#include <cmath>
#include <set>
#include <string>

namespace nemo {
namespace {

constexpr std::string_view kPrefix = "nemo.kv.";
constexpr std::string_view kSuffix = ".mean";

std::string key_of(std::size_t layer, const char* side) {
  return std::string(kPrefix) + std::to_string(layer) + "." + side + std::string(kSuffix);
}

}  // namespace

std::optional<KvMeans> find_kv_means(const Gguf& gguf, const ModelConfig& config) {
  std::set<std::string_view> present;
  for (const std::string_view key : gguf.keys()) {
    if (key.starts_with(kPrefix) && key.ends_with(kSuffix)) present.insert(key);
  }
  if (present.empty()) return std::nullopt;
  KvMeans means;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    if (layer.kind != LayerKind::attention) continue;
    const auto read = [&](const char* side) {
      const std::string key = key_of(i, side);
      const auto values = gguf.find_floats(key);
      if (!values) {
        gguf.fail("means of keys and values: " + in_quotes(key) +
                  " is missing, they are of another model; make them with nemo calibrate-kv");
      }
      const auto expected = static_cast<std::size_t>(layer.kv_heads * layer.head_dim);
      if (values->size() != expected) {
        gguf.fail("key " + in_quotes(key) + " has " + std::to_string(values->size()) +
                  " numbers, this model's layer needs " + std::to_string(expected));
      }
      for (const float x : *values) {
        if (!std::isfinite(x)) gguf.fail("key " + in_quotes(key) + " is not finite");
      }
      present.erase(key);
      return *values;
    };
    KvLayerMeans m;
    m.keys = read("k");
    m.values = read("v");
    means.push_back(std::move(m));
  }
  if (!present.empty()) {
    gguf.fail("key " + in_quotes(*present.begin()) + " names no attention layer of this model");
  }
  return means;
}

KvMeans read_kv_means(const std::filesystem::path& path, const ModelConfig& config) {
  const Gguf gguf = Gguf::open(path);
  auto means = find_kv_means(gguf, config);
  if (!means) gguf.fail("holds no means of keys and values; make them with nemo calibrate-kv");
  return *std::move(means);
}

void add_kv_means(GgufWriter& writer, const KvMeans& means, const ModelConfig& config) {
  std::size_t slot = 0;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].kind != LayerKind::attention) continue;
    writer.add_f32s(key_of(i, "k"), means[slot].keys);
    writer.add_f32s(key_of(i, "v"), means[slot].values);
    ++slot;
  }
}

void write_kv_means(const std::filesystem::path& path, const KvMeans& means,
                    const ModelConfig& config) {
  GgufWriter writer(path);
  writer.add_string("general.type", "nemo-kv-means");
  writer.add_string("general.name", config.name);
  add_kv_means(writer, means, config);
  writer.begin();
  writer.finish();
}

}  // namespace nemo
