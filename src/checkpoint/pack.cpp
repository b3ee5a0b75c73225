// Writing and verifying packs, both in one parallel pass over chunks of rows.
#include "gguf_pieces.hpp"
#include "pack_header.hpp"
#include "pack_planes.hpp"
#include "row_chunks.hpp"

#include <nemo/base/aligned.hpp>
#include <nemo/base/error.hpp>
#include <nemo/base/hash.hpp>
#include <nemo/base/machine.hpp>
#include <nemo/checkpoint/folder_checkpoint.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/checkpoint/pack.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace nemo {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kAlignment = 4096;  // tensors start on pages

void check_paths(const fs::path& model, const fs::path& out, bool replace) {
  std::error_code ignored;
  if (!fs::exists(out, ignored)) return;
  if (!replace) {
    throw Error(ErrorCode::io, in_quotes(out.string()) + " exists; use --force to replace it");
  }
  // The model may consist of several files beside the one that was named.
  const fs::path folder = fs::is_directory(model, ignored) ? model : model.parent_path();
  const bool beside = fs::equivalent(folder.empty() ? "." : folder,
                                     out.parent_path().empty() ? "." : out.parent_path(), ignored);
  if (fs::equivalent(model, out, ignored) || (beside && out.extension() != ".nemo")) {
    throw Error(ErrorCode::usage, in_quotes(out.string()) +
                                      " is or may be part of the model; name a new file, best one "
                                      "that ends in .nemo");
  }
}

std::string source_name(const fs::path& model) {
  const fs::path name = model.has_filename() ? model.filename() : model.parent_path().filename();
  return name.string();
}

std::vector<GgufPiece> pieces_of(const Gguf& gguf) {
  std::vector<GgufPiece> pieces;
  for (const GgufTensor& t : gguf.tensors()) {
    pieces.emplace_back(
        std::string(t.name), t.type,
        std::vector(t.dims.begin(), t.dims.begin() + std::max(t.rank, 1)),
        std::vector{std::span<const std::byte>(t.data, static_cast<std::size_t>(t.bytes))});
  }
  return pieces;
}

/// `size` bytes of a tensor from `offset` on: where they lie, or gathered in `buffer`.
std::span<const std::byte> gathered(const std::vector<std::span<const std::byte>>& runs,
                                    std::size_t offset, std::size_t size,
                                    AlignedBuffer<std::byte>& buffer) {
  std::size_t done = 0;
  for (const auto run : runs) {
    if (offset >= run.size()) {
      offset -= run.size();
      continue;
    }
    const auto part = run.subspan(offset, std::min(size - done, run.size() - offset));
    if (part.size() == size) return part;
    if (done == 0) buffer.reserve_discard(size);
    std::memcpy(buffer.data() + done, part.data(), part.size());
    done += part.size();
    offset = 0;
    if (done == size) break;
  }
  return buffer.span().first(done);
}

/// Bytes of one row of all planes.
std::int64_t all_planes(const TensorRef& tensor) {
  return row_bytes(tensor.type, tensor.cols()) + tensor.side.row_bytes();
}

/// A chunk of a tensor of blocks in kernel order, from `source`.
std::span<const std::byte> ordered_blocks(const Kernels& kernels, const GgufPiece& piece,
                                          const RowChunk& chunk, std::span<const std::byte> source,
                                          AlignedBuffer<std::byte>& buffer) {
  buffer.reserve_discard(source.size());
  const WeightRows rows{source.data(), chunk.row_bytes, piece.dims[0]};
  for_stack(piece.dims[1], chunk.first_row, chunk.rows,
            [&](std::int64_t, std::int64_t, std::int64_t count, std::int64_t done) {
              kernels.format(piece.type)
                  .to_kernel_order(rows, done, count, {buffer.data() + done * chunk.row_bytes});
            });
  return buffer.span().first(source.size());
}

