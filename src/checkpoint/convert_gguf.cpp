// From any container to a GGUF.
#include "gguf_pieces.hpp"
#include "stored_bytes.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/convert.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/io/printable.hpp>

namespace nemo {

std::vector<std::string> convert_to_gguf(const Checkpoint& checkpoint,
                                         const std::filesystem::path& path,
                                         const ConvertOptions& options) {
  require_file_order(checkpoint);
  std::error_code ignored;
  if (!options.replace && std::filesystem::exists(path, ignored)) {
    throw Error(ErrorCode::io, in_quotes(path.string()) + " exists; use --force to replace it");
  }
  GgufWriter writer(path);
  std::vector<std::string> notes = put_gguf_model(writer, checkpoint);
  const std::vector<GgufPiece> pieces = gguf_pieces(checkpoint);
  std::uint64_t total = 0;
  for (const GgufPiece& piece : pieces) {
    total += writer.tensor_bytes(writer.add_tensor(piece.name, piece.type, piece.dims));
  }
  writer.begin();
  CopyMeter meter(total, options.progress);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    meter.copy(pieces[i].runs, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
      writer.write(i, offset, bytes);
    });
  }
  writer.finish();
  return notes;
}

}  // namespace nemo
