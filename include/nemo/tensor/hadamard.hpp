// Hadamard matrices of order 12, 20 and 28, and which order m 2^k rotates a row of a given width.
//
// A rotation is part of a file's meaning: these are the matrices of MLX (from Sloane's tables), and
// another matrix of the same order would give other weights. Those of order 20 and 28 are not
// symmetric.
// Kernel files of every instruction set include this: everything inlines, and the tables have
// internal linkage, so nothing is shared.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace nemo {

/// Bit c of row r set: entry (r, c) is -1, else +1.
struct HadamardRows {
  const std::uint32_t* rows;
  [[gnu::always_inline]] float at(int r, int c) const noexcept {
    return ((rows[r] >> c) & 1u) != 0 ? -1.0f : 1.0f;
  }
};

constexpr std::uint32_t kHadamard12[12] = {0x002, 0xaab, 0x3c8, 0x96e, 0xf20, 0x5ba,
                                           0xc8c, 0x6e6, 0x23c, 0xb96, 0x8f0, 0xe5a};
constexpr std::uint32_t kHadamard20[20] = {
    0x933de, 0x2e3bd, 0x5477b, 0xa0ef7, 0x499ef, 0x637c1, 0xc6ba2, 0x8d764, 0x1aee8, 0x359f0,
    0x0fa53, 0x174a7, 0x26d4e, 0x45e9c, 0x83d39, 0xf7a6d, 0xef4fa, 0xdedd5, 0xbdf8b, 0x7bf36};
constexpr std::uint32_t kHadamard28[28] = {
    0xcd69e7e, 0x9ad7c7d, 0x37ab8fb, 0x6d571f7, 0xd8ae3ef, 0xb3587df, 0x66b4f3f,
    0xb467f43, 0x6acbe87, 0xd593d8e, 0xab27b9c, 0x564f7b8, 0xac9aff0, 0x5b31fe1,
    0x87fb325, 0x0ff66ca, 0x1decd95, 0x39ddb2a, 0x71bf654, 0xe17eca9, 0xc2fd9d2,
    0xfcf1299, 0xfbe2532, 0xf7c4ae4, 0xef8d549, 0xdf1ea13, 0xbe3d4a6, 0x7e7a94c};

/// Largest m of the orders above; buffers for one column of a block.
inline constexpr int kMaxHadamard = 28;

/// m of block = m 2^k; 1 for powers of two.
[[gnu::always_inline]] inline int hadamard_order(std::int64_t block) noexcept {
  while (block % 8 == 0) block /= 2;
  return block == 12 || block == 20 || block == 28 ? static_cast<int>(block) : 1;
}

[[gnu::always_inline]] inline HadamardRows hadamard_rows(int m) noexcept {
  return {m == 12 ? kHadamard12 : m == 20 ? kHadamard20 : kHadamard28};
}

/// The largest divisor of `cols` of the form m 2^k with m in {1, 12, 20, 28}; cols > 0.
[[nodiscard]] constexpr std::int64_t hadamard_block(std::int64_t cols) noexcept {
  const std::int64_t power = cols & -cols;
  if (power < 4) return power;
  const std::int64_t odd = cols / power;
  for (const std::int64_t factor : {7, 5, 3}) {
    if (odd % factor == 0) return factor * power;
  }
  return power;
}

}  // namespace nemo
