// The vector operations of NEON (ASIMD with the dot product instructions) that the shared kernels
// (../simd) are written in.
//
// F is a vector of 8 floats, I one of 32 bytes / 8 int32: two registers side by side, so that what
// is broadcast (activations, scales) is read once for 8 rows, and lanes are those of AVX2. All in
// an unnamed namespace, so nothing compiled with these instructions can be merged into baseline
// code.
#pragma once

#include <nemo/base/half.hpp>

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>

#define NEMO_SIMD [[gnu::always_inline, gnu::nothrow]] inline

namespace nemo {
namespace {

struct F {
  float32x4_t a, b;
  F() = default;
  NEMO_SIMD F(float32x4_t first, float32x4_t second) : a(first), b(second) {}
  NEMO_SIMD explicit F(float x) : a(vdupq_n_f32(x)), b(a) {}
};
struct I {
  uint8x16_t a, b;
};
constexpr int kLanes = 8;

// Register blocking of the float matrix products: kTileRows x kTileVectors accumulators of two
// registers, chosen so that they, the B vectors and one A value fit in 32 registers.
constexpr int kDotRows = 3;  // the same for dot products: kDotRows x 4 accumulators
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
// Few tokens: up to so many share unpacked tiles and go without panels.
// Up to kRowTokens of them multiply whole rows and add up afterwards, more would transpose the tile
// first: 32 instructions that save 6 a token.
constexpr int kRowTokens = 3;
constexpr int kDirectTokens = 3;
// Row vectors and tokens that share one pass over int8 panels: 8 int32 + 8 float accumulators +
// temporaries.
constexpr int kPanelRows = 1;
constexpr int kPanelTokens = 4;
constexpr int kPanelPairTokens = 4;  // tiles of two groups
// Query rows that share one pass over a packed KV tile: 4 x 2 int32 accumulators of two registers.
constexpr int kKvRows = 4;

// --- one register ---------------------------------------------------------------------------
NEMO_SIMD int8x16_t s8(uint8x16_t v) { return vreinterpretq_s8_u8(v); }
NEMO_SIMD int16x8_t s16(uint8x16_t v) { return vreinterpretq_s16_u8(v); }
NEMO_SIMD int32x4_t s32(uint8x16_t v) { return vreinterpretq_s32_u8(v); }
NEMO_SIMD uint16x8_t u16(uint8x16_t v) { return vreinterpretq_u16_u8(v); }
NEMO_SIMD uint32x4_t u32(uint8x16_t v) { return vreinterpretq_u32_u8(v); }
NEMO_SIMD uint64x2_t u64(uint8x16_t v) { return vreinterpretq_u64_u8(v); }
NEMO_SIMD uint8x16_t raw(int16x8_t v) { return vreinterpretq_u8_s16(v); }
NEMO_SIMD uint8x16_t raw(int32x4_t v) { return vreinterpretq_u8_s32(v); }
NEMO_SIMD uint8x16_t raw(uint16x8_t v) { return vreinterpretq_u8_u16(v); }
NEMO_SIMD uint8x16_t raw(uint32x4_t v) { return vreinterpretq_u8_u32(v); }
NEMO_SIMD uint8x16_t raw(uint64x2_t v) { return vreinterpretq_u8_u64(v); }
NEMO_SIMD uint8x16_t load_16_bytes(const void* p) {
  return vld1q_u8(static_cast<const std::uint8_t*>(p));
}
/// Word lanes 0..n-1 of the vector's 8 all ones, n in [0, 8].
NEMO_SIMD I first_lanes(std::int64_t n) {
  constexpr std::int32_t kLane[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  const int32x4_t count = vdupq_n_s32(static_cast<std::int32_t>(n));
  return {raw(vcgtq_s32(count, vld1q_s32(kLane))), raw(vcgtq_s32(count, vld1q_s32(kLane + 4)))};
}

// --- floats ---------------------------------------------------------------------------------
NEMO_SIMD F operator+(F x, F y) { return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)}; }
NEMO_SIMD F operator-(F x, F y) { return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b)}; }
NEMO_SIMD F operator*(F x, F y) { return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)}; }
NEMO_SIMD F operator/(F x, F y) { return {vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b)}; }

