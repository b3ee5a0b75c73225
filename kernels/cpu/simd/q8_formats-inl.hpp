// How each block format becomes int8 codes and float scales for the integer products; included
// after the instruction set's vector.hpp.
//
// Unpack<Block> works on one block of each of kLanes rows that lie `stride` bytes apart:
//   value(element i of a row) = scale[i / kGroup] * (code[i] - kOffset) + min[i / kGroup]
//   kMaxCode   bound of the unsigned codes; 128: signed codes, passed through signed_codes()
//   kInner     32-element tiles that codes<tile>() knows at compile time; a block has
//              kElements / 32 tiles in order, `outer` counts groups of kInner of them
//   scales(p, stride, scale, min)           all scales of the block, lane = row
//   codes<tile>(p, stride, outer, low, high) elements 0..15 and 16..31 of the tile, as load_rows
#pragma once

#include "lanes-inl.hpp"

#include <nemo/tensor/formats.hpp>

namespace nemo {
namespace {

/// Words 0..3 of 16 bytes of every row, lane = row.
struct RowWords {
  I w[4];
};
NEMO_SIMD RowWords row_words(const std::byte* p, std::int64_t stride) {
  I rows[4];
  RowWords words;
  load_rows(p, stride, rows);
  transpose(rows, words.w);
  return words;
}

NEMO_SIMD I low_nibbles(I v) { return and_bits(v, all_bytes(15)); }
NEMO_SIMD I high_nibbles(I v) { return and_bits(shift_right<4>(v), all_bytes(15)); }
/// Byte kByte of every word, unsigned.
template <int kByte>
NEMO_SIMD I byte_of(I v) {
  return kByte == 3 ? shift_words_right<24>(v)
                    : and_bits(shift_words_right<8 * kByte>(v), all_words(255));
}

/// 16 nibble pairs a row: low nibbles are elements 0..15, high nibbles 16..31.
NEMO_SIMD void nibble_codes(const std::byte* p, std::int64_t stride, I (&low)[4], I (&high)[4]) {
  I q[4];
  load_rows(p, stride, q);
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

template <class Block>
struct Unpack;

/// d first, then nothing but codes.
struct ScaleOnly {
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = false;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F*) {
    scale[0] = low_halves(row_words(p, stride).w[0]);
  }
};
/// d, m first.
struct ScaleAndMin {
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = true;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F* min) {
    const I word = row_words(p, stride).w[0];
    scale[0] = low_halves(word);
    min[0] = high_halves(word);
  }
};

template <>
struct Unpack<BlockQ4_0> : ScaleOnly {
  static constexpr int kMaxCode = 15;
  static constexpr int kOffset = 8;
  template <int>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int, I (&low)[4],
                              I (&high)[4]) {
    nibble_codes(p + 2, stride, low, high);
  }
};

template <>
struct Unpack<BlockQ4_1> : ScaleAndMin {
  static constexpr int kMaxCode = 15;
  static constexpr int kOffset = 0;
  template <int>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int, I (&low)[4],
                              I (&high)[4]) {
    nibble_codes(p + 4, stride, low, high);
  }
};

/// Adds 16 to the codes whose bit is set in the 32-bit word at byte kAt of each row's 16 bytes.
template <int kAt>
NEMO_SIMD void fifth_bits(const std::byte* p, std::int64_t stride, I (&low)[4], I (&high)[4]) {
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
  load_rows(p, stride, head);
  for (int g = 0; g < 4; ++g) {
    low[g] = or_bits(low[g], where_bits(look_up(head[g], low_bytes), bits, sixteen));
    high[g] = or_bits(high[g], where_bits(look_up(head[g], high_bytes), bits, sixteen));
  }
}

template <>
struct Unpack<BlockQ5_0> : ScaleOnly {
  static constexpr int kMaxCode = 31;
  static constexpr int kOffset = 16;
  template <int>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int, I (&low)[4],
                              I (&high)[4]) {
    nibble_codes(p + 6, stride, low, high);
    fifth_bits<2>(p, stride, low, high);
  }
};

template <>
struct Unpack<BlockQ5_1> : ScaleAndMin {
  static constexpr int kMaxCode = 31;
  static constexpr int kOffset = 0;
  template <int>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int, I (&low)[4],
                              I (&high)[4]) {
    nibble_codes(p + 8, stride, low, high);
    fifth_bits<4>(p, stride, low, high);
  }
};

template <>
struct Unpack<BlockQ8_0> : ScaleOnly {
  static constexpr int kMaxCode = 128;
  static constexpr int kOffset = kSignedBias;
  template <int>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int, I (&low)[4],
                              I (&high)[4]) {
    load_rows(p + 2, stride, low);
    load_rows(p + 18, stride, high);
    for (int g = 0; g < 4; ++g) {
      low[g] = signed_codes(low[g]);
      high[g] = signed_codes(high[g]);
    }
  }
};

