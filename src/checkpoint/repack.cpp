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
  constexpr std::int64_t kMost = std::int64_t{4} << 30;
  const std::int64_t memory = physical_memory_bytes();
  return bytes <= kMost && (memory <= 0 || bytes <= memory / 4);
}

Repacked repack(const Checkpoint& checkpoint, std::span<const TensorRef* const> tensors,
                const Kernels& kernels, int threads, const ProgressCallback& progress) {
  constexpr std::int64_t kPage = 4096;
  const auto padded = [](std::int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; };
  std::int64_t size = 0;
  for (const TensorRef* tensor : tensors) size += padded(tensor->bytes());
  Repacked copy{PageBuffer(static_cast<std::size_t>(size)), {}};
  std::vector<RowChunk> chunks;
  std::vector<std::byte*> places;
  std::byte* place = copy.bytes.data();
  for (const TensorRef* tensor : tensors) {
    copy.places.emplace(tensor, Repacked::Place{place, kernels.format(tensor->type).lanes});
    add_chunks(places.size(), tensor->count() * tensor->rows(),
               row_bytes(tensor->type, tensor->cols()), chunks);
    places.push_back(place);
    place += padded(tensor->bytes());
  }
  const auto total = static_cast<std::uint64_t>(bytes_of(tensors));
  write_chunks(chunks, threads, total, progress, [&](const RowChunk& chunk) {
    const TensorRef& tensor = *tensors[chunk.piece];
    const WeightRows rows{tensor.data, chunk.row_bytes, tensor.cols()};
    const std::int64_t offset = chunk.first_row * chunk.row_bytes;
    kernels.format(tensor.type)
        .to_kernel_order(rows, chunk.first_row, chunk.rows, places[chunk.piece] + offset);
    checkpoint.dont_need(
        {tensor.data + offset, static_cast<std::size_t>(chunk.rows * chunk.row_bytes)});
  });
  return copy;
}

}  // namespace nemo
