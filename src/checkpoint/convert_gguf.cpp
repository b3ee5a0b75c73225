// From any container to a GGUF.
#include "gguf_metadata.hpp"
#include "stored_bytes.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/convert.hpp>
#include <nemo/io/printable.hpp>
#include <nemo/tensor/formats_planar.hpp>

#include <algorithm>
#include <map>

namespace nemo {
namespace {

/// A tensor to be written: bytes where they lie, or floats.
struct Piece {
  const TensorRef* tensor;
  std::vector<float> values;  // of small tensors
  std::size_t index;
  bool factor = false;  // the second scale of NVFP4
};

[[noreturn]] void refuse(const TensorRef& tensor) {
  throw Error(ErrorCode::unsupported,
              "tensor " + in_quotes(tensor.stored) + " is stored as " + stored_form(tensor) +
                  ", which a GGUF cannot hold unchanged; write a folder (-o NAME --format mlx or "
                  "hf), or change the values with nemo quantize");
}

std::vector<Piece> declare(GgufWriter& writer, const Checkpoint& checkpoint) {
  const TensorNames names(checkpoint.config());
  std::vector<Piece> pieces;
  for (const TensorRef& tensor : checkpoint.tensors()) {
    const LayoutTensor layout = names.of(tensor);
    if (tensor.side.planes.type != ScaleType::none || tensor.side.planes.levels != nullptr ||
        tensor.type == DType::e4m3 || tensor.type == DType::e2m1) {
      refuse(tensor);
    }
    // Readers expect floats for what is not a matrix.
    if (!layout.is_matrix()) {
      Piece piece{&tensor, read_floats(tensor), 0};
      piece.index = writer.add_tensor(layout.name, DType::f32, layout.dims);
      pieces.push_back(std::move(piece));
      continue;
    }
    pieces.push_back({&tensor, {}, writer.add_tensor(layout.name, tensor.type, layout.dims)});
    if (tensor.scales.empty()) continue;
    const std::string stem = layout.name.substr(0, layout.name.rfind('.'));
    const auto count = static_cast<std::int64_t>(tensor.scales.size());
    Piece factor{&tensor, tensor.scales, 0, true};
    factor.index = writer.add_tensor(stem + ".scale", DType::f32, {&count, 1});
    pieces.push_back(std::move(factor));
  }
  return pieces;
}

/// llama.cpp's number of the type that most elements have; all of one float type or a guess at
/// none: 0 is F32.
std::uint32_t file_type(const Checkpoint& checkpoint) {
  std::map<DType, std::int64_t> elements;
  for (const TensorRef& tensor : checkpoint.tensors()) elements[tensor.type] += tensor.elements();
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  constexpr std::pair<DType, std::uint32_t> kNumbers[] = {
      {DType::f32, 0},   {DType::f16, 1},   {DType::q4_0, 2},  {DType::q4_1, 3},  {DType::q8_0, 7},
      {DType::q5_0, 8},  {DType::q5_1, 9},  {DType::q2_k, 10}, {DType::q3_k, 12}, {DType::q4_k, 15},
      {DType::q5_k, 17}, {DType::q6_k, 18}, {DType::bf16, 32}};
  for (const auto& [type, number] : kNumbers) {
    if (type == most->first) return number;
  }
  return 1024;  // "guessed"
}

}  // namespace

std::vector<std::string> convert_to_gguf(const Checkpoint& checkpoint,
                                         const std::filesystem::path& path,
                                         const ConvertOptions& options) {
  std::error_code ignored;
  if (!options.replace && std::filesystem::exists(path, ignored)) {
    throw Error(ErrorCode::io, in_quotes(path.string()) + " exists; use --force to replace it");
  }
  std::vector<std::string> notes;
  ModelConfig config = checkpoint.config();
  if (checkpoint.find("mtp.layers.0.eh_proj.weight") == nullptr) config.mtp.clear();
  GgufWriter writer(path);
  put_gguf_sizes(writer, config, config.name, file_type(checkpoint));
  try {
    put_gguf_tokenizer(writer, checkpoint.tokenizer());
  } catch (const Error& error) {
    if (error.code() == ErrorCode::unsupported) throw;
    notes.push_back(std::string("no tokenizer: ") + error.what());
  }
  if (const std::string text = checkpoint.chat_template(); !text.empty()) {
    writer.add_string("tokenizer.chat_template", text);
  }
  put_gguf_sampling(writer, checkpoint.sampling());
  if (const KvPairing kv = checkpoint.kv_pairing(); kv.config || kv.means) {
    notes.emplace_back("the paired KV cache policy: store it again with nemo pair");
  }
  const std::vector<Piece> pieces = declare(writer, checkpoint);
  writer.begin();
  std::uint64_t total = 0;
  for (const Piece& piece : pieces) total += writer.tensor_bytes(piece.index);
  CopyMeter meter(total, options.progress);
  for (const Piece& piece : pieces) {
    const TensorRef& tensor = *piece.tensor;
    const auto runs = piece.values.empty()
                          ? plane_bytes(tensor, StoredPlane::codes, 0, tensor.count())
                          : std::vector{std::as_bytes(std::span(piece.values))};
    meter.copy(runs, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
      writer.write(piece.index, offset, bytes);
    });
  }
  writer.finish();
  return notes;
}

}  // namespace nemo