template <>
struct Unpack<BlockIQ4_NL> : ScaleOnly {
  static constexpr int kMaxCode = 128;
  static constexpr int kOffset = kSignedBias;
  template <int>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int, I (&low)[4],
                              I (&high)[4]) {
    nibble_codes(p + 2, stride, low, high);
    table_codes(broadcast_16_bytes(kIq4Codes.bytes), low, high);
  }
};

template <>
struct Unpack<BlockMXFP4> {
  static constexpr int kMaxCode = 24;
  static constexpr int kOffset = kE2m1Offset;
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = false;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F*) {
    // 2^(e-128); a subnormal for e < 2.
    const I e = byte_of<0>(row_words(p, stride).w[0]);
    const I normal = shift_words_left<23>(add_words(e, all_words(-1)));
    const I subnormal = shift_words_left<21>(add_words(e, all_words(1)));
    scale[0] = as_floats(greater_words(e, all_words(1), normal, subnormal));
  }
  template <int>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int, I (&low)[4],
                              I (&high)[4]) {
    nibble_codes(p + 1, stride, low, high);
    table_codes(broadcast_16_bytes(kE2m1Codes.bytes), low, high);
  }
};

template <>
struct Unpack<BlockNVFP4> {
  static constexpr int kMaxCode = 24;
  static constexpr int kOffset = kE2m1Offset;
  static constexpr int kGroup = 16;
  static constexpr int kInner = 2;
  static constexpr bool kHasMin = false;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F*) {
    const I four = and_bits(row_words(p, stride).w[0], all_bytes(0x7f));
    unroll<4>([&](auto i) NEMO_SIMD_LAMBDA {
      const I x = byte_of<i.k>(four);
      // E4M3 bits moved to a float's place have the value u(x) * 2^-120, subnormals included;
      // 0x7f reads as zero. Half of u(x) is wanted, since the codes are doubled.
      const I bits = greater_words(x, all_words(0x7e), all_words(0), shift_words_left<20>(x));
      scale[i.k] = as_floats(bits) * F(0x1p119f);
    });
  }
  template <int kTile>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int, I (&low)[4],
                              I (&high)[4]) {
    nibble_codes(p + 4 + 16 * kTile, stride, low, high);
    table_codes(broadcast_16_bytes(kE2m1Codes.bytes), low, high);
    for (int g = 0; g < 4; ++g) {  // each group of 16 is 8 low nibbles, then 8 high ones
      const I first = interleave_low_halves(low[g], high[g]);
      high[g] = interleave_high_halves(low[g], high[g]);
      low[g] = first;
    }
  }
};

/// d, dmin and eight 6-bit (scale, min) pairs in the first 16 bytes.
struct KScales {
  static constexpr int kOffset = 0;
  static constexpr int kGroup = 32;
  static constexpr int kInner = 2;
  static constexpr bool kHasMin = true;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F* min) {
    const RowWords head = row_words(p, stride);
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
  template <int kTile>
  NEMO_SIMD static void nibbles(const std::byte* p, std::int64_t stride, I (&low)[4],
                                I (&high)[4]) {
    load_rows(p, stride, low);
    load_rows(p + 16, stride, high);
    for (int g = 0; g < 4; ++g) {
      low[g] = kTile == 0 ? low_nibbles(low[g]) : high_nibbles(low[g]);
      high[g] = kTile == 0 ? low_nibbles(high[g]) : high_nibbles(high[g]);
    }
  }
};

template <>
struct Unpack<BlockQ4_K> : KScales {
  static constexpr int kMaxCode = 15;
  template <int kTile>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int outer, I (&low)[4],
                              I (&high)[4]) {
    nibbles<kTile>(p + 16 + 32 * outer, stride, low, high);
  }
};

/// ORs `value` into the codes whose bit `bit` is set in the 32 bytes at p.
NEMO_SIMD void high_bit(const std::byte* p, std::int64_t stride, int bit, int value, I (&low)[4],
                        I (&high)[4]) {
  const I mask = all_bytes(1 << bit);
  const I add = all_bytes(value);
  I a[4];
  I b[4];
  load_rows(p, stride, a);
  load_rows(p + 16, stride, b);
  for (int g = 0; g < 4; ++g) {
    low[g] = or_bits(low[g], where_bits(a[g], mask, add));
    high[g] = or_bits(high[g], where_bits(b[g], mask, add));
  }
}

template <>
struct Unpack<BlockQ5_K> : KScales {
  static constexpr int kMaxCode = 31;
  template <int kTile>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int outer, I (&low)[4],
                              I (&high)[4]) {
    nibbles<kTile>(p + 48 + 32 * outer, stride, low, high);
    high_bit(p + 16, stride, 2 * outer + kTile, 16, low, high);
  }
};

