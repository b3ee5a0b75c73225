// The stored forms of matrices: recognising them, checking their shapes, viewing their planes.
#include "stored_matrices.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/printable.hpp>
#include <nemo/tensor/hadamard.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;
using Shape = std::vector<std::int64_t>;

Shape squeezed(const Shape& full) {
  Shape shape;
  std::copy_if(full.begin(), full.end(), std::back_inserter(shape), [](auto n) { return n != 1; });
  return shape;
}

std::string as_text(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::optional<DType> float_type(SafeType type) {
  switch (type) {
    case SafeType::f32:
      return DType::f32;
    case SafeType::f16:
      return DType::f16;
    case SafeType::bf16:
      return DType::bf16;
    default:
      return std::nullopt;
  }
}

std::optional<DType> affine_type(std::int64_t bits) {
  switch (bits) {
    case 2:
      return DType::affine2;
    case 3:
      return DType::affine3;
    case 4:
      return DType::affine4;
    case 5:
      return DType::affine5;
    case 6:
      return DType::affine6;
    case 8:
      return DType::affine8;
    default:
      return std::nullopt;
  }
}

/// [count, rows, cols], without the count of a single matrix.
Shape stacked(const TensorRef& ref, std::int64_t cols) {
  if (ref.rank > 2) return {ref.shape[0], ref.rows(), cols};
  return {ref.rows(), cols};
}

const Json* member(const Json* json, const char* key) {
  if (json == nullptr || !json->is_object()) return nullptr;
  const auto it = json->find(key);
  return it == json->end() || it->is_null() ? nullptr : &*it;
}

}  // namespace

StoredMatrices::StoredMatrices(const Safetensors& weights, const Json& config, std::string name)
    : weights_(weights), name_(std::move(name)) {
  const Json* nested = nullptr;
  for (const char* key : {"llm_config", "text_config"}) {
    if (nested == nullptr) nested = member(&config, key);
  }
  for (const Json* at : {&config, nested}) {
    for (const char* key : {"quantization", "quantization_config"}) {
      if (quantization_ == nullptr) quantization_ = member(at, key);
    }
  }
  const Json* fused = member(quantization_, "fuse_rotations");
  if (fused != nullptr && fused->is_boolean() && fused->get<bool>()) {
    throw Error(ErrorCode::unsupported,
                name_ +
                    ": config.json has 'fuse_rotations': such files hold a rotation that no "
                    "computation undoes; convert the model again without it");
  }
}

void StoredMatrices::fail(const std::string& message) const {
  throw Error(ErrorCode::bad_file, name_ + ": " + message);
}

const SafeTensor& StoredMatrices::require(const std::string& name) {
  const SafeTensor* tensor = weights_.find(name);
  if (tensor == nullptr) fail("tensor " + in_quotes(name) + " is missing");
  used_.insert(tensor->name);
  return *tensor;
}

void StoredMatrices::check_shape(const SafeTensor& t, const Shape& shape) const {
  if (squeezed(t.shape) == squeezed(shape)) return;
  fail("tensor " + in_quotes(t.name) + " has shape " + as_text(t.shape) +
       ", the model's sizes ask for " + as_text(shape));
}

std::vector<float> StoredMatrices::floats(const SafeTensor& t) const {
  const auto type = float_type(t.type);
  if (!type) {
    fail("tensor " + in_quotes(t.name) + " has type " + std::string(name_of(t.type)) +
         ", expected F32, F16 or BF16");
  }
  TensorRef ref;
  ref.type = *type;
  ref.shape[0] = static_cast<std::int64_t>(t.bytes / bytes_of(t.type));
  ref.data = t.data;
  std::vector<float> values = read_floats(ref);
  for (const float value : values) {
    if (!std::isfinite(value)) fail("tensor " + in_quotes(t.name) + " is not finite");
  }
  return values;
}

ScaleType StoredMatrices::float_scale_type(const SafeTensor& t) const {
  switch (t.type) {
    case SafeType::f32:
      return ScaleType::f32;
    case SafeType::f16:
      return ScaleType::f16;
    case SafeType::bf16:
      return ScaleType::bf16;
    default:
      fail("tensor " + in_quotes(t.name) + " has type " + std::string(name_of(t.type)) +
           ", which is no type of scales");
  }
}

/// Columns that share a scale, from the shape of the scales.
std::int64_t StoredMatrices::group_of(const SafeTensor& scales, std::int64_t count,
                                      std::int64_t rows, std::int64_t cols) const {
  const auto numbers = static_cast<std::int64_t>(scales.bytes / bytes_of(scales.type));
  const std::int64_t all_rows = count * rows;
  const std::int64_t groups = numbers / all_rows;
  if (groups < 1 || groups * all_rows != numbers || cols % groups != 0) {
    fail("tensor " + in_quotes(scales.name) + " has shape " + as_text(scales.shape) +
         ", which is no number of groups for " + std::to_string(all_rows) + " rows of " +
         std::to_string(cols));
  }
  return cols / groups;
}

