// Where things stand in a block of packed tiles.
#pragma once

#include <nemo/kv_kernels.hpp>

#include <cstdint>

namespace nemo {

inline constexpr std::int64_t kBlockTiles = 16;
inline constexpr std::int64_t kBlockTokens = kBlockTiles * kKvTileTokens;

/// Byte offsets; key codes come first.
struct PackedBlock {
  PackedBlock(const KvSide& keys, const KvSide& values)
      : value_codes(kBlockTiles * keys.tile_bytes()),
        key_scales(value_codes + kBlockTiles * values.tile_bytes()),
        value_scales(key_scales + kBlockTiles * keys.tile_scales() * 2),
        bytes(value_scales + kBlockTiles * values.tile_scales() * 2) {}
  std::int64_t value_codes, key_scales, value_scales, bytes;
};

}  // namespace nemo
