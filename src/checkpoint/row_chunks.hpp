// Tensors cut into chunks of rows that threads produce and write.
#pragma once

#include <nemo/base/progress.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace nemo {

struct RowChunk {
  std::size_t piece;  // the caller's number of the tensor
  std::int64_t first_row;
  std::int64_t rows;
  std::int64_t row_bytes;
};

/// Appends the chunks of a tensor: about 2 MiB each, large enough for the disk, small enough for a
/// cache. They start at multiples of `unit` rows, itself a multiple of 16, which keeps rows that
/// are hashed or put in order together in one chunk.
void add_chunks(std::size_t piece, std::int64_t rows, std::int64_t row_bytes,
                std::vector<RowChunk>& chunks, std::int64_t unit = 16);

/// Calls `write` for every chunk, from several threads, and reports progress. Throws what `write`
/// throws, and Error{cancelled}.
void write_chunks(const std::vector<RowChunk>& chunks, int threads, std::uint64_t total_bytes,
                  const ProgressCallback& progress,
                  const std::function<void(const RowChunk&)>& write);

}  // namespace nemo