/// config.json may say nothing about a module, but nothing else than the tensors do.
void StoredMatrices::confirm(const std::string& stem, const std::string& mode, std::int64_t bits,
                             std::int64_t group) const {
  if (quantization_ == nullptr) return;
  const Json* own = member(quantization_, stem.c_str());
  if (own != nullptr && own->is_boolean()) {
    if (!own->get<bool>()) {
      fail("module " + in_quotes(stem) + " is quantized but config.json says it is not");
    }
    own = nullptr;
  }
  const Json* from = own != nullptr ? own : quantization_;
  const auto differs = [&](const char* key, const Json& found) {
    const Json* said = member(from, key);
    if (said != nullptr && *said != found) {
      fail("module " + in_quotes(stem) + ": config.json says " + key + " " + said->dump() +
           ", the tensors say " + found.dump());
    }
  };
  // The defaults of a TurboQuant file describe its TurboQuant modules only.
  const Json* default_mode = member(quantization_, "mode");
  if (own == nullptr && default_mode != nullptr && *default_mode == "turboquant") return;
  if (own == nullptr && member(quantization_, "quant_method") != nullptr) return;  // not MLX's
  differs("bits", bits);
  differs("group_size", group);
  const Json* said = member(from, "mode");
  if ((said != nullptr ? *said : Json("affine")) != Json(mode) && member(from, "bits") != nullptr) {
    fail("module " + in_quotes(stem) + ": config.json says mode " +
         (said != nullptr ? said->dump() : "affine") + ", the tensors say " + mode);
  }
}

std::shared_ptr<const Rotation> StoredMatrices::rotation(const SafeTensor& signs,
                                                         std::int64_t cols) {
  check_shape(signs, {cols});
  std::vector<float> values = floats(signs);
  bool rotates = false;
  for (const float sign : values) {
    if (sign != 1.0f && sign != -1.0f) {
      fail("tensor " + in_quotes(signs.name) + " holds something else than 1 and -1");
    }
    rotates = rotates || sign < 0;
  }
  // All ones: the module was stored without rotation, whatever config.json says.
  if (!rotates) return nullptr;
  auto& shared = rotations_[values];
  if (shared == nullptr) {
    shared = std::make_shared<const Rotation>(Rotation{std::move(values), hadamard_block(cols)});
  }
  return shared;
}

void StoredMatrices::set_planes(TensorRef& ref, const SafeTensor& scales, ScaleType type,
                                std::int64_t group) {
  check_shape(scales, stacked(ref, ref.cols() / group));
  ref.side.planes.type = type;
  ref.side.planes.group = group;
  ref.side.planes.stride = ref.cols() / group * scale_bytes(type);
  ref.side.scales = scales.data;
}

void StoredMatrices::fill_mlx(TensorRef& ref, const std::string& stem, const SafeTensor& weight) {
  const std::int64_t all_rows = ref.count() * ref.rows();
  const auto words = static_cast<std::int64_t>(weight.bytes / sizeof(std::uint32_t)) / all_rows;
  const std::int64_t cols = ref.cols();
  check_shape(weight, stacked(ref, words));
  const SafeTensor& scales = require(stem + ".scales");
  const std::int64_t group = group_of(scales, ref.count(), ref.rows(), cols);
  const std::int64_t bits = 32 * words / cols;
  if (bits * cols != 32 * words) {
    fail("tensor " + in_quotes(weight.name) + " has shape " + as_text(weight.shape) +
         ", which is no whole number of bits for " + std::to_string(cols) + " columns");
  }
  std::string mode;
  if (has(stem + ".biases")) {
    mode = "affine";
    const auto type = affine_type(bits);
    if (!type || (group != 32 && group != 64 && group != 128)) {
      throw Error(ErrorCode::unsupported, name_ + ": module " + in_quotes(stem) + " has " +
                                              std::to_string(bits) + " bits in groups of " +
                                              std::to_string(group) +
                                              "; known are 2, 3, 4, 5, 6 and 8 bits in groups of "
                                              "32, 64 and 128");
    }
    const SafeTensor& biases = require(stem + ".biases");
    if (biases.type != scales.type) {
      fail("tensors " + in_quotes(scales.name) + " and " + in_quotes(biases.name) +
           " have different types");
    }
    ref.type = *type;
    set_planes(ref, scales, float_scale_type(scales), group);
    check_shape(biases, stacked(ref, cols / group));
    ref.side.biases = biases.data;
  } else {
    if (scales.type != SafeType::u8) fail("tensor " + in_quotes(stem + ".biases") + " is missing");
    const bool wide = bits == 8 && group == 32;
    if (!wide && (bits != 4 || (group != 32 && group != 16))) {
      fail("module " + in_quotes(stem) + " has " + std::to_string(bits) + " bits in groups of " +
           std::to_string(group) + ", which is none of mxfp4, mxfp8 and nvfp4");
    }
    mode = wide ? "mxfp8" : group == 32 ? "mxfp4" : "nvfp4";
    ref.type = wide ? DType::e4m3 : DType::e2m1;
    set_planes(ref, scales, group == 32 ? ScaleType::e8m0 : ScaleType::e4m3, group);
    if (has(stem + ".global_scale")) {
      // 448 * 6: the largest scale times the largest code, which MLX leaves out of the factor.
      const std::vector<float> factor = floats(require(stem + ".global_scale"));
      for (const float f : factor) ref.scales.push_back(f / (448.0f * 6.0f));
      if (factor.size() != 1 && static_cast<std::int64_t>(factor.size()) != ref.count()) {
        fail("tensor " + in_quotes(stem + ".global_scale") + " has the wrong size");
      }
    }
  }
  confirm(stem, mode, bits, group);
  ++kinds_["MLX " + mode];
}

