// What products multiply in place of a planar format's codes; included after the instruction set's
// vector.hpp.
#pragma once

#include "planar_tiles-inl.hpp"

namespace nemo {
namespace {

/// codes()   replaces codes in bytes by what is multiplied
/// scale()   makes scales and mins those of what is multiplied
template <class Codes>
struct CodeLevels {};

template <int kBits, DType kType>
struct CodeLevels<AffineCodes<kBits, kType>> {
  NEMO_SIMD explicit CodeLevels(const Tiles<AffineCodes<kBits, kType>>&) {}
  NEMO_SIMD static void codes(I (&low)[4], I (&high)[4]) {
    if constexpr (kBits == 8) {
      const I sign = all_bytes(0x80);
      for (int g = 0; g < 4; ++g) {
        low[g] = signed_codes(xor_bits(low[g], sign));
        high[g] = signed_codes(xor_bits(high[g], sign));
      }
    }
  }
  NEMO_SIMD static void scale(F& scale, F& min) {
    if constexpr (kBits == 8) min = min + scale * F(128.0f - kSignedBias);
  }
};
template <>
struct CodeLevels<E2m1Codes> {
  NEMO_SIMD explicit CodeLevels(const Tiles<E2m1Codes>&) {}
  NEMO_SIMD static void codes(I (&low)[4], I (&high)[4]) {
    table_codes(broadcast_16_bytes(kE2m1Codes.bytes), low, high);
  }
  NEMO_SIMD static void scale(F& scale, F&) { scale = scale * F(0.5f); }
};
template <int kBits, DType kType>
struct CodeLevels<TurboCodes<kBits, kType>> {
  I table;
  F unit;
  NEMO_SIMD explicit CodeLevels(const Tiles<TurboCodes<kBits, kType>>& tiles)
      : table(broadcast_16_bytes(tiles.levels.codes)), unit(tiles.levels.unit) {
    if constexpr (Tiles<TurboCodes<kBits, kType>>::Block::kSigned) table = signed_codes(table);
  }
  NEMO_SIMD void codes(I (&low)[4], I (&high)[4]) const { table_codes(table, low, high); }
  NEMO_SIMD void scale(F& scale, F&) const { scale = scale * unit; }
};

}  // namespace
}  // namespace nemo
