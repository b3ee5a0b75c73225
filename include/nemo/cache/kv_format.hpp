// How one attention layer's keys and values are stored: bits, groups, rotation, exact first tokens.
#pragma once

#include <cstdint>
#include <string>

namespace nemo {

enum class KvScheme : std::uint8_t { fp16, turbo, rotor, affine };

/// The orthogonal transform in front of the codes.
enum class KvRotation : std::uint8_t {
  none,
  hadamard,  // signs, then Hadamard over the whole head
  rotor,     // network of 4-D rotors, quaternions (+-1 +-i +-j +-k)/2: every stage of it
  haar,      // the same network with normally distributed quaternions
  iso,       // first stage only, v <- q v (IsoQuant)
  iso_full,  // first stage only, v <- p v q* (IsoQuant, full)
  planar,    // random angles on neighbouring pairs (PlanarQuant)
  rotor3,    // random rotations of triples (RotorQuant as published)
};

/// Immutable description of one layer's storage; named constructors give the policies.
struct KvFormat {
  KvScheme scheme = KvScheme::fp16;
  KvRotation rotation = KvRotation::none;
  std::int32_t key_bits = 16;
  std::int32_t value_bits = 16;
  std::int32_t key_group = 0;    // channels that share a scale
  std::int32_t value_group = 0;  // 0: the whole head
  std::int32_t sink = 0;         // first tokens, kept in half precision
  std::uint64_t seed = 42;

  static constexpr KvFormat fp16() noexcept { return {}; }
  /// Hadamard over the head; keys with a scale per 64 channels, values with one per head, which
  /// folds into the softmax weight.
  static constexpr KvFormat turbo(int key_bits, int value_bits, int sink = 128) noexcept {
    return {KvScheme::turbo, KvRotation::hadamard, key_bits, value_bits, 64, 0, sink, 42};
  }
  static constexpr KvFormat rotor(int bits, int group = 64, int value_bits = 0,
                                  int sink = 128) noexcept {
    return {KvScheme::rotor,
            KvRotation::rotor,
            bits,
            value_bits == 0 ? bits : value_bits,
            group,
            group,
            sink,
            42};
  }
  /// mlx-lm's quantized cache: scale and bias per group, no rotation, no exact tokens.
  static constexpr KvFormat affine(int bits, int group = 64) noexcept {
    return {KvScheme::affine, KvRotation::none, bits, bits, group, group, 0, 42};
  }

  friend bool operator==(const KvFormat&, const KvFormat&) = default;

  /// In the spelling of --kv, e.g. "turbo:8,4,sink=128".
  [[nodiscard]] std::string name() const;
  /// Throws Error{usage} naming the limit when no model could use it.
  void check() const;
  /// Also that it fits heads of `head_dim` channels; throws Error{unsupported}.
  void check(std::int64_t head_dim) const;
};

/// "rotor", "haar", "iso", ...: the presets of rotor:...,preset=NAME.
[[nodiscard]] const char* name_of(KvRotation rotation) noexcept;

}  // namespace nemo
