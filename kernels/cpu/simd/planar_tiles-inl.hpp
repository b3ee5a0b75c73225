// Codes that lie apart from their scales as blocks that integer products take: bytes with float
// scales. Included after the instruction set's vector.hpp.
#pragma once

#include "planar-inl.hpp"
#include "q8_matmul-inl.hpp"

namespace nemo {
namespace {

/// 32 columns of unsigned codes up to kMax, or of signed ones where kMax is 128:
///   value = scale * code + min
template <int kMax>
struct AffineTile {
  float scale, min;
  std::uint8_t codes[32];
  static constexpr int kElements = 32;
};
/// 32 columns of E2M1 codes with a scale for each 16.
struct E2m1Tile {
  float scales[2];
  std::uint8_t codes[32];
  static constexpr int kElements = 32;
};
/// 32 columns of levels rounded to integers up to kTop: signed bytes, or where fewer bits do,
/// bytes from 1 on, which AVX2 multiplies in fewer instructions.
template <int kTop>
struct LevelTile {
  static constexpr bool kSigned = kTop == 127;
  static constexpr int kZero = kSigned ? 0 : kTop + 1;  // the byte of level 0
  float scale, unused;
  std::uint8_t codes[32];
  static constexpr int kElements = 32;
};

struct TileFields : WordFields {
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  template <class Blocks>
  NEMO_SIMD static void bytes(const Blocks& b, I (&low)[4], I (&high)[4]) {
    b.codes(8, low);
    b.codes(24, high);
  }
};
template <int kMax>
struct Unpack<AffineTile<kMax>> : TileFields {
  static constexpr int kMaxCode = kMax;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F* min) {
    const RowWords head = b.template words<0, 2>();
    scale[0] = as_floats(head.w[0]);
    min[0] = as_floats(head.w[1]);
  }
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    bytes(b, low, high);
    if constexpr (kMax == 128) sign_codes(low, high);
  }
};
template <>
struct Unpack<E2m1Tile> : TileFields {
  static constexpr int kGroup = 16;
  static constexpr int kMaxCode = 24;
  static constexpr int kOffset = kE2m1Offset;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    const RowWords head = b.template words<0, 2>();
    scale[0] = as_floats(head.w[0]);
    scale[1] = as_floats(head.w[1]);
  }
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    bytes(b, low, high);
    table_codes(broadcast_16_bytes(kE2m1Codes.bytes), low, high);
  }
};
template <int kTop>
struct Unpack<LevelTile<kTop>> : TileFields {
  using Tile = LevelTile<kTop>;
  static constexpr int kMaxCode = Tile::kSigned ? 128 : 2 * kTop + 1;
  static constexpr int kOffset = Tile::kSigned ? kSignedBias : Tile::kZero;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    scale[0] = as_floats(b.template words<0, 1>().w[0]);
  }
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    bytes(b, low, high);
    if constexpr (Tile::kSigned) sign_codes(low, high);
  }
};

/// A codebook rounded to bytes: level ~ unit * (code - zero).
struct LevelCodes {
  alignas(16) std::int8_t codes[16] = {};
  float unit = 0;
};
/// The unit, of those that make the largest level `largest` or down to three quarters of it, whose
/// rounding errors have the least mean square.
NEMO_SIMD LevelCodes round_levels(const float* levels, int count, int largest, int zero) {
  float most = 0;
  for (int i = 0; i < count; ++i) {
    const float size = levels[i] < 0 ? -levels[i] : levels[i];
    most = size > most ? size : most;
  }
  LevelCodes out;
  alignas(64) float parts[16] = {};  // of the largest
  for (int i = 0; i < count; ++i) parts[i] = most > 0 ? levels[i] / most : 0.0f;
  const auto limit = static_cast<float>(largest);
  float top = limit;
  float best = 3.4e38f;
  for (float t = limit; t >= 0.75f * limit; t -= 0.5f) {
    F squares(0.0f);
    for (int i = 0; i < 16; i += kLanes) {
      const F x = load(parts + i) * F(t);
      const F error = (x - round_even(x)) * F(1.0f / t);
      squares = fma(error, error, squares);
    }
    if (const float error = sum(squares); error < best) {
      best = error;
      top = t;
    }
  }
  out.unit = most / top;
  for (int i = 0; i < count; ++i) {
    const float x = out.unit >= 0x1p-126f ? top * parts[i] : 0.0f;
    out.codes[i] = static_cast<std::int8_t>(zero + static_cast<int>(x < 0 ? x - 0.5f : x + 0.5f));
  }
  return out;
}

/// log2 of the columns that share a scale.
NEMO_SIMD int shift_of(const Planes& planes) {
  if (planes.type == ScaleType::none) return 62;
  return __builtin_ctzll(static_cast<unsigned long long>(planes.group));
}

/// How the codes of a matrix become the bytes of a tile; groups of 2^shift columns, at least
/// kGroup.
template <class Codes>
struct Tiles {};

