// Measures how fast this machine's memory can be read: the yardstick of decode speed.
#pragma once

namespace nemo {

/// Best of several passes over a buffer far larger than the caches, read by `threads` threads, in
/// bytes per second. Takes about a second and 1 GiB; throws std::bad_alloc when memory is short.
[[nodiscard]] double measure_read_bandwidth(int threads);

}  // namespace nemo
