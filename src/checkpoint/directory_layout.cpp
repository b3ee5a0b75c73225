// Names, shapes and types of a directory's tensors, as its tools write them.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/directory_layout.hpp>
#include <nemo/io/safetensors_writer.hpp>

namespace nemo {
namespace {

using Shape = std::vector<std::int64_t>;

/// Elements of a TurboQuant word; 20 trits.
std::int64_t per_word(int bits) { return bits == 0 ? 20 : 32 / bits; }

Shape row_major(DirectoryKind kind, const LayoutTensor& tensor) {
  const auto& d = tensor.dims;
  switch (tensor.role) {
    case TensorRole::conv:
      if (kind == DirectoryKind::hf) return {d[1], 1, d[0]};
      return {d[1], d[0], 1};
    case TensorRole::a:
    case TensorRole::d:
    case TensorRole::norm:  // stored flat, in a GGUF by groups
      return {tensor.elements()};
    default:
      return {d.rbegin(), d.rend()};
  }
}

const char* plain_dtype(DirectoryKind kind, const LayoutTensor& tensor) {
  if (tensor.role == TensorRole::router_bias) return "F32";
  if (tensor.role == TensorRole::a && kind != DirectoryKind::hf) return "F32";
  return "BF16";
}

class Parts {
 public:
  Parts(std::string stem, Shape shape, const WeightFormat& format, std::size_t source,
        std::int64_t expert)
      : stem_(std::move(stem)),
        shape_(std::move(shape)),
        format_(format),
        source_(source),
        expert_(expert) {}

  void add(const char* suffix, const char* dtype, Plane plane, Shape shape) {
    list.push_back({stem_ + suffix, dtype, std::move(shape), plane, format_, source_, expert_});
  }
  /// Shape of the matrix with another last dimension.
  [[nodiscard]] Shape wide(std::int64_t last) const {
    Shape shape = shape_;
    shape.back() = last;
    return shape;
  }

  std::vector<DirectoryTensor> list;