template <class Word>
NEMO_SIMD std::uint64_t word_at(const std::byte* p) {
  Word word;
  __builtin_memcpy(&word, p, sizeof word);
  return word;
}
/// Eight codes of kBits bits that start at a byte, a byte each. Reads kBits bytes.
template <int kBits>
NEMO_SIMD std::uint64_t eight_codes(const std::byte* row, std::int64_t column) {
  const std::byte* p = row + column / 8 * kBits;
  std::uint64_t packed = 0;
  if constexpr (kBits == 8) {
    packed = word_at<std::uint64_t>(p);
  } else {  // in registers: a copy of an odd size would be read back before it is written
    if constexpr ((kBits & 4) != 0) packed = word_at<std::uint32_t>(p);
    constexpr int kFour = kBits & 4;
    if constexpr ((kBits & 2) != 0) packed |= word_at<std::uint16_t>(p + kFour) << 8 * kFour;
    constexpr int kSix = kBits & 6;
    if constexpr ((kBits & 1) != 0) packed |= word_at<std::uint8_t>(p + kSix) << 8 * kSix;
  }
  return spread_codes<kBits>(packed);
}

/// How wide codes are, and eight of a row from a column on, a byte each.
template <int kBits>
struct StreamEights {
  static constexpr int kBitsEach = kBits;
  NEMO_SIMD static std::uint64_t load(const std::byte* row, std::int64_t column) {
    return eight_codes<kBits>(row, column);
  }
};
template <class Codes>
struct Eights {};
template <int kBits, DType kType>
struct Eights<AffineCodes<kBits, kType>> : StreamEights<kBits> {};
template <>
struct Eights<E2m1Codes> : StreamEights<4> {};
template <int kBits, DType kType>
struct Eights<TurboCodes<kBits, kType>> : StreamEights<kBits> {};
template <DType kType>
struct Eights<TurboCodes<3, kType>> {
  static constexpr int kBitsEach = 3;
  NEMO_SIMD static std::uint64_t load(const std::byte* row, std::int64_t column) {
    return spread_codes<3>(CodeWords<TurboCodes<3, kType>>::eight(row, column));
  }
};

template <int kBits, DType kType>
struct Tiles<AffineCodes<kBits, kType>> {
  static constexpr int kMax = kBits <= 4 ? 15 : kBits == 8 ? 128 : (1 << kBits) - 1;
  using Block = AffineTile<kMax>;
  static constexpr int kGroup = 32;
  NEMO_SIMD explicit Tiles(const Planes&) {}
  NEMO_SIMD void operator()(const std::byte* row, std::int64_t column, int shift,
                            const float* scales, const float* mins, Block& to) const {
    const std::int64_t g = column >> shift;
    to.scale = scales[g];
    // Codes of 8 bits go in as signed ones; signed_codes() puts kSignedBias of the 128 back.
    to.min = mins[g] + (kMax == 128 ? (128 - kSignedBias) * scales[g] : 0.0f);
    for (int i = 0; i < 32; i += 8) {
      std::uint64_t codes = Eights<AffineCodes<kBits, kType>>::load(row, column + i);
      if constexpr (kMax == 128) codes ^= 0x8080808080808080;
      __builtin_memcpy(to.codes + i, &codes, 8);
    }
  }
};
template <>
struct Tiles<E2m1Codes> {
  using Block = E2m1Tile;
  static constexpr int kGroup = 16;
  NEMO_SIMD explicit Tiles(const Planes&) {}
  NEMO_SIMD void operator()(const std::byte* row, std::int64_t column, int shift,
                            const float* scales, const float*, Block& to) const {
    // Levels are doubled.
    to.scales[0] = 0.5f * scales[column >> shift];
    to.scales[1] = 0.5f * scales[(column + 16) >> shift];
    for (int i = 0; i < 32; i += 8) {
      const std::uint64_t codes = Eights<E2m1Codes>::load(row, column + i);
      __builtin_memcpy(to.codes + i, &codes, 8);
    }
  }
};
template <int kBits, DType kType>
struct Tiles<TurboCodes<kBits, kType>> {
  // Of two or four levels for a normal distribution 31 steps miss as little as 127 do, 0.02 %.
  static constexpr int kTop = kBits <= 2 ? 31 : 127;
  using Block = LevelTile<kTop>;
  static constexpr int kGroup = 32;
  LevelCodes levels;
  NEMO_SIMD explicit Tiles(const Planes& planes)
      : levels(round_levels(planes.levels, 1 << kBits, kTop, Block::kZero)) {}
  NEMO_SIMD void operator()(const std::byte* row, std::int64_t column, int shift,
                            const float* scales, const float*, Block& to) const {
    to.scale = levels.unit * scales[column >> shift];
    to.unused = 0;
    for (int i = 0; i < 32; i += 8) {
      const std::uint64_t codes = Eights<TurboCodes<kBits, kType>>::load(row, column + i);
      __builtin_memcpy(to.codes + i, &codes, 8);
    }
  }
  /// Codes to levels, once all have been written.
  NEMO_SIMD void finish(Block& tile) const { look_up_32(levels.codes, tile.codes); }
};

}  // namespace
}  // namespace nemo
