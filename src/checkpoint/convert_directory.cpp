// From any container to a folder of safetensors.
#include "directory_config.hpp"
#include "stored_bytes.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/half.hpp>
#include <nemo/checkpoint/config_writer.hpp>
#include <nemo/checkpoint/convert.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/io/atomic_folder.hpp>
#include <nemo/io/printable.hpp>
#include <nemo/io/safetensors_writer.hpp>
#include <nemo/text/tokenizer_json_writer.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <set>

namespace nemo {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// A tensor of the folder: bytes where they lie, or its own.
struct Item {
  DirectoryTensor tensor;
  std::vector<std::span<const std::byte>> runs;
  std::vector<std::byte> own;
};

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// F16 where that is exact, as tools write codebooks and signs.
void put_halves(Item& item, const std::vector<float>& values) {
  std::vector<Half> halves;
  for (const float x : values) halves.push_back(to_half(x));
  const auto exact = [](Half h, float x) { return to_float(h) == x; };
  if (std::equal(halves.begin(), halves.end(), values.begin(), exact)) {
    item.own = bytes_of(halves);
  } else {
    item.tensor.dtype = "F32";
    item.own = bytes_of(values);
  }
}

const char* name_of(ScaleType type, DirectoryKind kind) {
  switch (type) {
    case ScaleType::f32:
      return "F32";
    case ScaleType::f16:
      return "F16";
    case ScaleType::bf16:
      return "BF16";
    case ScaleType::e4m3:
      return kind == DirectoryKind::hf ? "F8_E4M3" : "U8";
    default:
      return "U8";
  }
}

bool is_float(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}

/// Nothing for block formats.
std::optional<WeightFormat> format_of(const TensorRef& t) {
  const int group = static_cast<int>(t.side.planes.group);
  switch (t.type) {
    case DType::affine2:
      return WeightFormat{WeightCode::affine, 2, group};
    case DType::affine3:
      return WeightFormat{WeightCode::affine, 3, group};
    case DType::affine4:
      return WeightFormat{WeightCode::affine, 4, group};
    case DType::affine5:
      return WeightFormat{WeightCode::affine, 5, group};
    case DType::affine6:
      return WeightFormat{WeightCode::affine, 6, group};
    case DType::affine8:
      return WeightFormat{WeightCode::affine, 8, group};
    case DType::turbo1:
      return WeightFormat{WeightCode::turboquant, 1, group};
    case DType::turbo2:
      return WeightFormat{WeightCode::turboquant, 2, group};
    case DType::turbo3:
      return WeightFormat{WeightCode::turboquant, 3, group};
    case DType::turbo4:
      return WeightFormat{WeightCode::turboquant, 4, group};
    case DType::turbo_t:
      return WeightFormat{WeightCode::turboquant, 0, group};
    case DType::e2m1:
      if (t.side.planes.type == ScaleType::e8m0) return WeightFormat{WeightCode::mxfp4, 4, 32};
      if (t.scales.empty()) return WeightFormat{WeightCode::nvfp4, 4, 16};
      return WeightFormat{WeightCode::modelopt_nvfp4, 4, 16};
    case DType::e4m3:
      if (t.side.planes.type == ScaleType::e8m0) return WeightFormat{WeightCode::mxfp8, 8, 32};
      return WeightFormat{WeightCode::fp8, 8, 0};
    default:
      return is_float(t.type) ? std::optional(WeightFormat{}) : std::nullopt;
  }
}

bool holds(DirectoryKind kind, WeightCode code) {
  if (code == WeightCode::bf16) return true;
  const bool modelopt = code == WeightCode::fp8 || code == WeightCode::modelopt_nvfp4;
  return modelopt == (kind == DirectoryKind::hf);
}

/// A_log with exp(A_log) = -A bit by bit, as the reader computes it: F32 where such a number
/// exists, else F64, which is fine enough for one to exist.
void put_decay(Item& item, const TensorRef& t) {
  std::vector<float> singles;
  std::vector<double> doubles;
  bool exact = true;
  for (const float a : read_floats(t)) {
    const float magnitude = -a;
    if (!(magnitude > 0) || std::isinf(magnitude)) {
      throw Error(ErrorCode::unsupported, "tensor " + in_quotes(t.stored) +
                                              " holds a decay rate that is not negative, which "
                                              "has no logarithm to write");
    }
    const double log = std::log(static_cast<double>(magnitude));
    doubles.push_back(log);
    const float near = static_cast<float>(log);
    float found = near;
    for (const float x : {near, std::nextafter(near, -INFINITY), std::nextafter(near, INFINITY)}) {
      if (std::exp(x) == magnitude) found = x;
    }
    exact = exact && std::exp(found) == magnitude;
    singles.push_back(found);
  }
  item.tensor.dtype = exact ? "F32" : "F64";
  item.own = exact ? bytes_of(singles) : bytes_of(doubles);
}

class DirectoryConverter {
 public:
  DirectoryConverter(const Checkpoint& checkpoint, DirectoryKind kind)
      : source_(checkpoint), kind_(kind) {
    recipe_.kind = kind;
    const TensorNames names(checkpoint.config());
    for (const TensorRef& tensor : checkpoint.tensors()) add(tensor, names.of(tensor));
    choose_base();
  }