/// A chunk of one plane of a planar tensor in kernel order; the others are made and dropped.
std::span<const std::byte> ordered_plane(const Kernels& kernels, const GgufPiece& piece,
                                         const RowChunk& chunk, AlignedBuffer<std::byte>& buffer) {
  const TensorRef& tensor = *piece.planar;
  const std::int64_t codes = chunk.rows * row_bytes(tensor.type, tensor.cols());
  const std::int64_t scales = chunk.rows * tensor.side.planes.stride;
  const auto size = static_cast<std::size_t>(codes + 2 * scales);
  buffer.reserve_discard(size);
  std::memset(buffer.data(), 0, size);  // kernel order has no padding within rows, so some is left
  RowsOut out{buffer.data()};
  if (scales > 0) out.scales = out.codes + codes;
  if (tensor.side.row_bytes() > tensor.side.planes.stride) out.biases = out.scales + scales;
  order_rows(kernels, tensor, chunk.first_row, chunk.rows, out);
  const std::byte* plane = piece.plane == StoredPlane::codes    ? out.codes
                           : piece.plane == StoredPlane::scales ? out.scales
                                                                : out.biases;
  return {plane, static_cast<std::size_t>(chunk.rows * chunk.row_bytes)};
}

/// Sums of hashes that threads add to.
class Checksums {
 public:
  explicit Checksums(std::size_t tensors) : sums_(tensors) {}
  void add(const RowChunk& chunk, std::span<const std::byte> bytes) {
    sums_[chunk.piece] += hash_rows(bytes, chunk.first_row, chunk.row_bytes);
  }
  [[nodiscard]] std::uint64_t of(std::size_t tensor) const { return sums_[tensor]; }

 private:
  std::vector<std::atomic<std::uint64_t>> sums_;
};

}  // namespace

