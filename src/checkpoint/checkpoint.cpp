// Lookup of tensors by canonical name, small conversions, and the choice of reader for a path.
#include <nemo/base/error.hpp>
#include <nemo/base/half.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/checkpoint/folder_checkpoint.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/io/mapped_file.hpp>
#include <nemo/io/printable.hpp>

#include <cstring>

namespace nemo {
namespace {

template <class T>
std::vector<float> converted(const TensorRef& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, tensor.data + i * sizeof(T), sizeof(T));
    values[i] = to_float(value);
  }
  return values;
}

}  // namespace

std::vector<float> read_floats(const TensorRef& tensor) {
  switch (tensor.type) {
    case DType::f32:
      return converted<float>(tensor);
    case DType::f16:
      return converted<Half>(tensor);
    case DType::bf16:
      return converted<BFloat16>(tensor);
    default:
      throw Error(ErrorCode::unsupported, "tensor " + in_quotes(tensor.stored) + " has type " +
                                              std::string(info(tensor.type).name) +
                                              ", expected F32, F16 or BF16");
  }
}

std::string stored_form(DType type, const Planes& planes) {
  std::string name(info(type).name);
  const auto grouped = [&](const char* family, const std::string& bits) {
    return std::string(family) + " " + bits + " g" + std::to_string(planes.group);
  };
  if (!is_planar(type)) return name;
  if (type == DType::e2m1) return planes.type == ScaleType::e8m0 ? "mxfp4" : "nvfp4";
  if (type == DType::e4m3) return planes.type == ScaleType::e8m0 ? "mxfp8" : "FP8";
  if (name.starts_with("AFFINE")) return grouped("affine", name.substr(6));
  return grouped("TurboQuant", name.back() == 'T' ? "T" : name.substr(5));
}
std::string stored_form(const TensorRef& tensor) {
  return stored_form(tensor.type, tensor.side.planes);
}

const TensorRef* Checkpoint::find(std::string_view name) const noexcept {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : it->second;
}

const TensorRef& Checkpoint::tensor(std::string_view name) const {
  if (const TensorRef* found = find(name)) return *found;
  throw Error(ErrorCode::bad_file, path_ + ": tensor " + in_quotes(name) + " is missing");
}

std::int64_t Checkpoint::tensor_bytes() const noexcept {
  std::int64_t bytes = 0;
  for (const TensorRef& tensor : tensors_) bytes += tensor.bytes();
  return bytes;
}

void Checkpoint::add(TensorRef tensor) {
  const TensorRef& kept = tensors_.emplace_back(std::move(tensor));
  index_.emplace(kept.name, &kept);
}

void Checkpoint::pad_vocabulary(text::TokenizerData& data) const {
  const auto vocab = static_cast<std::size_t>(config_.vocab);
  if (data.tokens.size() > vocab) {
    throw Error(ErrorCode::bad_file,
                path_ + ": the tokenizer has " + std::to_string(data.tokens.size()) +
                    " tokens but the embedding only " + std::to_string(vocab) + " rows");
  }
  if (data.types.empty()) data.types.assign(data.tokens.size(), text::TokenType::normal);
  for (std::size_t id = data.tokens.size(); id < vocab; ++id) {
    data.tokens.push_back("[PAD" + std::to_string(id) + "]");
    data.types.push_back(text::TokenType::unused);
  }
}

KvPairing Checkpoint::kv_pairing() const {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path path(path_);
  const fs::path folder = fs::is_directory(path, ignored) ? path : path.parent_path();
  KvPairing pairing;
  if (const fs::path file = folder / "kv_config.json"; fs::exists(file, ignored)) {
    pairing.config_origin = file.string();
    const MappedFile mapped(file);
    pairing.config.emplace(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.size());
  }
  // A folder may hold many GGUF files, and means fit one model only: those are stored inside.
  const fs::path means = folder / "kv_means.gguf";
  if (path.extension() != ".gguf" && fs::exists(means, ignored)) {
    pairing.means = read_kv_means(means, config_);
  }
  return pairing;
}

std::shared_ptr<const Checkpoint> open_checkpoint(const std::filesystem::path& path) {
  if (is_model_folder(path)) {
    return checkpoint_from_folder(read_model_folder(path));
  }
  return checkpoint_from_gguf(Gguf::open(path));
}

}  // namespace nemo
