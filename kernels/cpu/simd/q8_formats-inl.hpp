// How each block format becomes int8 codes and float scales for the integer products; included
// after the instruction set's vector.hpp.
//
// Unpack<Block> works on one block of each of kLanes rows, `b`: FileBlocks or KernelBlocks.
//   value(element i of a row) = scale[i / kGroup] * (code[i] - kOffset) + min[i / kGroup]
//   kMaxCode   bound of the unsigned codes; 128: signed codes, passed through signed_codes()
//   kInner     32-element tiles that codes<tile>() knows at compile time; a block has
//              kElements / 32 tiles in order, `outer` counts groups of kInner of them
//   scales(b, scale, min)             all scales of the block, lane = row
//   codes<tile>(b, outer, low, high)  elements 0..15 and 16..31 of the tile, as b.codes(): with few
//              exceptions the same operations on bytes serve both orders
// and says, for weight_order-inl.hpp, how a block consists of fields:
//   kScaleLast    the bytes that are no word lie at the end
//   kFifthBitsAt  place of a word with a bit for each of 32 elements, 0: there is none
#pragma once

#include "weight_order-inl.hpp"

#include <nemo/tensor/formats.hpp>

namespace nemo {
namespace {

NEMO_SIMD I low_nibbles(I v) { return and_bits(v, all_bytes(15)); }
NEMO_SIMD I high_nibbles(I v) { return and_bits(shift_right<4>(v), all_bytes(15)); }

/// 16 nibble pairs a row: low nibbles are elements 0..15, high nibbles 16..31.
template <class Blocks>
NEMO_SIMD void nibble_codes(const Blocks& b, int at, I (&low)[4], I (&high)[4]) {
  I q[4];
  b.codes(at, q);
  for (int g = 0; g < 4; ++g) {
    low[g] = low_nibbles(q[g]);
    high[g] = high_nibbles(q[g]);
  }
}

/// Replaces nibbles by the entries of a 16-byte table.
NEMO_SIMD void table_codes(I table, I (&low)[4], I (&high)[4]) {
  for (int g = 0; g < 4; ++g) {
    low[g] = look_up(table, low[g]);
    high[g] = look_up(table, high[g]);
  }
}

/// signed_codes() of a tile.
NEMO_SIMD void sign_codes(I (&low)[4], I (&high)[4]) {
  for (int g = 0; g < 4; ++g) {
    low[g] = signed_codes(low[g]);
    high[g] = signed_codes(high[g]);
  }
}

/// From low and high nibbles of 16 bytes of a row to those of the first 8 bytes and of the last.
NEMO_SIMD void nibbles_of_halves(I (&low)[4], I (&high)[4]) {
  for (int g = 0; g < 4; ++g) {
    const I first = interleave_low_halves(low[g], high[g]);
    high[g] = interleave_high_halves(low[g], high[g]);
    low[g] = first;
  }
}

struct CodeTable {
  alignas(16) std::uint8_t bytes[16];
};
template <class Level>
constexpr CodeTable make_code_table(const Level (&levels)[16], int offset) {
  CodeTable table{};
  for (int i = 0; i < 16; ++i) table.bytes[i] = static_cast<std::uint8_t>(levels[i] + offset);
  return table;
}
// IQ4 levels span -127..113, so they are signed codes; E2M1's doubled values -12..12 become 0..24.
constexpr CodeTable kIq4Codes = make_code_table(kIq4Levels, kSignedBias);
constexpr int kE2m1Offset = 12;
constexpr CodeTable kE2m1Codes = make_code_table(kE2m1Doubled, kE2m1Offset);

/// What most formats have in common.
struct WordFields {
  static constexpr bool kScaleLast = false;
  static constexpr int kFifthBitsAt = 0;
};

/// d first, then nothing but codes.
struct ScaleOnly : WordFields {
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    scale[0] = b.template half<0>();
  }
};
/// d, m first.
struct ScaleAndMin : WordFields {
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = true;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F* min) {
    const I word = b.template word<0>();
    scale[0] = low_halves(word);
    min[0] = high_halves(word);
  }
};

template <>
struct Unpack<BlockQ4_0> : ScaleOnly {
  static constexpr int kMaxCode = 15;
  static constexpr int kOffset = 8;
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    nibble_codes(b, 2, low, high);
  }
};

template <>
struct Unpack<BlockQ4_1> : ScaleAndMin {
  static constexpr int kMaxCode = 15;
  static constexpr int kOffset = 0;
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    nibble_codes(b, 4, low, high);
  }
};

