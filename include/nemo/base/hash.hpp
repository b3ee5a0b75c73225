// XXH64: finds damaged bytes and tells files and settings apart; not meant to resist anybody.
//
// The algorithm is public and other programs compute it too (xxhsum -H64 on a file).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nemo {

/// The XXH64 of some bytes. The hash of what came before as seed continues a sequence of pieces
/// (which is then not the hash of all bytes as one piece).
[[nodiscard]] std::uint64_t hash_bytes(std::span<const std::byte> bytes,
                                       std::uint64_t seed = 0) noexcept;

}  // namespace nemo