NEMO_SIMD F from_halves(uint16x8_t bits) {
  return {vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(bits))),
          vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(bits)))};
}
NEMO_SIMD F from_bfloats(uint16x8_t bits) {
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16)),
          vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(bits), 16))};
}
NEMO_SIMD uint16x8_t to_halves(F v) {
  return vcombine_u16(vreinterpret_u16_f16(vcvt_f16_f32(v.a)),
                      vreinterpret_u16_f16(vcvt_f16_f32(v.b)));
}
NEMO_SIMD F load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
NEMO_SIMD F load(const Half* p) { return from_halves(u16(load_16_bytes(p))); }
NEMO_SIMD F load(const BFloat16* p) { return from_bfloats(u16(load_16_bytes(p))); }
/// The first n < 8 elements, zero behind; touches no byte behind them.
template <class T>
NEMO_SIMD F load_first(const T* p, std::int64_t n) {
  alignas(16) T copy[8] = {};
  for (std::int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load(copy);
}
/// kLanes bytes of sign, 4 bits of exponent and 3 of mantissa as numbers: those of E4M3 / 256.
NEMO_SIMD F load_e4m3_256ths(const void* p) {
  const int16x8_t tops =
      vreinterpretq_s16_u16(vshll_n_u8(vld1_u8(static_cast<const std::uint8_t*>(p)), 8));
  const uint16x8_t halves = vreinterpretq_u16_s16(vshrq_n_s16(tops, 1));  // the sign twice
  return from_halves(vandq_u16(halves, vdupq_n_u16(0xbfff)));
}
NEMO_SIMD void store(F v, float* p) {
  vst1q_f32(p, v.a);
  vst1q_f32(p + 4, v.b);
}
NEMO_SIMD void store(F v, Half* p) {
  vst1q_u8(reinterpret_cast<std::uint8_t*>(p), raw(to_halves(v)));
}
template <class T>
NEMO_SIMD void store_first(F v, T* p, std::int64_t n) {
  alignas(16) T copy[8];
  store(v, copy);
  for (std::int64_t i = 0; i < n; ++i) p[i] = copy[i];
}

/// v in the first n lanes, `rest` behind.
NEMO_SIMD F keep_first(F v, std::int64_t n, F rest) {
  const I first = first_lanes(n);
  return {vbslq_f32(u32(first.a), v.a, rest.a), vbslq_f32(u32(first.b), v.b, rest.b)};
}

/// x > y ? x : y in every lane: y where either is NaN.
NEMO_SIMD F greater(F x, F y) {
  return {vbslq_f32(vcgtq_f32(x.a, y.a), x.a, y.a), vbslq_f32(vcgtq_f32(x.b, y.b), x.b, y.b)};
}
NEMO_SIMD F lesser(F x, F y) {
  return {vbslq_f32(vcltq_f32(x.a, y.a), x.a, y.a), vbslq_f32(vcltq_f32(x.b, y.b), x.b, y.b)};
}
NEMO_SIMD F fma(F x, F y, F z) { return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)}; }
NEMO_SIMD F round_even(F v) { return {vrndnq_f32(v.a), vrndnq_f32(v.b)}; }
NEMO_SIMD F absolute(F v) { return {vabsq_f32(v.a), vabsq_f32(v.b)}; }
/// v * 2^n for integral |n| <= 252; gradual underflow and overflow to infinity.
NEMO_SIMD F scale_by_power(F v, F n) {
  const auto scaled = [](float32x4_t x, float32x4_t exponent) {
    const int32x4_t power = vcvtnq_s32_f32(exponent);
    const int32x4_t half = vshrq_n_s32(power, 1);
    const auto two_to = [](int32x4_t e) {
      return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(e, vdupq_n_s32(127)), 23));
    };
    return vmulq_f32(vmulq_f32(x, two_to(half)), two_to(vsubq_s32(power, half)));
  };
  return {scaled(v.a, n.a), scaled(v.b, n.b)};
}

