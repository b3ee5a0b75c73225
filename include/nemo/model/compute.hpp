// What a forward pass computes with: kernels, threads, temporary memory.
#pragma once

#include <nemo/base/aligned.hpp>
#include <nemo/base/arena.hpp>
#include <nemo/base/parallel.hpp>
#include <nemo/base/progress.hpp>
#include <nemo/kernels.hpp>
#include <nemo/model/profile.hpp>

#include <cstddef>
#include <cstdint>

namespace nemo {

/// Owned by one session; a forward pass takes and gives back memory from `arena`.
struct Compute {
  Compute(const Kernels& table, int thread_count)
      : kernels(table),
        threads(thread_count),
        scratch(kMatmulScratchBytes * static_cast<std::size_t>(thread_count)) {}

  /// The calling thread's matmul scratch, inside parallel_for.
  [[nodiscard]] std::byte* thread_scratch() noexcept {
    return scratch.data() + kMatmulScratchBytes * static_cast<std::size_t>(omp_get_thread_num());
  }

  const Kernels& kernels;
  int threads;
  /// Whether int8 activations carry a second int8 plane with what the first one rounded away. Set
  /// by the forward pass: for few tokens weights are waited for anyway and the precision is free.
  bool fine_activations = false;
  /// The kernels of products: those for prefill where activations are not fine.
  [[nodiscard]] const Kernels& products() const noexcept {
    return fine_activations || kernels.prefill == nullptr ? kernels : *kernels.prefill;
  }
  Profile* profile = nullptr;  // null: nobody asks where the time goes
  /// Asked with (layers done, layers) before each; false stops the forward pass. May be empty.
  ProgressCallback proceed;
  Arena arena;
  AlignedBuffer<std::byte> scratch;
};

/// Distance between rows of a temporary matrix: every row starts on a cache line.
[[nodiscard]] constexpr std::int64_t padded(std::int64_t floats) noexcept {
  return (floats + 15) / 16 * 16;
}

}  // namespace nemo
