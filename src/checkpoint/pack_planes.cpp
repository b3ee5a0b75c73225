// Planes of matrices into packs and out of them.
#include "pack_planes.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/printable.hpp>
#include <nemo/tensor/hadamard.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<ScaleType, const char*> kScaleNames[] = {
    {ScaleType::none, "none"}, {ScaleType::f32, "F32"},   {ScaleType::f16, "F16"},
    {ScaleType::bf16, "BF16"}, {ScaleType::e8m0, "E8M0"}, {ScaleType::e4m3, "E4M3"}};

std::string name_of(ScaleType type) {
  for (const auto& [known, name] : kScaleNames) {
    if (known == type) return name;
  }
  return "";
}

/// Entries of the codebook that codes of a type index; 0: they need none.
std::int64_t level_count(DType type) {
  switch (type) {
    case DType::turbo1:
      return 2;
    case DType::turbo_t:
      return 3;
    case DType::turbo2:
      return 4;
    case DType::turbo3:
      return 8;
    case DType::turbo4:
      return 16;
    default:
      return 0;
  }
}

std::string stem_of(const std::string& name) { return name.substr(0, name.rfind('.')); }

}  // namespace

void PlanePieces::add(const TensorRef& tensor, const LayoutTensor& layout,
                      std::vector<GgufPiece>& pieces) {
  const auto add_plane = [&](const std::string& name, StoredPlane plane, std::int64_t row) {
    std::vector<std::int64_t> dims = layout.dims;
    dims[0] = row;
    GgufPiece& piece = pieces.emplace_back(name, DType::i8, std::move(dims),
                                           plane_bytes(tensor, plane, 0, tensor.count()));
    piece.planar = &tensor;
    piece.plane = plane;
  };
  const std::string stem = stem_of(layout.name);
  const Planes& planes = tensor.side.planes;
  add_plane(layout.name, StoredPlane::codes, row_bytes(tensor.type, tensor.cols()));
  if (planes.stride > 0) add_plane(stem + ".scales", StoredPlane::scales, planes.stride);
  if (tensor.side.row_bytes() > planes.stride) {
    add_plane(stem + ".biases", StoredPlane::biases, planes.stride);
  }
  Entry entry{&tensor, {}, {}};
  const auto table = [&](const char* kind, std::vector<float> values) {
    std::string name = std::string(kind) + "." + std::to_string(tables_.size());
    tables_.emplace_back(name, std::move(values));
    return name;
  };
  if (const std::int64_t count = level_count(tensor.type); count > 0) {
    const std::vector<float> levels(planes.levels, planes.levels + count);
    const auto [known, fresh] = levels_.try_emplace(levels);
    if (fresh) known->second = table("nemo.pack.levels", levels);
    entry.levels = known->second;
  }
  if (const Rotation* rotation = tensor.side.rotation.get()) {
    const auto [known, fresh] = signs_.try_emplace(rotation);
    if (fresh) known->second = table("nemo.pack.signs", rotation->signs);
    entry.signs = known->second;
  }
  entries_.emplace(layout.name, entry);
}

void PlanePieces::finish(std::vector<GgufPiece>& pieces) {
  for (auto& [name, values] : tables_) {
    const auto count = static_cast<std::int64_t>(values.size());
    pieces.emplace_back(name, std::vector{count}, std::move(values));
  }
  tables_.clear();
}

std::string PlanePieces::description() const {
  if (entries_.empty()) return "";
  Json all;
  for (const auto& [name, entry] : entries_) {
    const TensorRef& t = *entry.tensor;
    Json& json = all[name];
    json = {{"type", info(t.type).name}, {"scales", name_of(t.side.planes.type)}};
    if (t.side.planes.type != ScaleType::none) json["group"] = t.side.planes.group;
    if (t.side.row_bytes() > t.side.planes.stride) json["biases"] = true;
    if (!entry.levels.empty()) json["levels"] = entry.levels;
    if (!entry.signs.empty()) json["signs"] = entry.signs;
  }
  return all.dump();
}

