// Parallel loops whose results do not depend on the number of threads: the split into items is the
// caller's, the threads only decide who runs which item.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <omp.h>

namespace nemo {

/// Runs body(i) for i in [0, items) on up to `threads` threads, items handed out dynamically.
/// The first exception thrown by a body is rethrown here after all threads have stopped.
template <class Body>
void parallel_for(int threads, std::int64_t items, Body&& body) {
  if (threads <= 1 || items <= 1) {
    for (std::int64_t i = 0; i < items; ++i) body(i);
    return;
  }
  std::exception_ptr failure;
  std::mutex failure_mutex;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t i = 0; i < items; ++i) {
    try {
      body(i);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace nemo
