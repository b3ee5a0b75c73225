// The vector operations of AVX2 + FMA + F16C that the shared kernels (../simd) are written in.
//
// F is a vector of 8 floats, I one of 32 bytes / 8 int32. Everything lives in an unnamed namespace,
// so nothing compiled with these wide instructions can be merged into baseline code.
#pragma once

#include <nemo/base/half.hpp>

#include <xsimd/xsimd.hpp>

#include <cstddef>
#include <cstdint>
#include <immintrin.h>

#define NEMO_SIMD [[gnu::always_inline, gnu::nothrow]] inline

namespace nemo {
namespace {

using F = xsimd::batch<float, xsimd::fma3<xsimd::avx2>>;
using I = __m256i;
constexpr int kLanes = 8;

// Register blocking of the float matrix products: kTileRows x kTileVectors accumulators, chosen so
// that they, the B vectors and one A value fit in 16 registers.
constexpr int kDotRows = 3;  // the same for dot products: kDotRows x 4 accumulators
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;
// Few tokens: up to so many share unpacked tiles and go without panels.
// Up to kRowTokens of them multiply whole rows and add up afterwards, more transpose the tile
// first.
constexpr int kRowTokens = 2;
constexpr int kDirectTokens = 3;
// Row vectors and tokens that share one pass over int8 panels: every activation is broadcast once
// for both row vectors, and 2 x 4 accumulators, 2 vectors of codes and temporaries fit in 16
// registers.
constexpr int kPanelRows = 2;
constexpr int kPanelTokens = 4;
constexpr int kPanelPairTokens = 4;  // tiles of two groups
// Query rows that share one pass over a packed KV tile: 6 x 2 int32 accumulators.
constexpr int kKvRows = 6;

/// Word lanes 0..n-1 all ones, n in [0, 8].
NEMO_SIMD __m256i first_lanes(std::int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}

// --- floats ---------------------------------------------------------------------------------
NEMO_SIMD F load(const float* p) { return F(_mm256_loadu_ps(p)); }
NEMO_SIMD F from_halves(__m128i bits) { return F(_mm256_cvtph_ps(bits)); }
NEMO_SIMD F from_bfloats(__m128i bits) {
  return F(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)));
}
NEMO_SIMD F load(const Half* p) {
  return from_halves(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
NEMO_SIMD F load(const BFloat16* p) {
  return from_bfloats(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
/// n < 8 16-bit elements, zero behind.
NEMO_SIMD __m128i load_first_16bit(const void* p, std::int64_t n) {
  alignas(16) std::uint16_t words[8] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    __builtin_memcpy(&words[i], static_cast<const std::byte*>(p) + 2 * i, 2);
  }
  return _mm_load_si128(reinterpret_cast<const __m128i*>(words));
}
/// The first n < 8 elements, zero behind; touches no byte behind them.
NEMO_SIMD F load_first(const float* p, std::int64_t n) {
  return F(_mm256_maskload_ps(p, first_lanes(n)));
}
NEMO_SIMD F load_first(const Half* p, std::int64_t n) {
  return from_halves(load_first_16bit(p, n));
}
NEMO_SIMD F load_first(const BFloat16* p, std::int64_t n) {
  return from_bfloats(load_first_16bit(p, n));
}
/// kLanes bytes of sign, 4 bits of exponent and 3 of mantissa as numbers: those of E4M3 / 256.
NEMO_SIMD F load_e4m3_256ths(const void* p) {
  const __m128i bytes = _mm_cvtepu8_epi16(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  const __m128i halves = _mm_srai_epi16(_mm_slli_epi16(bytes, 8), 1);  // the sign twice
  return F(_mm256_cvtph_ps(_mm_and_si128(halves, _mm_set1_epi16(-0x4001))));
}
NEMO_SIMD void store(F v, float* p) { _mm256_storeu_ps(p, v); }
NEMO_SIMD __m128i to_halves(F v) {
  return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
NEMO_SIMD void store(F v, Half* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_halves(v));
}
NEMO_SIMD void store_first(F v, float* p, std::int64_t n) {
  _mm256_maskstore_ps(p, first_lanes(n), v);
}
NEMO_SIMD void store_first(F v, Half* p, std::int64_t n) {
  alignas(16) Half halves[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(halves), to_halves(v));
  for (std::int64_t i = 0; i < n; ++i) p[i] = halves[i];
}

/// v in the first n lanes, `rest` behind.
NEMO_SIMD F keep_first(F v, std::int64_t n, F rest) {
  return F(_mm256_blendv_ps(rest, v, _mm256_castsi256_ps(first_lanes(n))));
}

/// a > b ? a : b in every lane: b where either is NaN.
NEMO_SIMD F greater(F a, F b) { return F(_mm256_max_ps(a, b)); }
NEMO_SIMD F lesser(F a, F b) { return F(_mm256_min_ps(a, b)); }
NEMO_SIMD F fma(F a, F b, F c) { return F(_mm256_fmadd_ps(a, b, c)); }
NEMO_SIMD F round_even(F v) {
  return F(_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
NEMO_SIMD F absolute(F v) { return F(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), v)); }
/// v * 2^n for integral |n| <= 252; gradual underflow and overflow to infinity.
NEMO_SIMD F scale_by_power(F v, F n) {
  const __m256i power = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(power, 1);
  const auto two_to = [](__m256i e) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  return F(_mm256_mul_ps(_mm256_mul_ps(v, two_to(half)), two_to(_mm256_sub_epi32(power, half))));
}

NEMO_SIMD float sum(F v) {
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
NEMO_SIMD float largest(F v) {
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
/// The sums of four vectors.
NEMO_SIMD __m128 sums(F a, F b, F c, F d) {
  const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/// The largest of each of four vectors without NaN.
NEMO_SIMD __m128 mosts(F a, F b, F c, F d) {
  const __m256 ab = _mm256_max_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const __m256 cd = _mm256_max_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  const __m256d lo = _mm256_unpacklo_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
  const __m256d hi = _mm256_unpackhi_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
  const __m256 all = _mm256_max_ps(_mm256_castpd_ps(lo), _mm256_castpd_ps(hi));
  return _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/// 8 codes, each already rounded and within int8.
NEMO_SIMD void store_codes(F v, std::int8_t* p) {
  const __m256i words = _mm256_cvtps_epi32(v);
  const __m128i shorts =
      _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(shorts, shorts));
}
/// 8 numbers within int16, rounded; every quad in the order 0, 2, 1, 3.
NEMO_SIMD void store_quads(F v, std::int16_t* p) {
  const __m256i words = _mm256_cvtps_epi32(v);
  const __m128i shorts =
      _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_shuffle_epi8(shorts, order));
}
/// The sum of the rounded numbers.
NEMO_SIMD std::int32_t sum_rounded(F v) {
  const __m256i words = _mm256_cvtps_epi32(v);
  __m128i q = _mm_add_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}

// --- bytes and int32 ------------------------------------------------------------------------
NEMO_SIMD I load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const I*>(p)); }
NEMO_SIMD void store_bytes(I v, void* p) { _mm256_storeu_si256(static_cast<I*>(p), v); }
/// p[j] = the sum of signed bytes 16j .. 16j + 15 of v
NEMO_SIMD void store_sums_of_16(I v, std::int32_t* p) {
  const I positive = _mm256_xor_si256(v, _mm256_set1_epi8(static_cast<char>(0x80)));
  const I of_8 = _mm256_sad_epu8(positive, _mm256_setzero_si256());
  const I of_16 = _mm256_add_epi64(of_8, _mm256_bsrli_epi128(of_8, 8));  // in even quads
  p[0] = _mm256_extract_epi32(of_16, 0) - 16 * 128;
  p[1] = _mm256_extract_epi32(of_16, 4) - 16 * 128;
}
NEMO_SIMD I all_bytes(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
NEMO_SIMD I all_words(std::int32_t value) { return _mm256_set1_epi32(value); }
/// v, computed here and in a register: a fence for the compiler's scheduler.
NEMO_SIMD I in_register(I v) {
  __asm__("" : "+x"(v));
  return v;
}
/// kLanes bytes, each in a word.
NEMO_SIMD I load_byte_words(const void* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
NEMO_SIMD I broadcast_word(const void* p) {
  std::int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}
/// The same 16 bytes in both 128-bit lanes.
NEMO_SIMD I broadcast_16_bytes(const void* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
NEMO_SIMD I and_bits(I a, I b) { return _mm256_and_si256(a, b); }
NEMO_SIMD I or_bits(I a, I b) { return _mm256_or_si256(a, b); }
NEMO_SIMD I xor_bits(I a, I b) { return _mm256_xor_si256(a, b); }
/// Bits move across byte borders: mask afterwards.
template <int kCount>
NEMO_SIMD I shift_right(I v) {
  return _mm256_srli_epi16(v, kCount);
}
template <int kCount>
NEMO_SIMD I shift_left(I v) {
  return _mm256_slli_epi16(v, kCount);
}
NEMO_SIMD I shift_right(I v, int count) { return _mm256_srl_epi16(v, _mm_cvtsi32_si128(count)); }
/// Every 16 bits as a signed number.
template <int kCount>
NEMO_SIMD I shift_signed_right(I v) {
  return _mm256_srai_epi16(v, kCount);
}
template <int kCount>
NEMO_SIMD I shift_words_right(I v) {
  return _mm256_srli_epi32(v, kCount);
}
template <int kCount>
NEMO_SIMD I shift_words_left(I v) {
  return _mm256_slli_epi32(v, kCount);
}
/// Byte kByte of every word, sign-extended.
template <int kByte>
NEMO_SIMD I signed_byte(I v) {
  return _mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * kByte), 24);
}
/// The low halves of the products of 16-bit numbers.
NEMO_SIMD I multiply_shorts(I a, I b) { return _mm256_mullo_epi16(a, b); }
NEMO_SIMD I add_words(I a, I b) { return _mm256_add_epi32(a, b); }
NEMO_SIMD I subtract_words(I a, I b) { return _mm256_sub_epi32(a, b); }
NEMO_SIMD I add_shorts(I a, I b) { return _mm256_add_epi16(a, b); }
NEMO_SIMD I add_bytes(I a, I b) { return _mm256_add_epi8(a, b); }
NEMO_SIMD I greater_words(I a, I b, I yes, I no) {
  return _mm256_blendv_epi8(no, yes, _mm256_cmpgt_epi32(a, b));
}
/// value in the bytes whose mask bits are not all zero, else 0.
NEMO_SIMD I where_bits(I v, I mask, I value) {
  const I none = _mm256_cmpeq_epi8(_mm256_and_si256(v, mask), _mm256_setzero_si256());
  return _mm256_andnot_si256(none, value);
}
/// All ones in byte i where bit i of the 32 bits at p is set, else 0.
NEMO_SIMD I spread_bits(const void* p) {
  const I own = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const I bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
  const I bytes = _mm256_shuffle_epi8(broadcast_word(p), own);
  return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
}
/// table[index & 15] where both 128-bit lanes of `table` hold the same 16 bytes; 0 for index > 127.
NEMO_SIMD I look_up(I table, I index) { return _mm256_shuffle_epi8(table, index); }
/// table[index], 0 for index > 15; index < 128.
NEMO_SIMD I look_up_or_zero(I table, I index) {
  return look_up(table, add_bytes(index, all_bytes(0x70)));
}
/// Shifts each 128-bit lane right by kBytes bytes.
template <int kBytes>
NEMO_SIMD I drop_bytes(I v) {
  return _mm256_bsrli_epi128(v, kBytes);
}
NEMO_SIMD I interleave_low_halves(I a, I b) { return _mm256_unpacklo_epi64(a, b); }
NEMO_SIMD I interleave_high_halves(I a, I b) { return _mm256_unpackhi_epi64(a, b); }
/// kLanes bytes, again and again.
NEMO_SIMD I broadcast_lanes(const void* p) {
  long long bytes;
  __builtin_memcpy(&bytes, p, 8);
  return _mm256_set1_epi64x(bytes);
}
/// Every word by a count of its own.
NEMO_SIMD I shift_each_right(I words, I counts) { return _mm256_srlv_epi32(words, counts); }
NEMO_SIMD F to_floats(I words) { return F(_mm256_cvtepi32_ps(words)); }
/// 16 floats to be looked up.
struct FloatTable {
  __m256 low, high;
};
NEMO_SIMD FloatTable load_table(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
/// table[index], index in [0, 16).
NEMO_SIMD F look_up(const FloatTable& table, I index) {
  const __m256 is_high = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
  return F(_mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, index),
                            _mm256_permutevar8x32_ps(table.high, index), is_high));
}
NEMO_SIMD F as_floats(I bits) { return F(_mm256_castsi256_ps(bits)); }
NEMO_SIMD I as_words(F v) { return _mm256_castps_si256(v); }
/// The half-precision numbers in the low / high 16 bits of every word.
NEMO_SIMD F high_halves(I words) {
  const I high = _mm256_srli_epi32(words, 16);  // now packing to unsigned words is exact
  const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
  return from_halves(_mm256_castsi256_si128(packed));
}
NEMO_SIMD F low_halves(I words) { return high_halves(_mm256_slli_epi32(words, 16)); }

/// 8 rows of 16 bytes: 128-bit lane i of out[g] = row 4i + g, which makes transpose() come out in
/// row order.
NEMO_SIMD void load_rows(const std::byte* p, std::int64_t stride, I (&out)[4]) {
  const auto at = [](const std::byte* q) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
  };
  for (int g = 0; g < 4; ++g) {
    const std::byte* row = p + g * stride;
    out[g] = _mm256_inserti128_si256(_mm256_castsi128_si256(at(row)), at(row + 4 * stride), 1);
  }
}
/// out[j] word r = word j of row r, from the lanes of load_rows.
NEMO_SIMD void transpose(const I (&rows)[4], I* out) {
  const I lo01 = _mm256_unpacklo_epi32(rows[0], rows[1]);
  const I hi01 = _mm256_unpackhi_epi32(rows[0], rows[1]);
  const I lo23 = _mm256_unpacklo_epi32(rows[2], rows[3]);
  const I hi23 = _mm256_unpackhi_epi32(rows[2], rows[3]);
  out[0] = _mm256_unpacklo_epi64(lo01, lo23);
  out[1] = _mm256_unpackhi_epi64(lo01, lo23);
  out[2] = _mm256_unpacklo_epi64(hi01, hi23);
  out[3] = _mm256_unpackhi_epi64(hi01, hi23);
}
/// columns[i] lane r = element i of the row at p + r * stride.
constexpr int kHalfColumns = 16;
NEMO_SIMD void load_columns(const Half* p, std::int64_t stride, F (&columns)[kHalfColumns]) {
  // Three rounds of interleaving rows r and r + 4, then r and r + 2, then r and r + 1; every
  // register has elements 0..7 in one half and 8..15 in the other.
  I rows[8], by_two[8], by_four[8];
  for (int r = 0; r < 8; ++r) rows[r] = load_bytes(p + r * stride);
  for (int r = 0; r < 4; ++r) {
    by_two[r] = _mm256_unpacklo_epi16(rows[r], rows[r + 4]);
    by_two[r + 4] = _mm256_unpackhi_epi16(rows[r], rows[r + 4]);
  }
  for (int half = 0; half < 8; half += 4) {
    for (int r = half; r < half + 2; ++r) {
      by_four[r] = _mm256_unpacklo_epi16(by_two[r], by_two[r + 2]);
      by_four[r + 2] = _mm256_unpackhi_epi16(by_two[r], by_two[r + 2]);
    }
  }
  for (int i = 0; i < 8; i += 2) {
    for (int k = 0; k < 2; ++k) {
      const I column = k == 0 ? _mm256_unpacklo_epi16(by_four[i], by_four[i + 1])
                              : _mm256_unpackhi_epi16(by_four[i], by_four[i + 1]);
      columns[i + k] = from_halves(_mm256_castsi256_si128(column));
      columns[i + k + 8] = from_halves(_mm256_extracti128_si256(column, 1));
    }
  }
}
/// Word r = the sum of the four words of row r, from the lanes of load_rows.
NEMO_SIMD I row_sums(I a, I b, I c, I d) {
  return _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
}

/// Word r of acc += the product of words r of a and b as pairs of int16.
NEMO_SIMD I add_dot_shorts(I acc, I a, I b) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}

}  // namespace
}  // namespace nemo

#include "../simd/x86_bytes-inl.hpp"

// The products of bytes: dot.hpp, with vpdpbusd or without.
#ifdef __AVXVNNI__
#include "../avxvnni/dot.hpp"
#else
#include "dot.hpp"
#endif