template <>
struct Unpack<BlockQ6_K> {
  static constexpr int kMaxCode = 63;
  static constexpr int kOffset = 32;
  static constexpr int kGroup = 16;
  static constexpr int kInner = 4;
  static constexpr bool kHasMin = false;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F*) {
    const RowWords sixteen = row_words(p + 192, stride);
    const F d = high_halves(row_words(p + 194, stride).w[3]);
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
  template <int kTile>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int outer, I (&low)[4],
                              I (&high)[4]) {
    KScales::nibbles<kTile / 2>(p + 64 * outer + 32 * (kTile % 2), stride, low, high);
    const std::byte* top = p + 128 + 32 * outer;
    I a[4];
    I b[4];
    load_rows(top, stride, a);
    load_rows(top + 16, stride, b);
    for (int g = 0; g < 4; ++g) {
      low[g] = or_bits(low[g], top_bits<kTile>(a[g]));
      high[g] = or_bits(high[g], top_bits<kTile>(b[g]));
    }
  }
};

/// Bits 2*kTile, 2*kTile + 1 of 32 bytes.
template <int kTile>
NEMO_SIMD void bit_pairs(const std::byte* p, std::int64_t stride, I (&low)[4], I (&high)[4]) {
  load_rows(p, stride, low);
  load_rows(p + 16, stride, high);
  for (int g = 0; g < 4; ++g) {
    low[g] = and_bits(shift_right<2 * kTile>(low[g]), all_bytes(3));
    high[g] = and_bits(shift_right<2 * kTile>(high[g]), all_bytes(3));
  }
}

template <>
struct Unpack<BlockQ2_K> {
  static constexpr int kMaxCode = 3;
  static constexpr int kOffset = 0;
  static constexpr int kGroup = 16;
  static constexpr int kInner = 4;
  static constexpr bool kHasMin = true;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F* min) {
    const RowWords sixteen = row_words(p, stride);
    const I word = row_words(p + 68, stride).w[3];
    const F d = low_halves(word);
    const F minus_dmin = F(0.0f) - high_halves(word);
    unroll<16>([&](auto i) NEMO_SIMD_LAMBDA {
      const I both = byte_of<i.k % 4>(sixteen.w[i.k / 4]);
      scale[i.k] = d * to_floats(and_bits(both, all_words(15)));
      min[i.k] = minus_dmin * to_floats(shift_words_right<4>(both));
    });
  }
  template <int kTile>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int outer, I (&low)[4],
                              I (&high)[4]) {
    bit_pairs<kTile>(p + 16 + 32 * outer, stride, low, high);
  }
};

template <>
struct Unpack<BlockQ3_K> {
  static constexpr int kMaxCode = 7;
  static constexpr int kOffset = 4;
  static constexpr int kGroup = 16;
  static constexpr int kInner = 4;
  static constexpr bool kHasMin = false;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F*) {
    I tail[4];  // the last 16 bytes of the block: 2 of qs, 12 of scales, d
    RowWords words;
    load_rows(p + 94, stride, tail);
    for (I& v : tail) v = drop_bytes<2>(v);
    transpose(tail, words.w);
    const F d = low_halves(words.w[3]);
    unroll<4>([&](auto j) NEMO_SIMD_LAMBDA {  // groups 4j .. 4j+3
      const I low = and_bits(shift_right<4 * (j.k / 2)>(words.w[j.k % 2]), all_bytes(15));
      const I high = and_bits(shift_right<2 * j.k>(words.w[2]), all_bytes(3));
      const I four = or_bits(low, shift_left<4>(high));
      unroll<4>([&](auto i) NEMO_SIMD_LAMBDA {
        scale[4 * j.k + i.k] = d * to_floats(add_words(byte_of<i.k>(four), all_words(-32)));
      });
    });
  }
  template <int kTile>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int outer, I (&low)[4],
                              I (&high)[4]) {
    bit_pairs<kTile>(p + 32 + 32 * outer, stride, low, high);
    high_bit(p, stride, 4 * outer + kTile, 4, low, high);
  }
};

template <>
struct Unpack<BlockIQ4_XS> {
  static constexpr int kMaxCode = 128;
  static constexpr int kOffset = kSignedBias;
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  static constexpr bool kHasMin = false;
  NEMO_SIMD static void scales(const std::byte* p, std::int64_t stride, F* scale, F*) {
    const RowWords head = row_words(p, stride);
    const F d = low_halves(head.w[0]);
    unroll<8>([&](auto i) NEMO_SIMD_LAMBDA {
      const I low = and_bits(shift_words_right<4 * i.k>(head.w[1]), all_words(15));
      const I high = and_bits(shift_words_right<16 + 2 * i.k>(head.w[0]), all_words(3));
      const I six = or_bits(low, shift_words_left<4>(high));
      scale[i.k] = d * to_floats(add_words(six, all_words(-32)));
    });
  }
  template <int>
  NEMO_SIMD static void codes(const std::byte* p, std::int64_t stride, int outer, I (&low)[4],
                              I (&high)[4]) {
    nibble_codes(p + 8 + 16 * outer, stride, low, high);
    table_codes(broadcast_16_bytes(kIq4Codes.bytes), low, high);
  }
};

}  // namespace
}  // namespace nemo
