// Matrices copied into kernel order, a chunk of rows at a time; the source's pages go as soon as
// they are copied, so that memory holds one of the two.
#include "row_chunks.hpp"

#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/checkpoint/memory_plan.hpp>

namespace nemo {

std::int64_t bytes_of(std::span<const TensorRef* const> tensors) noexcept {
  std::int64_t bytes = 0;
  for (const TensorRef* tensor : tensors) bytes += tensor->bytes();
  return bytes;
}

bool worth_repacking(std::int64_t bytes) {
  constexpr std::int64_t kMost = std::int64_t{8} << 30;
  const std::int64_t memory = physical_memory_bytes();
  return bytes <= kMost && (memory <= 0 || bytes <= memory / 3);
}

Repacked repack(const Checkpoint& checkpoint, std::span<const TensorRef* const> tensors,
                const Kernels& kernels, int threads, const ProgressCallback& progress) {
  constexpr std::int64_t kPage = 4096;
  const auto padded = [](std::int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; };
  std::int64_t size = 0;
  for (const TensorRef* tensor : tensors) size += padded(tensor->bytes());
  Repacked copy{PageBuffer(static_cast<std::size_t>(size)), {}};
  std::vector<RowChunk> chunks;
  std::vector<RowsOut> places;
  std::byte* place = copy.bytes.data();
  for (const TensorRef* tensor : tensors) {
    const std::int64_t rows = tensor->count() * tensor->rows();
    const std::int64_t codes = row_bytes(tensor->type, tensor->cols());
    const WeightRows first = rows_of(*tensor, 0);
    RowsOut out{place};
    if (first.scales != nullptr) out.scales = place + rows * codes;
    if (first.biases != nullptr) out.biases = out.scales + rows * first.planes.stride;
    const std::int64_t lanes = kernels.format(tensor->type).lanes;
    copy.places.emplace(tensor, Repacked::Place{{out.codes, out.scales, out.biases}, lanes});
    add_chunks(places.size(), rows, codes + tensor->side.row_bytes(), chunks,
               order_unit(lanes, tensor->rows(), tensor->cols(), tensor->count()));
    places.push_back(out);
    place += padded(tensor->bytes());
  }
  const auto total = static_cast<std::uint64_t>(bytes_of(tensors));
  write_chunks(chunks, threads, total, progress, [&](const RowChunk& chunk) {
    const TensorRef& tensor = *tensors[chunk.piece];
    RowsOut out = places[chunk.piece];
    const std::int64_t stride = tensor.side.planes.stride;
    out.codes += chunk.first_row * row_bytes(tensor.type, tensor.cols());
    if (out.scales != nullptr) out.scales += chunk.first_row * stride;
    if (out.biases != nullptr) out.biases += chunk.first_row * stride;
    order_rows(kernels, tensor, chunk.first_row, chunk.rows, out);
    for_matrices(
        tensor, chunk.first_row, chunk.rows,
        [&](const WeightRows& from, std::int64_t row, std::int64_t count, std::int64_t) {
          const auto copied = [&](const std::byte* plane, std::int64_t bytes) {
            if (plane == nullptr) return;
            checkpoint.dont_need({plane + row * bytes, static_cast<std::size_t>(count * bytes)});
          };
          copied(from.data, from.row_bytes);
          copied(from.scales, stride);
          copied(from.biases, stride);
        });
  });
  return copy;
}

}  // namespace nemo