PlaneTensors::PlaneTensors(const Gguf& gguf) : gguf_(gguf) {
  const auto text = gguf.find_string(kPackPlanesKey);
  if (!text) return;
  const auto refuse = [&](const std::string& name) {
    gguf.fail("key " + in_quotes(kPackPlanesKey) + " describes " + in_quotes(name) +
              " in a way that this version of nemo does not know; make the pack again");
  };
  const Json all = Json::parse(*text, nullptr, false);
  if (!all.is_object()) gguf.fail("key " + in_quotes(kPackPlanesKey) + " is no JSON object");
  for (const auto& item : all.items()) {
    const std::string& name = item.key();
    const Json& json = item.value();
    if (!json.is_object()) refuse(name);
    const auto text_of = [&](const char* key) {
      const auto at = json.find(key);
      if (at == json.end()) return std::string();
      if (!at->is_string()) refuse(name);
      return at->get<std::string>();
    };
    Entry entry;
    const auto type = dtype_from_name(text_of("type"));
    const std::string scales = text_of("scales");
    const auto* const known = std::find_if(std::begin(kScaleNames), std::end(kScaleNames),
                                           [&](const auto& s) { return s.second == scales; });
    if (!type || !is_planar(*type) || known == std::end(kScaleNames)) refuse(name);
    entry.type = *type;
    entry.scales = known->first;
    if (entry.scales != ScaleType::none) {
      const auto group = json.find("group");
      if (group == json.end() || !group->is_number_integer()) refuse(name);
      entry.group = group->get<std::int64_t>();
      if (entry.group < 1) refuse(name);
    }
    const auto biases = json.find("biases");
    if (biases != json.end() && !biases->is_boolean()) refuse(name);
    entry.biases = biases != json.end() && biases->get<bool>();
    if (entry.biases && entry.scales == ScaleType::none) refuse(name);
    entry.levels = text_of("levels");
    entry.signs = text_of("signs");
    if (entry.levels.empty() != (level_count(entry.type) == 0)) refuse(name);
    entries_.emplace(name, std::move(entry));
  }
}

const std::byte* PlaneTensors::plane(const std::string& name, std::int64_t row,
                                     const TensorRef& tensor,
                                     std::vector<std::string_view>& used) const {
  const GgufTensor* found = gguf_.find_tensor(name);
  if (found == nullptr) gguf_.fail("tensor " + in_quotes(name) + " is missing");
  const std::array<std::int64_t, 4> dims = {row, tensor.rows(), tensor.count(), 1};
  if (found->type != DType::i8 || found->dims != dims) {
    gguf_.fail("tensor " + in_quotes(name) + " must be I8 with dims {" + std::to_string(row) +
               ", " + std::to_string(tensor.rows()) + ", " + std::to_string(tensor.count()) +
               "}: the pack is damaged; make it again with nemo pack");
  }
  used.push_back(found->name);
  return found->data;
}

std::vector<float> PlaneTensors::floats(const std::string& name, std::int64_t count,
                                        std::vector<std::string_view>& used) const {
  const GgufTensor* found = gguf_.find_tensor(name);
  if (found == nullptr) gguf_.fail("tensor " + in_quotes(name) + " is missing");
  const std::array<std::int64_t, 4> dims = {count, 1, 1, 1};
  if (found->type != DType::f32 || found->dims != dims) {
    gguf_.fail("tensor " + in_quotes(name) + " must hold " + std::to_string(count) +
               " F32: the pack is damaged; make it again with nemo pack");
  }
  std::vector<float> values(static_cast<std::size_t>(count));
  std::memcpy(values.data(), found->data, values.size() * sizeof(float));
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) {
    gguf_.fail("tensor " + in_quotes(name) + " is not finite");
  }
  used.push_back(found->name);
  return values;
}

TensorRef PlaneTensors::find(const std::string& name, const std::vector<std::int64_t>& shape,
                             std::vector<std::string_view>& used) {
  const Entry& entry = entries_.at(name);
  TensorRef ref;
  ref.stored = name;
  ref.type = entry.type;
  ref.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), ref.shape.begin());
  const std::int64_t cols = ref.cols();
  Planes& planes = ref.side.planes;
  if (entry.scales != ScaleType::none) {
    const std::int64_t groups = (cols - 1) / entry.group + 1;
    planes = {entry.scales, entry.group, groups * scale_bytes(entry.scales), nullptr};
  }
  const std::string stem = stem_of(name);
  ref.data = plane(name, row_bytes(ref.type, cols), ref, used);
  if (planes.stride > 0) ref.side.scales = plane(stem + ".scales", planes.stride, ref, used);
  if (entry.biases) ref.side.biases = plane(stem + ".biases", planes.stride, ref, used);
  if (!entry.levels.empty()) {
    std::vector<float> levels = floats(entry.levels, level_count(ref.type), used);
    planes.levels = levels_.try_emplace(entry.levels, std::move(levels)).first->second.data();
  }
  if (entry.signs.empty()) return ref;
  auto& rotation = rotations_[entry.signs];
  std::vector<float> signs = floats(entry.signs, cols, used);
  if (rotation == nullptr) {
    if (!std::all_of(signs.begin(), signs.end(), [](float x) { return x == 1.0f || x == -1.0f; })) {
      gguf_.fail("tensor " + in_quotes(entry.signs) + " holds something else than 1 and -1");
    }
    rotation = std::make_shared<const Rotation>(Rotation{std::move(signs), hadamard_block(cols)});
  }
  ref.side.rotation = rotation;
  return ref;
}

}  // namespace nemo