void StoredMatrices::fill_turbo(TensorRef& ref, const std::string& stem, const SafeTensor& weight) {
  std::vector<float> levels = floats(require(stem + ".codebook"));
  switch (levels.size()) {
    case 2:
      ref.type = DType::turbo1;
      break;
    case 3:
      ref.type = DType::turbo_t;
      break;
    case 4:
      ref.type = DType::turbo2;
      break;
    case 8:
      ref.type = DType::turbo3;
      break;
    case 16:
      ref.type = DType::turbo4;
      break;
    default:
      fail("tensor " + in_quotes(stem + ".codebook") + " has " + std::to_string(levels.size()) +
           " levels; known are 2, 3, 4, 8 and 16");
  }
  if (!std::is_sorted(levels.begin(), levels.end())) {
    fail("tensor " + in_quotes(stem + ".codebook") + " is not ascending");
  }
  // A ternary word may hold the digit 3^20 - 1 at most; larger words still decode to digits 0..2.
  const std::int64_t cols = ref.cols();
  if (weight.type != SafeType::u32) {
    fail("tensor " + in_quotes(weight.name) + " has type " + std::string(name_of(weight.type)) +
         ", expected U32");
  }
  check_shape(weight, stacked(ref, row_bytes(ref.type, cols) / 4));
  const SafeTensor& scales = require(stem + ".scales");
  const std::int64_t group = group_of(scales, ref.count(), ref.rows(), cols);
  set_planes(ref, scales, float_scale_type(scales), group);
  ref.side.rotation = rotation(require(stem + ".signs"), cols);
  if (has(stem + ".qjl_packed")) {
    throw Error(ErrorCode::unsupported,
                name_ + ": module " + in_quotes(stem) + " has a QJL stage, which is not computed");
  }
  auto known = std::find(levels_.begin(), levels_.end(), levels);
  if (known == levels_.end()) known = levels_.insert(known, std::move(levels));
  ref.side.planes.levels = known->data();
  ++kinds_["TurboQuant-MLX"];
}

void StoredMatrices::fill_fp8(TensorRef& ref, const std::string& stem) {
  const SafeTensor& scale = require(stem + ".weight_scale");
  const auto numbers = static_cast<std::int64_t>(scale.bytes / bytes_of(scale.type));
  ref.type = DType::e4m3;
  if (numbers == 1 || (ref.rank > 2 && numbers == ref.count())) {
    ref.scales = floats(scale);
  } else if (numbers == ref.count() * ref.rows()) {
    set_planes(ref, scale, float_scale_type(scale), ref.cols());
  } else {
    throw Error(ErrorCode::unsupported, name_ + ": tensor " + in_quotes(scale.name) +
                                            " has shape " + as_text(scale.shape) +
                                            "; known are one scale for a matrix and one for a row");
  }
  ++kinds_["FP8"];
}

