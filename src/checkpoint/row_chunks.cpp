// One parallel loop over chunks; the first failure stops the others at their next chunk.
#include "row_chunks.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/parallel.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>

namespace nemo {

void add_chunks(std::size_t piece, std::int64_t rows, std::int64_t row_bytes,
                std::vector<RowChunk>& chunks, std::int64_t unit) {
  constexpr std::int64_t kChunkBytes = 2 << 20;
  const std::int64_t step = std::max(unit, kChunkBytes / row_bytes / unit * unit);
  for (std::int64_t row = 0; row < rows; row += step) {
    chunks.push_back({piece, row, std::min(step, rows - row), row_bytes});
  }
}

void write_chunks(const std::vector<RowChunk>& chunks, int threads, std::uint64_t total_bytes,
                  const ProgressCallback& progress,
                  const std::function<void(const RowChunk&)>& write) {
  std::mutex progress_mutex;
  std::uint64_t done = 0;
  std::atomic<bool> stopped{false};
  parallel_for(threads, static_cast<std::int64_t>(chunks.size()), [&](std::int64_t i) {
    if (stopped) return;
    try {
      const RowChunk& chunk = chunks[static_cast<std::size_t>(i)];
      write(chunk);
      if (!progress) return;
      const std::lock_guard lock(progress_mutex);
      done += static_cast<std::uint64_t>(chunk.rows * chunk.row_bytes);
      if (!progress(done, total_bytes)) throw Error(ErrorCode::cancelled, "cancelled");
    } catch (...) {
      stopped = true;
      throw;
    }
  });
}

}  // namespace nemo
