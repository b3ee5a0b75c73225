// FNV-1a, 64 bits: tells files and settings apart, not meant to resist anybody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nemo {

inline constexpr std::uint64_t kHashStart = 0xcbf29ce484222325ULL;

/// Continues `hash` with more bytes.
[[nodiscard]] inline std::uint64_t hash_bytes(std::span<const std::byte> bytes,
                                              std::uint64_t hash = kHashStart) noexcept {
  for (const std::byte b : bytes) {
    hash = (hash ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3ULL;
  }
  return hash;
}

}  // namespace nemo
