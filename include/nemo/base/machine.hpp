// What the machine offers and what the process has taken of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace nemo {

/// How fast memory can be read, the yardstick of decode speed: best of several passes over a buffer
/// far larger than the caches, read by `threads` threads, in bytes per second. Takes about a second
/// and 512 MiB; throws std::bad_alloc when memory is short.
[[nodiscard]] double measure_read_bandwidth(int threads);

/// Seconds that `threads` threads take to read all of `bytes` once, from a 64-byte boundary on.
[[nodiscard]] double seconds_to_read(int threads, std::span<const std::byte> bytes);

/// What the system calls this CPU ("AMD EPYC"); "unknown CPU" where it does not tell.
[[nodiscard]] std::string cpu_name();

/// Peak resident memory of this process in bytes; 0 where the system does not tell.
[[nodiscard]] std::int64_t peak_resident_bytes();

}  // namespace nemo