/// Adds 16 to the codes whose bit is set in the 32-bit word at byte kAt of each row's 16 bytes.
template <int kAt, int kSize>
NEMO_SIMD void fifth_bits(const FileBlocks<kSize>& b, I (&low)[4], I (&high)[4]) {
  alignas(16) static constexpr std::uint8_t kLow[16] = {
      kAt,     kAt,     kAt,     kAt,     kAt,     kAt,     kAt,     kAt,
      kAt + 1, kAt + 1, kAt + 1, kAt + 1, kAt + 1, kAt + 1, kAt + 1, kAt + 1};
  alignas(16) static constexpr std::uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                                         1, 2, 4, 8, 16, 32, 64, 128};
  const I low_bytes = broadcast_16_bytes(kLow);
  const I high_bytes = add_bytes(low_bytes, all_bytes(2));
  const I bits = broadcast_16_bytes(kBits);
  const I sixteen = all_bytes(16);
  I head[4];
  b.codes(0, head);
  for (int g = 0; g < 4; ++g) {
    low[g] = or_bits(low[g], where_bits(look_up(head[g], low_bytes), bits, sixteen));
    high[g] = or_bits(high[g], where_bits(look_up(head[g], high_bytes), bits, sixteen));
  }
}

template <int kAt, int kSize>
NEMO_SIMD void fifth_bits(const KernelBlocks<kSize>& b, I (&low)[4], I (&high)[4]) {
  const I bits = in_register(b.template word<kAt>());  // as bits_by_quads
  const I sixteen = all_bytes(16);
  unroll<4>([&](auto q) NEMO_SIMD_LAMBDA {
    low[q.k] = or_bits(low[q.k], and_bits(shift_left<4 - decltype(q)::k>(bits), sixteen));
    high[q.k] = or_bits(high[q.k], and_bits(shift_right<decltype(q)::k>(bits), sixteen));
  });
}

template <>
struct Unpack<BlockQ5_0> : ScaleOnly {
  static constexpr int kFifthBitsAt = 2;
  static constexpr int kMaxCode = 31;
  static constexpr int kOffset = 16;
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    nibble_codes(b, 6, low, high);
    fifth_bits<kFifthBitsAt>(b, low, high);
  }
};

template <>
struct Unpack<BlockQ5_1> : ScaleAndMin {
  static constexpr int kFifthBitsAt = 4;
  static constexpr int kMaxCode = 31;
  static constexpr int kOffset = 0;
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    nibble_codes(b, 8, low, high);
    fifth_bits<kFifthBitsAt>(b, low, high);
  }
};

template <>
struct Unpack<BlockQ8_0> : ScaleOnly {
  static constexpr int kMaxCode = 128;
  static constexpr int kOffset = kSignedBias;
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    b.codes(2, low);
    b.codes(18, high);
    sign_codes(low, high);
  }
};

template <>
struct Unpack<BlockIQ4_NL> : ScaleOnly {
  static constexpr int kMaxCode = 128;
  static constexpr int kOffset = kSignedBias;
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    nibble_codes(b, 2, low, high);
    table_codes(broadcast_16_bytes(kIq4Codes.bytes), low, high);
  }
};

template <>
struct Unpack<BlockMXFP4> : WordFields {
  static constexpr int kMaxCode = 24;
  static constexpr int kOffset = kE2m1Offset;
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    // 2^(e-128); a subnormal for e < 2.
    const I e = b.template byte<0>();
    const I normal = shift_words_left<23>(add_words(e, all_words(-1)));
    const I subnormal = shift_words_left<21>(add_words(e, all_words(1)));
    scale[0] = as_floats(greater_words(e, all_words(1), normal, subnormal));
  }
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    nibble_codes(b, 1, low, high);
    table_codes(broadcast_16_bytes(kE2m1Codes.bytes), low, high);
  }
};

template <>
struct Unpack<BlockNVFP4> : WordFields {
  static constexpr int kMaxCode = 24;
  static constexpr int kOffset = kE2m1Offset;
  static constexpr int kGroup = 16;
  static constexpr int kInner = 2;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    const I four = and_bits(b.template word<0>(), all_bytes(0x7f));
    unroll<4>([&](auto i) NEMO_SIMD_LAMBDA {
      const I x = byte_of<i.k>(four);
      // E4M3 bits moved to a float's place have the value u(x) * 2^-120, subnormals included;
      // 0x7f reads as zero. Half of u(x) is wanted, since the codes are doubled.
      const I bits = greater_words(x, all_words(0x7e), all_words(0), shift_words_left<20>(x));
      scale[i.k] = as_floats(bits) * F(0x1p119f);
    });
  }
  template <int kTile, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    nibble_codes(b, 4 + 16 * kTile, low, high);
    table_codes(broadcast_16_bytes(kE2m1Codes.bytes), low, high);
    // Each group of 16 is 8 low nibbles, then 8 high ones.
    if constexpr (Blocks::kKernelOrder) {
      const I last[2] = {low[2], low[3]};
      low[2] = high[0];
      low[3] = high[1];
      high[0] = last[0];
      high[1] = last[1];
    } else {
      nibbles_of_halves(low, high);
    }
  }
};