NEMO_SIMD float sum(F v) {
  const float32x4_t q = vaddq_f32(v.a, v.b);
  return vpadds_f32(vadd_f32(vget_low_f32(q), vget_high_f32(q)));
}
NEMO_SIMD float largest(F v) { return vmaxvq_f32(vmaxq_f32(v.a, v.b)); }
/// The sums of four vectors.
NEMO_SIMD float32x4_t sums(F x, F y, F z, F w) {
  return vaddq_f32(vpaddq_f32(vpaddq_f32(x.a, y.a), vpaddq_f32(z.a, w.a)),
                   vpaddq_f32(vpaddq_f32(x.b, y.b), vpaddq_f32(z.b, w.b)));
}

/// The largest of each of four vectors without NaN.
NEMO_SIMD float32x4_t mosts(F x, F y, F z, F w) {
  return vmaxq_f32(vpmaxq_f32(vpmaxq_f32(x.a, y.a), vpmaxq_f32(z.a, w.a)),
                   vpmaxq_f32(vpmaxq_f32(x.b, y.b), vpmaxq_f32(z.b, w.b)));
}

/// The numbers, rounded, as int16, which they are within.
NEMO_SIMD int16x8_t to_shorts(F v) {
  return vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(v.a)), vqmovn_s32(vcvtnq_s32_f32(v.b)));
}
/// 8 codes, each already rounded and within int8.
NEMO_SIMD void store_codes(F v, std::int8_t* p) { vst1_s8(p, vqmovn_s16(to_shorts(v))); }
/// 8 numbers within int16, rounded; every quad in the order 0, 2, 1, 3.
NEMO_SIMD void store_quads(F v, std::int16_t* p) {
  constexpr std::uint8_t kOrder[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
  const uint8x16_t shorts = raw(to_shorts(v));
  vst1q_u8(reinterpret_cast<std::uint8_t*>(p), vqtbl1q_u8(shorts, vld1q_u8(kOrder)));
}
/// The sum of the rounded numbers.
NEMO_SIMD std::int32_t sum_rounded(F v) {
  return vaddvq_s32(vaddq_s32(vcvtnq_s32_f32(v.a), vcvtnq_s32_f32(v.b)));
}

// --- bytes and int32 ------------------------------------------------------------------------
NEMO_SIMD I load_bytes(const void* p) {
  return {load_16_bytes(p), load_16_bytes(static_cast<const std::byte*>(p) + 16)};
}
NEMO_SIMD void store_bytes(I v, void* p) {
  auto* to = static_cast<std::uint8_t*>(p);
  vst1q_u8(to, v.a);
  vst1q_u8(to + 16, v.b);
}
/// p[j] = the sum of signed bytes 16j .. 16j + 15 of v
NEMO_SIMD void store_sums_of_16(I v, std::int32_t* p) {
  p[0] = vaddlvq_s8(vreinterpretq_s8_u8(v.a));
  p[1] = vaddlvq_s8(vreinterpretq_s8_u8(v.b));
}
NEMO_SIMD I in_both(uint8x16_t v) { return {v, v}; }
NEMO_SIMD I all_bytes(int value) { return in_both(vdupq_n_u8(static_cast<std::uint8_t>(value))); }
NEMO_SIMD I all_words(std::int32_t value) { return in_both(raw(vdupq_n_s32(value))); }
/// v, computed here and in registers: a fence for the compiler's scheduler.
NEMO_SIMD I in_register(I v) {
  __asm__("" : "+w"(v.a), "+w"(v.b));
  return v;
}
/// kLanes bytes, each in a word.
NEMO_SIMD I load_byte_words(const void* p) {
  const uint16x8_t shorts = vmovl_u8(vld1_u8(static_cast<const std::uint8_t*>(p)));
  return {raw(vmovl_u16(vget_low_u16(shorts))), raw(vmovl_u16(vget_high_u16(shorts)))};
}
NEMO_SIMD I broadcast_word(const void* p) {
  std::int32_t word;
  __builtin_memcpy(&word, p, 4);
  return all_words(word);
}
/// The same 16 bytes in both registers.
NEMO_SIMD I broadcast_16_bytes(const void* p) { return in_both(load_16_bytes(p)); }
NEMO_SIMD I and_bits(I x, I y) { return {vandq_u8(x.a, y.a), vandq_u8(x.b, y.b)}; }
NEMO_SIMD I or_bits(I x, I y) { return {vorrq_u8(x.a, y.a), vorrq_u8(x.b, y.b)}; }
NEMO_SIMD I xor_bits(I x, I y) { return {veorq_u8(x.a, y.a), veorq_u8(x.b, y.b)}; }
/// Bits move across byte borders: mask afterwards.
template <int kCount>
NEMO_SIMD I shift_right(I v) {
  if constexpr (kCount == 0) {
    return v;
  } else {
    return {raw(vshrq_n_u16(u16(v.a), kCount)), raw(vshrq_n_u16(u16(v.b), kCount))};
  }
}
template <int kCount>
NEMO_SIMD I shift_left(I v) {
  return {raw(vshlq_n_u16(u16(v.a), kCount)), raw(vshlq_n_u16(u16(v.b), kCount))};
}
NEMO_SIMD I shift_right(I v, int count) {
  const int16x8_t left = vdupq_n_s16(static_cast<std::int16_t>(-count));
  return {raw(vshlq_u16(u16(v.a), left)), raw(vshlq_u16(u16(v.b), left))};
}
/// Every 16 bits as a signed number.
template <int kCount>
NEMO_SIMD I shift_signed_right(I v) {
  return {raw(vshrq_n_s16(s16(v.a), kCount)), raw(vshrq_n_s16(s16(v.b), kCount))};
}
template <int kCount>
NEMO_SIMD I shift_words_right(I v) {
  if constexpr (kCount == 0) {
    return v;
  } else {
    return {raw(vshrq_n_u32(u32(v.a), kCount)), raw(vshrq_n_u32(u32(v.b), kCount))};
  }
}
template <int kCount>
NEMO_SIMD I shift_words_left(I v) {
  return {raw(vshlq_n_u32(u32(v.a), kCount)), raw(vshlq_n_u32(u32(v.b), kCount))};
}
/// Byte kByte of every word, sign-extended.
template <int kByte>
NEMO_SIMD I signed_byte(I v) {
  const I top = shift_words_left<24 - 8 * kByte>(v);
  return {raw(vshrq_n_s32(s32(top.a), 24)), raw(vshrq_n_s32(s32(top.b), 24))};
}
/// The low halves of the products of 16-bit numbers.
NEMO_SIMD I multiply_shorts(I x, I y) {
  return {raw(vmulq_u16(u16(x.a), u16(y.a))), raw(vmulq_u16(u16(x.b), u16(y.b)))};
}
NEMO_SIMD I add_words(I x, I y) {
  return {raw(vaddq_u32(u32(x.a), u32(y.a))), raw(vaddq_u32(u32(x.b), u32(y.b)))};
}
NEMO_SIMD I subtract_words(I x, I y) {
  return {raw(vsubq_u32(u32(x.a), u32(y.a))), raw(vsubq_u32(u32(x.b), u32(y.b)))};
}
NEMO_SIMD I add_bytes(I x, I y) { return {vaddq_u8(x.a, y.a), vaddq_u8(x.b, y.b)}; }
NEMO_SIMD I greater_words(I x, I y, I yes, I no) {
  return {vbslq_u8(raw(vcgtq_s32(s32(x.a), s32(y.a))), yes.a, no.a),
          vbslq_u8(raw(vcgtq_s32(s32(x.b), s32(y.b))), yes.b, no.b)};
}
/// value in the bytes whose mask bits are not all zero, else 0.
NEMO_SIMD I where_bits(I v, I mask, I value) {
  return {vandq_u8(vtstq_u8(v.a, mask.a), value.a), vandq_u8(vtstq_u8(v.b, mask.b), value.b)};
}
/// All ones in byte i where bit i of the 32 bits at p is set, else 0.
NEMO_SIMD I spread_bits(const void* p) {
  constexpr std::uint8_t kOwn[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
  const uint8x16_t bit = raw(vdupq_n_u64(0x8040201008040201));
  const uint8x16_t own = vld1q_u8(kOwn);
  const uint8x16_t word = broadcast_word(p).a;
  return {vtstq_u8(vqtbl1q_u8(word, own), bit),
          vtstq_u8(vqtbl1q_u8(word, vaddq_u8(own, vdupq_n_u8(2))), bit)};
}
/// table[index] where both registers of `table` hold the same 16 bytes; 0 for index > 15.
NEMO_SIMD I look_up_or_zero(I table, I index) {
  return {vqtbl1q_u8(table.a, index.a), vqtbl1q_u8(table.b, index.b)};
}
/// The same for indices in [0, 16) or above 127.
NEMO_SIMD I look_up(I table, I index) { return look_up_or_zero(table, index); }
/// Shifts each register right by kBytes bytes.
template <int kBytes>
NEMO_SIMD I drop_bytes(I v) {
  const uint8x16_t zero = vdupq_n_u8(0);
  return {vextq_u8(v.a, zero, kBytes), vextq_u8(v.b, zero, kBytes)};
}
NEMO_SIMD I interleave_low_halves(I x, I y) {
  return {raw(vzip1q_u64(u64(x.a), u64(y.a))), raw(vzip1q_u64(u64(x.b), u64(y.b)))};
}
NEMO_SIMD I interleave_high_halves(I x, I y) {
  return {raw(vzip2q_u64(u64(x.a), u64(y.a))), raw(vzip2q_u64(u64(x.b), u64(y.b)))};
}
/// Bytes 0, 2, 4 and 6.
NEMO_SIMD std::uint32_t even_bytes(std::uint64_t v) {
  v &= 0x00ff00ff00ff00ff;
  v = (v | v >> 8) & 0x0000ffff0000ffff;
  return static_cast<std::uint32_t>(v | v >> 16);
}
/// Replaces 32 codes below 16 by the entries of a table.
NEMO_SIMD void look_up_32(const std::int8_t* table, std::uint8_t* codes) {
  const uint8x16_t entries = load_16_bytes(table);
  for (int i = 0; i < 32; i += 16) vst1q_u8(codes + i, vqtbl1q_u8(entries, vld1q_u8(codes + i)));
}
/// Eight codes of kBits bits, a byte each.
template <int kBits>
NEMO_SIMD std::uint64_t spread_codes(std::uint64_t packed) {
  std::uint64_t bytes = 0;
  for (int i = 0; i < 8; ++i) {
    bytes |= (packed >> (kBits * i) & ((1u << kBits) - 1)) << (8 * i);
  }
  return bytes;
}
/// kLanes bytes, again and again.
NEMO_SIMD I broadcast_lanes(const void* p) {
  std::uint64_t bytes;
  __builtin_memcpy(&bytes, p, 8);
  return in_both(raw(vdupq_n_u64(bytes)));
}
/// Every word by a count of its own.
NEMO_SIMD I shift_each_right(I words, I counts) {
  return {raw(vshlq_u32(u32(words.a), vnegq_s32(s32(counts.a)))),
          raw(vshlq_u32(u32(words.b), vnegq_s32(s32(counts.b))))};
}
NEMO_SIMD F to_floats(I words) {
  return {vcvtq_f32_s32(s32(words.a)), vcvtq_f32_s32(s32(words.b))};
}
NEMO_SIMD F as_floats(I bits) {
  return {vreinterpretq_f32_u8(bits.a), vreinterpretq_f32_u8(bits.b)};
}
NEMO_SIMD I as_words(F v) { return {vreinterpretq_u8_f32(v.a), vreinterpretq_u8_f32(v.b)}; }
/// 16 floats to be looked up.
struct FloatTable {
  uint8x16x4_t bytes;
};
NEMO_SIMD FloatTable load_table(const float* p) {
  return {{{load_16_bytes(p), load_16_bytes(p + 4), load_16_bytes(p + 8), load_16_bytes(p + 12)}}};
}
/// table[index], index in [0, 16).
NEMO_SIMD F look_up(const FloatTable& table, I index) {
  const auto find = [&table](uint8x16_t i) {
    const uint32x4_t first = vmulq_n_u32(u32(i), 0x04040404);
    return vqtbl4q_u8(table.bytes, raw(vaddq_u32(first, vdupq_n_u32(0x03020100))));
  };
  return as_floats({find(index.a), find(index.b)});
}
/// The half-precision numbers in the low / high 16 bits of every word.
NEMO_SIMD F low_halves(I words) {
  return from_halves(vcombine_u16(vmovn_u32(u32(words.a)), vmovn_u32(u32(words.b))));
}
NEMO_SIMD F high_halves(I words) {
  return from_halves(vcombine_u16(vshrn_n_u32(u32(words.a), 16), vshrn_n_u32(u32(words.b), 16)));
}

/// 8 rows of 16 bytes: row g and row 4 + g in out[g], which makes transpose() come out in row
/// order.
NEMO_SIMD void load_rows(const std::byte* p, std::int64_t stride, I (&out)[4]) {
  for (int g = 0; g < 4; ++g) {
    out[g] = {load_16_bytes(p + g * stride), load_16_bytes(p + (4 + g) * stride)};
  }
}
/// out[j] word r = word j of row r, from the registers of load_rows.
NEMO_SIMD void transpose(const I (&rows)[4], I* out) {
  const auto turn = [](uint8x16_t r0, uint8x16_t r1, uint8x16_t r2, uint8x16_t r3,
                       uint8x16_t(&columns)[4]) {
    const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(u32(r0), u32(r1)));
    const uint64x2_t odd01 = vreinterpretq_u64_u32(vtrn2q_u32(u32(r0), u32(r1)));
    const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(u32(r2), u32(r3)));
    const uint64x2_t odd23 = vreinterpretq_u64_u32(vtrn2q_u32(u32(r2), u32(r3)));
    columns[0] = raw(vtrn1q_u64(even01, even23));
    columns[1] = raw(vtrn1q_u64(odd01, odd23));
    columns[2] = raw(vtrn2q_u64(even01, even23));
    columns[3] = raw(vtrn2q_u64(odd01, odd23));
  };
  uint8x16_t first[4], second[4];
  turn(rows[0].a, rows[1].a, rows[2].a, rows[3].a, first);
  turn(rows[0].b, rows[1].b, rows[2].b, rows[3].b, second);
  for (int j = 0; j < 4; ++j) out[j] = {first[j], second[j]};
}

