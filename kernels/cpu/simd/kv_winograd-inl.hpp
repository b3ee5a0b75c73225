// Products on packed KV tiles with fewer multiplications, for CPUs that add beside multiplying:
// Winograd's inner product (q8_winograd-inl.hpp), with levels l and queries or weights x
//   x0 l0 + x1 l1 = (x0 + l1) (x1 + l0) - x0 x1 - l0 l1
// for three quads of codes of four, so that Zen 4's units, two that multiply and four that add, get
// about as many instructions each. Sums are exact modulo 2^32, and so are the results.
// Included after the instruction set's vector.hpp.
#pragma once

#include "kv_products-inl.hpp"

namespace nemo {
namespace {

struct WinogradKv {
  static constexpr bool kWinograd = true;

  NEMO_SIMD static I add(I acc, I level0, I level1, I x0, I x1) {
    return add_dot_shorts(acc, add_shorts(x0, level1), add_shorts(x1, level0));
  }
  /// Minus the sum of x0 x1 over n codes as round_to_shorts leaves them, n a multiple of 16.
  NEMO_SIMD static std::int32_t start_of(const std::int16_t* codes, std::int64_t n) {
    // The first words of quads 1 to 3; their second words are the next ones.
    alignas(64) static constexpr std::int32_t kFirst[16] = {0, 0, -1, 0, -1, 0, -1, 0,
                                                            0, 0, -1, 0, -1, 0, -1, 0};
    constexpr std::int64_t kVector = 2 * kLanes;
    I sums = all_words(0);
    std::int64_t i = 0;
    for (; i + kVector <= n; i += kVector) {
      const I words = load_bytes(codes + i);
      sums = add_dot_shorts(sums, and_bits(words, load_bytes(kFirst)), drop_bytes<4>(words));
    }
    std::uint32_t total = 0;
    alignas(64) std::uint32_t lanes[kLanes];
    store_bytes(sums, lanes);
    for (const std::uint32_t lane : lanes) total += lane;
    for (; i < n; i += 4) {
      if (i % 16 == 0) continue;
      total += static_cast<std::uint32_t>(codes[i] * codes[i + 2]);
      total += static_cast<std::uint32_t>(codes[i + 1] * codes[i + 3]);
    }
    return static_cast<std::int32_t>(0 - total);
  }
};

}  // namespace
}  // namespace nemo
