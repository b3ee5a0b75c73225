// What the machine offers and what the process has taken of it.
#pragma once

#include <nemo/base/page_buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace nemo {

/// Seconds that `threads` threads take to read all of `bytes` once, from a 64-byte boundary on.
[[nodiscard]] double seconds_to_read(int threads, std::span<const std::byte> bytes);

/// How fast memory can be read, the yardstick of decode speed, for asking again and again: others
/// who share a machine change it. Holds `size` bytes, which should be far more than the caches
/// hold, in pages as weights are held in; throws std::bad_alloc when memory is short.
class ReadProbe {
 public:
  ReadProbe(int threads, std::size_t size);
  /// Of one pass now.
  [[nodiscard]] double bytes_per_second() const;

 private:
  int threads_;
  PageBuffer pages_;
};

/// The best of several passes over 512 MiB; takes about a second, throws as ReadProbe.
[[nodiscard]] double measure_read_bandwidth(int threads);

/// What the system calls this CPU ("AMD EPYC"); "unknown CPU" where it does not tell.
[[nodiscard]] std::string cpu_name();

/// Peak resident memory of this process in bytes; 0 where the system does not tell.
[[nodiscard]] std::int64_t peak_resident_bytes();

}  // namespace nemo