void StoredMatrices::fill_nvfp4(TensorRef& ref, const std::string& stem) {
  constexpr std::int64_t kGroup = 16;
  const SafeTensor& scales = require(stem + ".weight_scale");
  if (scales.type != SafeType::f8_e4m3) {
    fail("tensor " + in_quotes(scales.name) + " has type " + std::string(name_of(scales.type)) +
         ", expected F8_E4M3");
  }
  if (ref.cols() % kGroup != 0) {
    fail("tensor " + in_quotes(stem + ".weight") + " has rows of " + std::to_string(ref.cols()) +
         ", no multiple of 16");
  }
  ref.type = DType::e2m1;
  set_planes(ref, scales, ScaleType::e4m3, kGroup);
  ref.scales = floats(require(stem + ".weight_scale_2"));
  if (ref.scales.size() != 1 && static_cast<std::int64_t>(ref.scales.size()) != ref.count()) {
    fail("tensor " + in_quotes(stem + ".weight_scale_2") + " has the wrong size");
  }
  ++kinds_["NVFP4"];
}

TensorRef StoredMatrices::matrix(const std::string& stem, std::int64_t count, std::int64_t rows,
                                 std::int64_t cols) {
  const bool bare = !has(stem + ".weight") && has(stem);
  const SafeTensor& weight = require(bare ? stem : stem + ".weight");
  TensorRef ref;
  ref.stored = weight.name;
  ref.rank = count > 0 ? 3 : 2;
  if (count > 0) {
    ref.shape = {count, rows, cols};
  } else {
    ref.shape = {rows, cols, 1};
  }
  ref.data = weight.data;
  if (has(stem + ".codebook")) {
    fill_turbo(ref, stem, weight);
  } else if (weight.type == SafeType::u32) {
    fill_mlx(ref, stem, weight);
  } else if (weight.type == SafeType::f8_e4m3) {
    check_shape(weight, stacked(ref, cols));
    fill_fp8(ref, stem);
  } else if (weight.type == SafeType::u8 && has(stem + ".weight_scale")) {
    check_shape(weight, stacked(ref, cols / 2));
    fill_nvfp4(ref, stem);
  } else if (const auto type = float_type(weight.type)) {
    check_shape(weight, stacked(ref, cols));
    ref.type = *type;
  } else {
    throw Error(ErrorCode::unsupported, name_ + ": tensor " + in_quotes(weight.name) +
                                            " has type " + std::string(name_of(weight.type)) +
                                            ", which is no known form of a weight matrix");
  }
  return ref;
}

TensorRef StoredMatrices::scattered(const std::string& before, const std::string& after,
                                    std::int64_t count, std::int64_t rows, std::int64_t cols) {
  TensorRef all;
  std::size_t factors = 0;
  for (std::int64_t j = 0; j < count; ++j) {
    TensorRef one = matrix(before + std::to_string(j) + after, 0, rows, cols);
    const Planes& p = one.side.planes;
    const Planes& first = all.side.planes;
    if (j > 0 && (one.type != all.type || p.type != first.type || p.group != first.group ||
                  p.levels != first.levels || one.side.rotation != all.side.rotation ||
                  one.scales.size() != factors)) {
      throw Error(ErrorCode::unsupported,
                  name_ + ": tensors " + in_quotes(all.stored) + " and " + in_quotes(one.stored) +
                      " are experts of one layer but stored in different forms");
    }
    all.side.parts.push_back({one.data, one.side.scales, one.side.biases});
    factors = one.scales.size();
    all.scales.insert(all.scales.end(), one.scales.begin(), one.scales.end());
    if (j > 0) continue;
    all.type = one.type;
    all.stored = one.stored;
    all.data = one.data;
    all.side.planes = p;
    all.side.rotation = one.side.rotation;
  }
  all.rank = 3;
  all.shape = {count, rows, cols};
  return all;
}

std::vector<float> StoredMatrices::decay(const std::string& name, std::int64_t heads) {
  const SafeTensor& t = require(name);
  check_shape(t, {heads});
  std::vector<float> rates;
  if (t.type == SafeType::f64) {
    for (std::int64_t i = 0; i < heads; ++i) {
      double log;
      std::memcpy(&log, t.data + i * static_cast<std::int64_t>(sizeof log), sizeof log);
      rates.push_back(-static_cast<float>(std::exp(log)));
    }
  } else {
    for (const float log : floats(t)) rates.push_back(-std::exp(log));
  }
  for (const float rate : rates) {
    if (!std::isfinite(rate)) fail("tensor " + in_quotes(t.name) + " is not finite");
  }
  return rates;
}

TensorRef StoredMatrices::values(const std::string& name, const Shape& shape) {
  const SafeTensor& tensor = require(name);
  check_shape(tensor, shape);
  (void)floats(tensor);  // refuses other types and NaN
  TensorRef ref;
  ref.stored = tensor.name;
  ref.type = *float_type(tensor.type);
  ref.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), ref.shape.begin());
  ref.data = tensor.data;
  return ref;
}

}  // namespace nemo
