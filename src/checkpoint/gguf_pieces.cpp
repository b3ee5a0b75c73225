// Keys and tensors of a checkpoint under the names of a GGUF.
#include "gguf_pieces.hpp"

#include "gguf_metadata.hpp"
#include "pack_planes.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/printable.hpp>
#include <nemo/tensor/formats_planar.hpp>

#include <algorithm>
#include <map>

namespace nemo {
namespace {

[[noreturn]] void refuse(const TensorRef& tensor) {
  throw Error(ErrorCode::unsupported,
              "tensor " + in_quotes(tensor.stored) + " is stored as " + stored_form(tensor) +
                  ", which a GGUF cannot hold unchanged; write a folder (-o NAME --format mlx or "
                  "hf), or change the values with nemo quantize");
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

std::vector<GgufPiece> gguf_pieces(const Checkpoint& checkpoint, PlanePieces* planes) {
  const TensorNames names(checkpoint.config());
  std::vector<GgufPiece> pieces;
  for (const TensorRef& tensor : checkpoint.tensors()) {
    const LayoutTensor layout = names.of(tensor);
    if (is_planar(tensor.type)) {
      if (planes == nullptr) refuse(tensor);
      planes->add(tensor, layout, pieces);
    } else if (!layout.is_matrix()) {  // readers expect floats
      pieces.emplace_back(layout.name, layout.dims, read_floats(tensor));
      continue;
    } else {
      pieces.emplace_back(layout.name, tensor.type, layout.dims,
                          plane_bytes(tensor, StoredPlane::codes, 0, tensor.count()));
    }
    if (tensor.scales.empty()) continue;
    // The second scale of NVFP4.
    const std::string stem = layout.name.substr(0, layout.name.rfind('.'));
    const auto count = static_cast<std::int64_t>(tensor.scales.size());
    pieces.emplace_back(stem + ".scale", std::vector{count}, tensor.scales);
  }
  if (planes != nullptr) planes->finish(pieces);
  return pieces;
}

std::vector<std::string> put_gguf_model(GgufWriter& writer, const Checkpoint& checkpoint) {
  std::vector<std::string> notes;
  ModelConfig config = checkpoint.config();
  if (checkpoint.find("mtp.layers.0.eh_proj.weight") == nullptr) config.mtp.clear();
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
  return notes;
}

}  // namespace nemo