PackReport write_pack(const fs::path& model, const fs::path& out, const Kernels& kernels,
                      const PackOptions& options) {
  const std::int64_t lanes = kernel_order(kernels);
  if (lanes == 0) {
    throw Error(ErrorCode::usage, "kernels " + std::string(kernels.name) +
                                      " read file order only, so a pack for them would gain "
                                      "nothing; choose others with --kernels");
  }
  const auto checkpoint = open_checkpoint(model);
  require_file_order(*checkpoint);
  check_paths(model, out, options.replace);

  std::optional<Gguf> gguf;
  std::vector<GgufPiece> pieces;
  PlanePieces planes;
  if (is_model_folder(model)) {
    pieces = gguf_pieces(*checkpoint, &planes);
  } else {
    gguf = Gguf::open(model);
    pieces = pieces_of(*gguf);
  }
  std::unordered_set<const TensorRef*> planar;
  std::unordered_set<std::string_view> stored;
  for (const TensorRef* tensor : kernel_order_tensors(*checkpoint, kernels)) {
    if (is_planar(tensor->type)) {
      planar.insert(tensor);
    } else {
      stored.insert(tensor->stored);
    }
  }
  const auto is_packed = [&](const GgufPiece& piece) {
    return piece.planar != nullptr ? planar.contains(piece.planar) : stored.contains(piece.name);
  };
  std::vector<std::string> names;
  for (const GgufPiece& piece : pieces) {
    if (piece.plane == StoredPlane::codes && is_packed(piece)) names.push_back(piece.name);
  }
  PackReport report;
  report.info = {lanes, source_name(model), cpu_name(), names.size()};
  GgufWriter writer(out, kAlignment, GgufMagic::nemo);
  writer.add_u32(kPackVersionKey, kPackVersion);
  writer.add_string(kPackOrderKey, order_name(lanes));
  writer.add_string(kPackSourceKey, report.info.source);
  writer.add_string(kPackCpuKey, report.info.cpu);
  writer.add_strings(kPackTensorsKey, names);
  if (const std::string text = planes.description(); !text.empty()) {
    writer.add_string(kPackPlanesKey, text);
  }
  if (gguf) {
    writer.add_keys(*gguf, kPackKeys);
  } else {
    report.notes = put_gguf_model(writer, *checkpoint);
  }
  std::vector<RowChunk> chunks;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const GgufPiece& piece = pieces[i];
    const std::uint64_t bytes =
        writer.tensor_bytes(writer.add_tensor(piece.name, piece.type, piece.dims));
    const std::int64_t row = row_bytes(piece.type, piece.dims[0]);
    const std::size_t first = chunks.size();
    const std::int64_t rows = static_cast<std::int64_t>(bytes) / row;
    const std::int64_t cols = piece.planar == nullptr ? piece.dims[0] : piece.planar->cols();
    add_chunks(i, rows, piece.planar == nullptr ? row : all_planes(*piece.planar), chunks,
               is_packed(piece) ? order_unit(lanes, piece.dims[1], cols, rows / piece.dims[1])
                                : kPackHashRows);
    for (std::size_t c = first; c < chunks.size(); ++c) chunks[c].row_bytes = row;
    total += bytes;
  }
  const auto count = static_cast<std::int64_t>(1 + pieces.size());
  const std::size_t checksums = writer.add_tensor(kPackChecksums, DType::i64, {&count, 1});
  writer.begin();

  Checksums sums(pieces.size());
  write_chunks(chunks, options.threads, total, options.progress, [&](const RowChunk& chunk) {
    const GgufPiece& piece = pieces[chunk.piece];
    const auto offset = static_cast<std::size_t>(chunk.first_row * chunk.row_bytes);
    const auto size = static_cast<std::size_t>(chunk.rows * chunk.row_bytes);
    AlignedBuffer<std::byte> in_a_row, ordered;
    const auto source = gathered(piece.runs, offset, size, in_a_row);
    auto bytes = source;
    if (is_packed(piece)) {
      bytes = piece.planar != nullptr ? ordered_plane(kernels, piece, chunk, ordered)
                                      : ordered_blocks(kernels, piece, chunk, source, ordered);
    }
    writer.write(chunk.piece, offset, bytes);
    sums.add(chunk, bytes);
    if (gguf) gguf->dont_need(source);
  });
  const std::string header = writer.header();
  std::vector<std::uint64_t> numbers = {hash_bytes(std::as_bytes(std::span(header)))};
  for (std::size_t i = 0; i < pieces.size(); ++i) numbers.push_back(sums.of(i));
  writer.write(checksums, 0, std::as_bytes(std::span(numbers)));
  writer.finish();
  report.tensors = pieces.size();
  report.file_bytes = writer.file_bytes();
  return report;
}

PackReport verify_pack(const fs::path& path, const PackOptions& options) {
  const auto checkpoint = open_checkpoint(path);
  if (checkpoint->pack() == nullptr) {
    throw Error(ErrorCode::unsupported,
                path.string() + ": this is not a pack, so it has no checksums to verify");
  }
  const Gguf gguf = Gguf::open(path);
  const auto numbers = pack_checksums(gguf);
  const auto tensors = gguf.tensors().first(gguf.tensors().size() - 1);
  std::vector<RowChunk> chunks;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::int64_t row = row_bytes(tensors[i].type, tensors[i].dims[0]);
    add_chunks(i, static_cast<std::int64_t>(tensors[i].bytes) / row, row, chunks);
    total += tensors[i].bytes;
  }
  Checksums sums(tensors.size());
  write_chunks(chunks, options.threads, total, options.progress, [&](const RowChunk& chunk) {
    const std::span<const std::byte> bytes(
        tensors[chunk.piece].data + chunk.first_row * chunk.row_bytes,
        static_cast<std::size_t>(chunk.rows * chunk.row_bytes));
    sums.add(chunk, bytes);
    gguf.dont_need(bytes);
  });
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (sums.of(i) == pack_checksum(numbers, i + 1)) continue;
    gguf.fail("tensor " + in_quotes(tensors[i].name) +
              " does not have its checksum: the file is damaged; make it again with nemo pack -m " +
              checkpoint->pack()->source);
  }
  return {*checkpoint->pack(), tensors.size(), gguf.file_bytes(), {}};
}

}  // namespace nemo