/// d, dmin and eight 6-bit (scale, min) pairs in the first 16 bytes.
struct KScales : WordFields {
  static constexpr int kOffset = 0;
  static constexpr int kGroup = 32;
  static constexpr int kInner = 2;
  static constexpr bool kHasMin = true;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F* min) {
    const RowWords head = b.template words<0>();
    const F d = low_halves(head.w[0]);
    const F minus_dmin = F(0.0f) - high_halves(head.w[0]);
    const I six = all_bytes(63);
    const I four = all_bytes(15);
    const I two = all_bytes(48);
    const I scale_words[2] = {
        and_bits(head.w[1], six),
        or_bits(and_bits(head.w[3], four), and_bits(shift_right<2>(head.w[1]), two))};
    const I min_words[2] = {and_bits(head.w[2], six),
                            or_bits(and_bits(shift_right<4>(head.w[3]), four),
                                    and_bits(shift_right<2>(head.w[2]), two))};
    unroll<8>([&](auto i) NEMO_SIMD_LAMBDA {
      scale[i.k] = d * to_floats(byte_of<i.k % 4>(scale_words[i.k / 4]));
      min[i.k] = minus_dmin * to_floats(byte_of<i.k % 4>(min_words[i.k / 4]));
    });
  }
  /// Low (tile 0) or high (tile 1) nibbles of 32 bytes.
  template <int kTile, class Blocks>
  NEMO_SIMD static void nibbles(const Blocks& b, int at, I (&low)[4], I (&high)[4]) {
    b.codes(at, low);
    b.codes(at + 16, high);
    for (int g = 0; g < 4; ++g) {
      low[g] = kTile == 0 ? low_nibbles(low[g]) : high_nibbles(low[g]);
      high[g] = kTile == 0 ? low_nibbles(high[g]) : high_nibbles(high[g]);
    }
  }
};

template <>
struct Unpack<BlockQ4_K> : KScales {
  static constexpr int kMaxCode = 15;
  template <int kTile, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int outer, I (&low)[4], I (&high)[4]) {
    nibbles<kTile>(b, 16 + 32 * outer, low, high);
  }
};

/// ORs `value` into the codes whose bit `bit` is set in the 32 bytes at byte `at`.
template <class Blocks>
NEMO_SIMD void high_bit(const Blocks& b, int at, int bit, int value, I (&low)[4], I (&high)[4]) {
  const I mask = all_bytes(1 << bit);
  const I add = all_bytes(value);
  I first[4];
  I second[4];
  b.codes(at, first);
  b.codes(at + 16, second);
  for (int g = 0; g < 4; ++g) {
    low[g] = or_bits(low[g], where_bits(first[g], mask, add));
    high[g] = or_bits(high[g], where_bits(second[g], mask, add));
  }
}

template <>
struct Unpack<BlockQ5_K> : KScales {
  static constexpr int kMaxCode = 31;
  template <int kTile, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int outer, I (&low)[4], I (&high)[4]) {
    nibbles<kTile>(b, 48 + 32 * outer, low, high);
    high_bit(b, 16, 2 * outer + kTile, 16, low, high);
  }
};