 private:
  std::string stem_;
  Shape shape_;
  WeightFormat format_;
  std::size_t source_;
  std::int64_t expert_;
};

void add_matrix(Parts& parts, const Shape& shape, const WeightFormat& f) {
  const std::int64_t in = shape.back();
  const std::int64_t groups = f.group > 0 ? in / f.group : 0;
  switch (f.code) {
    case WeightCode::bf16:
      parts.add(".weight", "BF16", Plane::values, shape);
      break;
    case WeightCode::fp8:
      parts.add(".weight", "F8_E4M3", Plane::codes, shape);
      parts.add(".weight_scale", "F32", Plane::factor, {});
      parts.add(".input_scale", "F32", Plane::input_scale, {});
      break;
    case WeightCode::modelopt_nvfp4:
      parts.add(".weight", "U8", Plane::codes, parts.wide(in / 2));
      parts.add(".weight_scale", "F8_E4M3", Plane::scales, parts.wide(groups));
      parts.add(".weight_scale_2", "F32", Plane::factor, {});
      parts.add(".input_scale", "F32", Plane::input_scale, {});
      break;
    case WeightCode::affine:
      parts.add(".weight", "U32", Plane::codes, parts.wide(in * f.bits / 32));
      parts.add(".scales", "BF16", Plane::scales, parts.wide(groups));
      parts.add(".biases", "BF16", Plane::biases, parts.wide(groups));
      break;
    case WeightCode::mxfp4:
    case WeightCode::mxfp8:
    case WeightCode::nvfp4:
      parts.add(".weight", "U32", Plane::codes, parts.wide(in * f.bits / 32));
      parts.add(".scales", "U8", Plane::scales, parts.wide(groups));
      break;
    case WeightCode::turboquant: {
      const std::int64_t n = per_word(f.bits);
      const std::int64_t levels = f.bits == 0 ? 3 : std::int64_t{1} << f.bits;
      parts.add(".weight", "U32", Plane::codes, parts.wide((in + n - 1) / n));
      parts.add(".scales", "F16", Plane::scales, parts.wide(groups));
      parts.add(".codebook", "F16", Plane::codebook, {levels});
      parts.add(".signs", "F16", Plane::signs, {in});
      break;
    }
  }
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

}  // namespace

std::int64_t DirectoryTensor::elements() const noexcept {
  std::int64_t n = 1;
  for (const std::int64_t size : shape) n *= size;
  return n;
}
std::int64_t DirectoryTensor::bytes() const noexcept {
  return elements() * static_cast<std::int64_t>(SafetensorsWriter::element_bytes(dtype));
}

std::string directory_module(DirectoryKind kind, std::string_view canonical, std::int64_t expert) {
  std::string name(canonical);
  if (name.ends_with(".weight")) name.resize(name.size() - 7);
  if (name == "lm_head") return name;
  if (name.ends_with(".A")) name += "_log";
  if (name.ends_with(".gate.bias"))
    name = replaced(name, ".gate.bias", ".gate.e_score_correction_bias");
  if (name.find(".mixer.experts.") != std::string::npos) {
    if (kind == DirectoryKind::hf) {
      name = replaced(name, ".experts.", ".experts." + std::to_string(expert) + ".");
    } else {
      name = replaced(replaced(name, ".experts.up_proj", ".switch_mlp.fc1"), ".experts.down_proj",
                      ".switch_mlp.fc2");
    }
  }
  return name.starts_with("mtp.") ? name : "backbone." + name;
}

WeightFormat format_of(const ModelConfig& config, const DirectoryRecipe& recipe,
                       const LayoutTensor& tensor) {
  if (!tensor.is_matrix()) return {};
  // Recipes quantize the trunk; draft heads stay as they are.
  const bool trunk = !tensor.canonical.starts_with("mtp.");
  WeightFormat format = trunk ? recipe.of(tensor.part) : WeightFormat{};
  if (trunk && recipe.edge_v_bits > 0 && tensor.canonical.ends_with(".v_proj.weight")) {
    const auto attention = [&](std::size_t i) {
      return config.layers[i].kind == LayerKind::attention;
    };
    const auto here = static_cast<std::size_t>(tensor.layer);
    bool first = true;
    bool last = true;
    for (std::size_t i = 0; i < here; ++i) first = first && !attention(i);
    for (std::size_t i = here + 1; i < config.layers.size(); ++i) last = last && !attention(i);
    if (first || last) format.bits = recipe.edge_v_bits;
  }
  const auto own = recipe.modules.find(directory_module(recipe.kind, tensor.canonical, 0));
  if (own != recipe.modules.end()) format = own->second;
  if (format.group > 0 && tensor.dims[0] % format.group != 0) return {};
  return format;
}

std::vector<DirectoryTensor> directory_tensors(DirectoryKind kind, const LayoutTensor& tensor,
                                               std::size_t source, const WeightFormat& format) {
  Shape shape = row_major(kind, tensor);
  if (!tensor.is_matrix()) {
    if (kind == DirectoryKind::hf && tensor.part == ModelPart::experts) {  // biases
      std::vector<DirectoryTensor> all;
      for (std::int64_t e = 0; e < shape[0]; ++e) {
        all.push_back({directory_module(kind, tensor.canonical, e),
                       plain_dtype(kind, tensor),
                       {shape[1]},
                       Plane::values,
                       {},
                       source,
                       e});
      }
      return all;
    }
    const bool weight = tensor.canonical.ends_with(".weight");
    Parts parts(directory_module(kind, tensor.canonical), shape, {}, source, -1);
    parts.add(weight ? ".weight" : "", plain_dtype(kind, tensor), Plane::values, shape);
    return std::move(parts.list);
  }
  if (kind != DirectoryKind::hf || tensor.part != ModelPart::experts) {
    Parts parts(directory_module(kind, tensor.canonical), shape, format, source, -1);
    add_matrix(parts, shape, format);
    return std::move(parts.list);
  }
  std::vector<DirectoryTensor> all;
  const std::int64_t experts = shape[0];
  shape.erase(shape.begin());
  for (std::int64_t e = 0; e < experts; ++e) {
    Parts parts(directory_module(kind, tensor.canonical, e), shape, format, source, e);
    add_matrix(parts, shape, format);
    std::move(parts.list.begin(), parts.list.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace nemo