// --- int8 products --------------------------------------------------------------------------
// SDOT multiplies signed by signed bytes, so all codes go in as they are.
constexpr int kSignedBias = 0;
NEMO_SIMD I signed_codes(I v) { return v; }

/// Word r of acc += the product of words r of x and y as pairs of int16.
NEMO_SIMD I add_dot_shorts(I acc, I x, I y) {
  const auto dot = [](uint8x16_t sum, int16x8_t u, int16x8_t v) {
    const int32x4_t low = vmull_s16(vget_low_s16(u), vget_low_s16(v));
    return raw(vaddq_s32(s32(sum), vpaddq_s32(low, vmull_high_s16(u, v))));
  };
  return {dot(acc.a, s16(x.a), s16(y.a)), dot(acc.b, s16(x.b), s16(y.b))};
}

/// All codes are multiplied alike.
constexpr int dot_class(int) { return 0; }

template <int kClass>
struct Dot {
  /// Word r of acc += (word r of codes) . (word kQuad of acts).
  template <int kQuad>
  NEMO_SIMD static void add(I& acc, I codes, int8x16_t acts) {
    acc.a = raw(vdotq_laneq_s32(s32(acc.a), s8(codes.a), acts, kQuad));
    acc.b = raw(vdotq_laneq_s32(s32(acc.b), s8(codes.b), acts, kQuad));
  }
#ifdef __ARM_FEATURE_MATMUL_INT8
  // SMMLA adds to a word for each of two tokens and two rows a product of 8 bytes.