template <>
struct Unpack<BlockQ6_K> : WordFields {
  static constexpr bool kScaleLast = true;
  static constexpr int kMaxCode = 63;
  static constexpr int kOffset = 32;
  static constexpr int kGroup = 16;
  static constexpr int kInner = 4;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    const RowWords sixteen = b.template words<192>();
    const F d = b.template half<208>();
    unroll<16>([&](auto i) NEMO_SIMD_LAMBDA {
      scale[i.k] = d * to_floats(signed_byte<i.k % 4>(sixteen.w[i.k / 4]));
    });
  }
  /// Bits 2*kTile, 2*kTile + 1 moved to bits 4, 5.
  template <int kTile>
  NEMO_SIMD static I top_bits(I v) {
    if constexpr (kTile == 0) v = shift_left<4>(v);
    if constexpr (kTile == 1) v = shift_left<2>(v);
    if constexpr (kTile == 3) v = shift_right<2>(v);
    return and_bits(v, all_bytes(48));
  }
  template <int kTile, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int outer, I (&low)[4], I (&high)[4]) {
    KScales::nibbles<kTile / 2>(b, 64 * outer + 32 * (kTile % 2), low, high);
    I first[4];
    I second[4];
    b.codes(128 + 32 * outer, first);
    b.codes(144 + 32 * outer, second);
    for (int g = 0; g < 4; ++g) {
      low[g] = or_bits(low[g], top_bits<kTile>(first[g]));
      high[g] = or_bits(high[g], top_bits<kTile>(second[g]));
    }
  }
};

/// Bits 2*kTile, 2*kTile + 1 of the 32 bytes at byte `at`.
template <int kTile, class Blocks>
NEMO_SIMD void bit_pairs(const Blocks& b, int at, I (&low)[4], I (&high)[4]) {
  b.codes(at, low);
  b.codes(at + 16, high);
  for (int g = 0; g < 4; ++g) {
    low[g] = and_bits(shift_right<2 * kTile>(low[g]), all_bytes(3));
    high[g] = and_bits(shift_right<2 * kTile>(high[g]), all_bytes(3));
  }
}

template <>
struct Unpack<BlockQ2_K> : WordFields {
  static constexpr int kMaxCode = 3;
  static constexpr int kOffset = 0;
  static constexpr int kGroup = 16;
  static constexpr int kInner = 4;
  static constexpr bool kHasMin = true;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F* min) {
    const RowWords sixteen = b.template words<0>();
    const I word = b.template word<80>();
    const F d = low_halves(word);
    const F minus_dmin = F(0.0f) - high_halves(word);
    unroll<16>([&](auto i) NEMO_SIMD_LAMBDA {
      const I both = byte_of<i.k % 4>(sixteen.w[i.k / 4]);
      scale[i.k] = d * to_floats(and_bits(both, all_words(15)));
      min[i.k] = minus_dmin * to_floats(shift_words_right<4>(both));
    });
  }
  template <int kTile, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int outer, I (&low)[4], I (&high)[4]) {
    bit_pairs<kTile>(b, 16 + 32 * outer, low, high);
  }
};

template <>
struct Unpack<BlockQ3_K> : WordFields {
  static constexpr bool kScaleLast = true;
  static constexpr int kMaxCode = 7;
  static constexpr int kOffset = 4;
  static constexpr int kGroup = 16;
  static constexpr int kInner = 4;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    const RowWords words = b.template words<96, 3>();
    const F d = b.template half<108>();
    unroll<4>([&](auto j) NEMO_SIMD_LAMBDA {  // groups 4j .. 4j+3
      const I low = and_bits(shift_right<4 * (j.k / 2)>(words.w[j.k % 2]), all_bytes(15));
      const I high = and_bits(shift_right<2 * j.k>(words.w[2]), all_bytes(3));
      const I four = or_bits(low, shift_left<4>(high));
      unroll<4>([&](auto i) NEMO_SIMD_LAMBDA {
        scale[4 * j.k + i.k] = d * to_floats(add_words(byte_of<i.k>(four), all_words(-32)));
      });
    });
  }
  template <int kTile, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int outer, I (&low)[4], I (&high)[4]) {
    bit_pairs<kTile>(b, 32 + 32 * outer, low, high);
    high_bit(b, 0, 4 * outer + kTile, 4, low, high);
  }
};

template <>
struct Unpack<BlockIQ4_XS> : WordFields {
  static constexpr int kMaxCode = 128;
  static constexpr int kOffset = kSignedBias;
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    const RowWords head = b.template words<0>();
    const F d = low_halves(head.w[0]);
    unroll<8>([&](auto i) NEMO_SIMD_LAMBDA {
      const I low = and_bits(shift_words_right<4 * i.k>(head.w[1]), all_words(15));
      const I high = and_bits(shift_words_right<16 + 2 * i.k>(head.w[0]), all_words(3));
      const I six = or_bits(low, shift_words_left<4>(high));
      scale[i.k] = d * to_floats(add_words(six, all_words(-32)));
    });
  }
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int outer, I (&low)[4], I (&high)[4]) {
    nibble_codes(b, 8 + 16 * outer, low, high);
    table_codes(broadcast_16_bytes(kIq4Codes.bytes), low, high);
  }
};

}  // namespace
}  // namespace nemo
