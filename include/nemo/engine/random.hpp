// Random numbers that are the same on every platform for the same seed: xoshiro256** by Blackman
// and Vigna (https://prng.di.unimi.it), its 256 bits of state filled from the seed by splitmix64.
//   result = rotl(5 s1, 7) * 9;  t = s1 << 17
//   s2 ^= s0; s3 ^= s1; s1 ^= s2; s0 ^= s3;  s2 ^= t;  s3 = rotl(s3, 45)
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace nemo {

/// A small deterministic generator. std::uniform_* and friends are avoided on purpose: the standard
/// leaves their algorithms open, so they differ between libraries.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept {
    for (auto& word : state_) {
      seed += 0x9e3779b97f4a7c15U;
      std::uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
      word = z ^ (z >> 31);
    }
  }

  /// 64 uniform bits.
  [[nodiscard]] std::uint64_t next() noexcept {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  [[nodiscard]] double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::array<std::uint64_t, 4> state_{};
};

/// A seed nobody can predict, for runs that asked for none.
[[nodiscard]] std::uint64_t random_seed();

}  // namespace nemo