  /// Every two quads of eight rows become 8 bytes of rows 0 and 1, of 2 and 3 and so on.
  NEMO_SIMD static void arrange(I (&quads)[8]) {
    for (int q = 0; q < 8; q += 2) {
      const I x = quads[q], y = quads[q + 1];
      quads[q] = {raw(vzip1q_u32(u32(x.a), u32(y.a))), raw(vzip2q_u32(u32(x.a), u32(y.a)))};
      quads[q + 1] = {raw(vzip1q_u32(u32(x.b), u32(y.b))), raw(vzip2q_u32(u32(x.b), u32(y.b)))};
    }
  }
  /// Adds to acc[t] word r: (row r of codes) . (activations of token t); `codes` as arranged.
  template <int kTokens, int kQuads>
  NEMO_SIMD static void panel_row(const std::byte* codes, const std::byte* acts,
                                  std::int64_t stride, I (&acc)[kTokens]) {
    static_assert(kQuads % 4 == 0);
    constexpr int kPairs = (kTokens + 1) / 2;
    int32x4_t sums[kPairs][4];  // of rows 2i and 2i + 1
    for (auto& pair : sums) {
      for (int32x4_t& v : pair) v = vdupq_n_s32(0);
    }
    for (int q = 0; q < kQuads; q += 4) {
      int8x16_t x[kPairs][2];  // 8 bytes of both tokens
      for (int p = 0; p < kPairs; ++p) {
        const std::byte* at = acts + 2 * p * stride + 4 * q;
        const uint64x2_t first = u64(load_16_bytes(at));
        const uint64x2_t second = 2 * p + 1 < kTokens ? u64(load_16_bytes(at + stride)) : first;
        x[p][0] = s8(raw(vzip1q_u64(first, second)));
        x[p][1] = s8(raw(vzip2q_u64(first, second)));
      }
      for (int half = 0; half < 2; ++half) {
        const std::byte* at = codes + 32 * q + 64 * half;
        for (int i = 0; i < 4; ++i) {
          const int8x16_t w = s8(load_16_bytes(at + 16 * i));
          for (int p = 0; p < kPairs; ++p) sums[p][i] = vmmlaq_s32(sums[p][i], x[p][half], w);
        }
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      const auto of_token = [t](int32x4_t low, int32x4_t high) {
        const uint64x2_t u = u64(raw(low)), v = u64(raw(high));
        return raw(t % 2 == 0 ? vzip1q_u64(u, v) : vzip2q_u64(u, v));
      };
      const auto& pair = sums[t / 2];
      acc[t] = add_words(acc[t], {of_token(pair[0], pair[1]), of_token(pair[2], pair[3])});
    }
  }
#else
  /// Panels keep codes as they are.
  NEMO_SIMD static void arrange(I (&)[8]) {}
  /// Adds to acc[t] word r: sum over quads of (word r of codes) . (activation quad of token t).
  template <int kTokens, int kQuads>
  NEMO_SIMD static void panel_row(const std::byte* codes, const std::byte* acts,
                                  std::int64_t stride, I (&acc)[kTokens]) {
    static_assert(kQuads % 4 == 0);
    for (int q = 0; q < kQuads; q += 4) {
      int8x16_t x[kTokens];
      for (int t = 0; t < kTokens; ++t) x[t] = s8(load_16_bytes(acts + t * stride + 4 * q));
      const std::byte* at = codes + 32 * q;
      const I w0 = load_bytes(at), w1 = load_bytes(at + 32);
      for (int t = 0; t < kTokens; ++t) add<0>(acc[t], w0, x[t]);
      for (int t = 0; t < kTokens; ++t) add<1>(acc[t], w1, x[t]);
      const I w2 = load_bytes(at + 64), w3 = load_bytes(at + 96);
      for (int t = 0; t < kTokens; ++t) add<2>(acc[t], w2, x[t]);
      for (int t = 0; t < kTokens; ++t) add<3>(acc[t], w3, x[t]);
    }
  }
#endif
  /// panel_row of kRows row vectors whose codes lie `step` bytes apart: acc[i][t].
  template <int kRows, int kTokens, int kQuads>
  NEMO_SIMD static void panel(const std::byte* codes, std::int64_t step, const std::byte* acts,
                              std::int64_t stride, I (&acc)[kRows][kTokens]) {
    for (int i = 0; i < kRows; ++i) {
      panel_row<kTokens, kQuads>(codes + i * step, acts, stride, acc[i]);
    }
  }
  /// Adds to acc[t] word r: sum over quads of (word r of codes) . (activation quad of token t).
  template <int kTokens, int kQuads>
  NEMO_SIMD static void quads(const I* codes, const std::byte* acts, std::int64_t stride,
                              I (&acc)[kTokens]) {
    static_assert(kQuads % 4 == 0);
    for (int t = 0; t < kTokens; ++t) {
      for (int q = 0; q < kQuads; q += 4) {
        const int8x16_t x = s8(load_16_bytes(acts + t * stride + 4 * q));
        add<0>(acc[t], codes[q], x);
        add<1>(acc[t], codes[q + 1], x);
        add<2>(acc[t], codes[q + 2], x);
        add<3>(acc[t], codes[q + 3], x);
      }
    }
  }
  /// Word r = the sum of the four words of row r.
  NEMO_SIMD static uint8x16_t row_sums(const int32x4_t (&s)[4]) {
    return raw(vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])));
  }
  /// Word r of dots[t] = row r . activations of token t over 16 elements, from the registers of
  /// load_rows. Four rows at a time: all eight would take more registers than there are.
  template <int kTokens>
  NEMO_SIMD static void rows16(const I (&v)[4], const std::byte* acts, std::int64_t stride,
                               I (&dots)[kTokens]) {
    const int32x4_t zero = vdupq_n_s32(0);
    for (int t = 0; t < kTokens; ++t) {
      const int8x16_t x = s8(load_16_bytes(acts + t * stride));
      int32x4_t first[4], second[4];
      for (int g = 0; g < 4; ++g) first[g] = vdotq_s32(zero, s8(v[g].a), x);
      for (int g = 0; g < 4; ++g) second[g] = vdotq_s32(zero, s8(v[g].b), x);
      dots[t] = {row_sums(first), row_sums(second)};
    }
  }
  /// The same over 32 elements.
  template <int kTokens>
  NEMO_SIMD static void rows32(const I (&low)[4], const I (&high)[4], const std::byte* acts,
                               std::int64_t stride, I (&dots)[kTokens]) {
    const int32x4_t zero = vdupq_n_s32(0);
    for (int t = 0; t < kTokens; ++t) {
      const int8x16_t x = s8(load_16_bytes(acts + t * stride));
      const int8x16_t y = s8(load_16_bytes(acts + t * stride + 16));
      int32x4_t first[4], second[4];
      for (int g = 0; g < 4; ++g) {
        first[g] = vdotq_s32(vdotq_s32(zero, s8(low[g].a), x), s8(high[g].a), y);
      }
      for (int g = 0; g < 4; ++g) {
        second[g] = vdotq_s32(vdotq_s32(zero, s8(low[g].b), x), s8(high[g].b), y);
      }
      dots[t] = {row_sums(first), row_sums(second)};
    }
  }
};

}  // namespace
}  // namespace nemo

#include "../simd/half_columns-inl.hpp"