  std::vector<Item> items;

  [[nodiscard]] Json config() const;

 private:
  void add(const TensorRef& tensor, const LayoutTensor& layout);
  void fill(Item& item, const TensorRef& t);
  void choose_base();

  const Checkpoint& source_;
  DirectoryKind kind_;
  DirectoryRecipe recipe_;
  std::map<std::string, std::int64_t> elements_;  // of each format that is there
  std::map<std::string, WeightFormat> formats_;
  std::set<ModelPart> biased_;
};

void DirectoryConverter::add(const TensorRef& t, const LayoutTensor& layout) {
  auto format = format_of(t);
  // A factor beside the values has a place in ModelOpt's formats only.
  const bool factor =
      format && (format->code == WeightCode::fp8 || format->code == WeightCode::modelopt_nvfp4);
  if (!t.scales.empty() && !factor) format.reset();
  if (!format || !holds(kind_, format->code)) {
    const bool mlx = format && kind_ == DirectoryKind::hf;
    throw Error(ErrorCode::unsupported, "tensor " + in_quotes(t.stored) + " is stored as " +
                                            stored_form(t) + ", which " +
                                            (kind_ == DirectoryKind::hf ? "Hugging Face" : "MLX") +
                                            " folders cannot hold unchanged; " +
                                            (mlx      ? "--format mlx can"
                                             : format ? "--format hf can"
                                                      : "a GGUF can") +
                                            ", or change the values with nemo quantize");
  }
  if (layout.is_matrix()) {
    recipe_.modules[directory_module(kind_, layout.canonical, 0)] = *format;
    recipe_.of(layout.part) = *format;
    if (format->code != WeightCode::bf16) {
      elements_[describe(*format)] += t.elements();
      formats_[describe(*format)] = *format;
    }
    if (format->code == WeightCode::turboquant) recipe_.kind = DirectoryKind::turboquant;
  }
  if (t.name.ends_with("_proj.bias")) biased_.insert(layout.part);
  for (DirectoryTensor& tensor : directory_tensors(kind_, layout, 0, *format)) {
    if (tensor.plane == Plane::input_scale) continue;  // of activations, which stay as they are
    Item item{std::move(tensor), {}, {}};
    fill(item, t);
    items.push_back(std::move(item));
  }
}

void DirectoryConverter::fill(Item& item, const TensorRef& t) {
  DirectoryTensor& to = item.tensor;
  const std::int64_t first = std::max<std::int64_t>(0, to.expert);
  const std::int64_t count = to.expert < 0 ? t.count() : 1;
  switch (to.plane) {
    case Plane::values:
      if (t.name.ends_with("mixer.A")) return put_decay(item, t);
      to.dtype = info(t.type).name;
      item.runs = plane_bytes(t, StoredPlane::codes, first, count);
      break;
    case Plane::codes:
      item.runs = plane_bytes(t, StoredPlane::codes, first, count);
      break;
    case Plane::scales:
      to.dtype = name_of(t.side.planes.type, kind_);
      item.runs = plane_bytes(t, StoredPlane::scales, first, count);
      break;
    case Plane::biases:
      to.dtype = name_of(t.side.planes.type, kind_);
      item.runs = plane_bytes(t, StoredPlane::biases, first, count);
      break;
    case Plane::codebook: {
      const auto levels = static_cast<std::size_t>(to.elements());
      put_halves(item, {t.side.planes.levels, t.side.planes.levels + levels});
      break;
    }
    case Plane::signs:
      put_halves(item, t.side.rotation != nullptr
                           ? t.side.rotation->signs
                           : std::vector<float>(static_cast<std::size_t>(t.cols()), 1.0f));
      break;
    case Plane::factor:
      if (t.side.planes.type != ScaleType::none && to.name.ends_with(".weight_scale")) {
        // FP8 with a factor for each row.
        to.shape = {t.rows()};
        to.dtype = name_of(t.side.planes.type, kind_);
        item.runs = plane_bytes(t, StoredPlane::scales, first, count);
      } else {
        const auto at = t.scales.size() > 1 ? static_cast<std::size_t>(first) : 0;
        item.own = bytes_of(std::vector{t.scales.empty() ? 1.0f : t.scales[at]});
      }
      break;
    case Plane::input_scale:
      break;
  }
}

/// config.json's default is what most elements are stored as.
void DirectoryConverter::choose_base() {
  if (elements_.empty()) return;
  const auto most = std::max_element(elements_.begin(), elements_.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  recipe_.base = formats_[most->first];
}

/// The source's own file, which may say more than this program knows, where there is one.
Json DirectoryConverter::config() const {
  Json json;
  const auto path = config_path(source_.path());
  if (path) json = read_config_json(*path);
  if (!path || json.contains("llm_config") || json.contains("text_config")) {
    json = config_to_json(source_.config());
    try {
      const text::TokenizerData tokenizer = source_.tokenizer();
      if (tokenizer.bos) json["bos_token_id"] = *tokenizer.bos;
      if (tokenizer.eos) json["eos_token_id"] = *tokenizer.eos;
      if (tokenizer.pad) json["pad_token_id"] = *tokenizer.pad;
    } catch (const Error&) {
      // Sizes are complete without.
    }
  }
  for (const ModelPart part : biased_) {
    json[part == ModelPart::attention ? "attention_bias"
         : part == ModelPart::mamba   ? "mamba_proj_bias"
                                      : "mlp_bias"] = true;
  }
  json.erase("quantization");
  json.erase("quantization_config");
  put_quantization(json, source_.config(), recipe_);
  return json;
}

void write_file(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.append(text);
  file.commit();
}

constexpr const char* kTextFiles[] = {"tokenizer.json",          "tokenizer_config.json",
                                      "special_tokens_map.json", "generation_config.json",
                                      "chat_template.jinja",     "chat_template.json",
                                      "kv_config.json",          "kv_means.gguf"};

/// From a folder the files as they are, else what the checkpoint knows.
void write_texts(const Checkpoint& source, const fs::path& to, std::vector<std::string>& notes) {
  if (const auto config = config_path(source.path())) {
    for (const char* name : kTextFiles) {
      const fs::path from = config->parent_path() / name;
      std::error_code error;
      if (!fs::exists(from, error)) continue;
      if (!fs::copy_file(from, to / name, error)) {
        throw Error(ErrorCode::io, in_quotes(from.string()) + ": " + error.message());
      }
    }
    return;
  }
  Json generation = Json::object();
  try {
    const text::TokenizerData data = source.tokenizer();
    write_file(to / "tokenizer.json", text::write_tokenizer_json(data));
    write_file(to / "tokenizer_config.json", text::write_tokenizer_config(data));
    if (!data.end_ids.empty()) generation["eos_token_id"] = data.end_ids;
  } catch (const Error& error) {
    notes.push_back(std::string("no tokenizer: ") + error.what());
  }
  const SamplingDefaults s = source.sampling();
  if (s.temperature) generation["temperature"] = *s.temperature;
  if (s.top_p) generation["top_p"] = *s.top_p;
  if (s.min_p) generation["min_p"] = *s.min_p;
  if (s.top_k) generation["top_k"] = *s.top_k;
  if (s.repeat_penalty) generation["repetition_penalty"] = *s.repeat_penalty;
  if (!generation.empty()) write_file(to / "generation_config.json", generation.dump(2) + "\n");
  if (const std::string text = source.chat_template(); !text.empty()) {
    write_file(to / "chat_template.jinja", text);
  }
  if (const KvPairing kv = source.kv_pairing(); kv.config || kv.means) {
    notes.emplace_back("the paired KV cache policy: store it again with nemo pair");
  }
}

}  // namespace

std::vector<std::string> convert_to_directory(const Checkpoint& checkpoint, const fs::path& path,
                                              DirectoryKind kind, const ConvertOptions& options) {
  require_file_order(checkpoint);
  std::vector<std::string> notes;
  const DirectoryConverter converter(checkpoint, kind);
  AtomicFolder folder(path, options.replace);
  write_texts(checkpoint, folder.path(), notes);
  write_file(folder.path() / "config.json", converter.config().dump(2) + "\n");
  const bool hf = kind == DirectoryKind::hf;
  SafetensorsWriter writer(folder.path(), {.format = hf ? "pt" : "mlx", .always_index = !hf});
  for (const Item& item : converter.items) {
    (void)writer.add_tensor(item.tensor.name, item.tensor.dtype, item.tensor.shape);
  }
  const std::uint64_t free = AtomicFile::free_bytes(folder.path() / "config.json");
  if (writer.data_bytes() > free) {
    throw Error(ErrorCode::io, in_quotes(path.string()) + " needs " +
                                   std::to_string(writer.data_bytes() >> 20) + " MiB but only " +
                                   std::to_string(free >> 20) + " MiB are free on that disk");
  }
  writer.begin();
  CopyMeter meter(writer.data_bytes(), options.progress);
  for (std::size_t i = 0; i < converter.items.size(); ++i) {
    const Item& item = converter.items[i];
    const auto runs =
        item.runs.empty() ? std::vector{std::span<const std::byte>(item.own)} : item.runs;
    meter.copy(runs, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
      writer.write(i, offset, bytes);
    });
  }
  writer.finish();
  folder.commit();
  return notes;
}

}  // namespace nemo
