// A file is: header length (8 bytes), JSON header, data of all tensors without gaps. Within a file
// tensors of wide elements come first, so that every one is aligned to its elements.
#include <nemo/base/error.hpp>
#include <nemo/io/safetensors_writer.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

static_assert(std::endian::native == std::endian::little, "tensors are written as they lie");

namespace nemo {
namespace {

using Json = nlohmann::json;  // the ordered one searches linearly: too slow for 40,000 tensors

constexpr std::pair<std::string_view, std::uint64_t> kElementBytes[] = {
    {"F64", 8}, {"I64", 8}, {"U64", 8},  {"F32", 4},     {"I32", 4},
    {"U32", 4}, {"F16", 2}, {"BF16", 2}, {"I16", 2},     {"U16", 2},
    {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path folder, Options options)
    : folder_(std::move(folder)), options_(std::move(options)) {}

std::uint64_t SafetensorsWriter::element_bytes(std::string_view dtype) noexcept {
  for (const auto& [name, bytes] : kElementBytes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

std::size_t SafetensorsWriter::add_tensor(std::string_view name, std::string_view dtype,
                                          std::span<const std::int64_t> shape) {
  Tensor& tensor = tensors_.emplace_back();
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape.assign(shape.begin(), shape.end());
  tensor.bytes = element_bytes(dtype);
  if (tensor.bytes == 0) {
    throw Error(ErrorCode::internal, "SafetensorsWriter: unknown dtype '" + tensor.dtype + "'");
  }
  for (const std::int64_t size : shape) tensor.bytes *= static_cast<std::uint64_t>(size);
  data_bytes_ += tensor.bytes;
  return tensors_.size() - 1;
}

std::string SafetensorsWriter::shard_name(std::size_t shard) const {
  if (tensors_.back().shard == 0) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", shard + 1,
                tensors_.back().shard + 1);
  return name;
}

void SafetensorsWriter::plan_shards() {
  std::size_t shard = 0;
  std::uint64_t filled = 0;
  for (Tensor& tensor : tensors_) {
    if (filled > 0 && filled + tensor.bytes > options_.shard_bytes) {
      ++shard;
      filled = 0;
    }
    tensor.shard = shard;
    filled += tensor.bytes;
  }
}

void SafetensorsWriter::begin() {
  if (tensors_.empty()) throw Error(ErrorCode::internal, "SafetensorsWriter: no tensors");
  plan_shards();
  std::vector<std::vector<Tensor*>> members(tensors_.back().shard + 1);
  for (Tensor& tensor : tensors_) members[tensor.shard].push_back(&tensor);
  for (std::size_t s = 0; s < members.size(); ++s) {
    std::stable_sort(members[s].begin(), members[s].end(), [](const Tensor* a, const Tensor* b) {
      return element_bytes(a->dtype) > element_bytes(b->dtype);
    });
    Json header;
    header["__metadata__"]["format"] = options_.format;
    std::uint64_t offset = 0;
    for (Tensor* tensor : members[s]) {
      tensor->offset = offset;
      offset += tensor->bytes;
      header[tensor->name] = {{"dtype", tensor->dtype},
                              {"shape", tensor->shape},
                              {"data_offsets", {tensor->offset, offset}}};
    }
    std::string text = header.dump();
    // Spaces up to a cache line: rows of the mapped file then start on one wherever they can.
    text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');
    Shard& shard = shards_.emplace_back(folder_ / shard_name(s));
    std::uint64_t length = text.size();
    char prefix[8];
    std::memcpy(prefix, &length, sizeof length);
    shard.file.append(std::string_view(prefix, sizeof prefix));
    shard.file.append(text);
    shard.data_start = sizeof prefix + length;
    shard.file.resize(shard.data_start + offset);
  }
}

void SafetensorsWriter::write(std::size_t index, std::uint64_t offset,
                              std::span<const std::byte> bytes) {
  Tensor& tensor = tensors_[index];
  if (offset > tensor.bytes || bytes.size() > tensor.bytes - offset) {
    throw Error(ErrorCode::internal,
                "SafetensorsWriter: write past the end of '" + tensor.name + "'");
  }
  Shard& shard = shards_[tensor.shard];
  shard.file.write_at(shard.data_start + tensor.offset + offset, bytes);
  tensor.written += bytes.size();
}

void SafetensorsWriter::finish() {
  Json map = Json::object();
  for (const Tensor& tensor : tensors_) {
    if (tensor.written != tensor.bytes) {
      throw Error(ErrorCode::internal,
                  "SafetensorsWriter: tensor '" + tensor.name + "' is incomplete");
    }
    map[tensor.name] = shard_name(tensor.shard);
  }
  for (Shard& shard : shards_) shard.file.commit();
  if (shards_.size() == 1 && !options_.always_index) return;
  const Json index = {{"metadata", {{"total_size", data_bytes_}}}, {"weight_map", std::move(map)}};
  AtomicFile file(folder_ / "model.safetensors.index.json");
  file.append(index.dump(2) + "\n");
  file.commit();
}

}  // namespace nemo
