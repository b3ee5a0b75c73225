// The vector operations of AVX-512 + VNNI that the shared kernels (../simd) are written in.
//
// F is a vector of 16 floats, I one of 64 bytes / 16 int32. Everything lives in an unnamed
// namespace, so nothing compiled with these wide instructions can be merged into baseline code.
#pragma once

#include <nemo/base/half.hpp>

#include <xsimd/xsimd.hpp>

#include <cstddef>
#include <cstdint>
#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 warns about the deliberately undefined operands inside its own AVX-512 intrinsics.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define NEMO_SIMD [[gnu::always_inline, gnu::nothrow]] inline

namespace nemo {
namespace {

using F = xsimd::batch<float, xsimd::avx512bw>;
using I = __m512i;
constexpr int kLanes = 16;

// Register blocking of the float matrix products: kTileRows x kTileVectors accumulators, chosen so
// that they, the B vectors and one A value fit in 32 registers.
constexpr int kDotRows = 4;  // the same for dot products: kDotRows x 4 accumulators
constexpr int kTileRows = 4;
constexpr int kTileVectors = 4;
// Few tokens: up to so many share unpacked tiles and go without panels.
// Up to kRowTokens of them multiply whole rows and add up afterwards, more transpose the tile
// first.
constexpr int kRowTokens = 1;
constexpr int kDirectTokens = 4;
// Row vectors and tokens that share one pass over int8 panels: 2 x 6 int32 and as many float
// accumulators, 2 vectors of codes and temporaries fit in 32 registers. Tiles of two groups go
// faster with fewer.
constexpr int kPanelRows = 2;
constexpr int kPanelTokens = 6;
constexpr int kPanelPairTokens = 5;
// Query rows that share one pass over a packed KV tile: 16 int32 accumulators hide the latency.
constexpr int kKvRows = 16;

NEMO_SIMD __mmask16 first_lanes(std::int64_t n) {
  return static_cast<__mmask16>((1u << static_cast<unsigned>(n)) - 1u);
}

// --- floats ---------------------------------------------------------------------------------
NEMO_SIMD F load(const float* p) { return F(_mm512_loadu_ps(p)); }
NEMO_SIMD F load(const Half* p) {
  return F(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
NEMO_SIMD F load(const BFloat16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return F(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)));
}
/// The first n < 16 elements, zero behind; touches no byte behind them.
NEMO_SIMD F load_first(const float* p, std::int64_t n) {
  return F(_mm512_maskz_loadu_ps(first_lanes(n), p));
}
NEMO_SIMD F load_first(const Half* p, std::int64_t n) {
  return F(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p)));
}
NEMO_SIMD F load_first(const BFloat16* p, std::int64_t n) {
  const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes(n), p);
  return F(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)));
}
/// kLanes bytes of sign, 4 bits of exponent and 3 of mantissa as numbers: those of E4M3 / 256.
NEMO_SIMD F load_e4m3_256ths(const void* p) {
  const __m256i bytes = _mm256_cvtepu8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  const __m256i halves = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 1);  // the sign twice
  return F(_mm512_cvtph_ps(_mm256_and_si256(halves, _mm256_set1_epi16(-0x4001))));
}
NEMO_SIMD void store(F v, float* p) { _mm512_storeu_ps(p, v); }
NEMO_SIMD void store(F v, Half* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
NEMO_SIMD void store_first(F v, float* p, std::int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
NEMO_SIMD void store_first(F v, Half* p, std::int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n),
                           _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/// v in the first n lanes, `rest` behind.
NEMO_SIMD F keep_first(F v, std::int64_t n, F rest) {
  return F(_mm512_mask_mov_ps(rest, first_lanes(n), v));
}

/// a > b ? a : b in every lane: b where either is NaN.
NEMO_SIMD F greater(F a, F b) { return F(_mm512_max_ps(a, b)); }
NEMO_SIMD F lesser(F a, F b) { return F(_mm512_min_ps(a, b)); }
NEMO_SIMD F fma(F a, F b, F c) { return F(_mm512_fmadd_ps(a, b, c)); }
NEMO_SIMD F round_even(F v) {
  return F(_mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
NEMO_SIMD F absolute(F v) { return F(_mm512_abs_ps(v)); }
/// v * 2^n for integral n; gradual underflow and overflow to infinity.
NEMO_SIMD F scale_by_power(F v, F n) { return F(_mm512_scalef_ps(v, n)); }

NEMO_SIMD __m256 halves_sum(F v) {
  return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
NEMO_SIMD float sum(F v) {
  const __m256 h = halves_sum(v);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
NEMO_SIMD float largest(F v) { return _mm512_reduce_max_ps(v); }
/// The sums of four vectors.
NEMO_SIMD __m128 sums(F a, F b, F c, F d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m256 h = halves_sum(F(_mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi))));
  return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

/// The largest of each of four vectors without NaN.
NEMO_SIMD __m128 mosts(F a, F b, F c, F d) {
  const __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512 all = _mm512_max_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  return _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

/// 16 codes, each already rounded and within int8.
NEMO_SIMD void store_codes(F v, std::int8_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}
/// 16 numbers within int16, rounded; every quad in the order 0, 2, 1, 3.
NEMO_SIMD void store_quads(F v, std::int16_t* p) {
  const __m256i shorts = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v));
  const __m256i order = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_shuffle_epi8(shorts, order));
}
/// The sum of the rounded numbers.
NEMO_SIMD std::int32_t sum_rounded(F v) { return _mm512_reduce_add_epi32(_mm512_cvtps_epi32(v)); }

// --- bytes and int32 ------------------------------------------------------------------------
NEMO_SIMD I load_bytes(const void* p) { return _mm512_loadu_si512(p); }
NEMO_SIMD void store_bytes(I v, void* p) { _mm512_storeu_si512(p, v); }
/// p[j] = the sum of signed bytes 16j .. 16j + 15 of v
NEMO_SIMD void store_sums_of_16(I v, std::int32_t* p) {
  const I positive = _mm512_xor_si512(v, _mm512_set1_epi8(static_cast<char>(0x80)));
  const I of_8 = _mm512_sad_epu8(positive, _mm512_setzero_si512());
  const I of_16 = _mm512_add_epi64(of_8, _mm512_bsrli_epi128(of_8, 8));  // in even quads
  const I order = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m128i sums = _mm512_castsi512_si128(_mm512_permutexvar_epi32(order, of_16));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_sub_epi32(sums, _mm_set1_epi32(16 * 128)));
}
NEMO_SIMD I all_bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
NEMO_SIMD I all_words(std::int32_t value) { return _mm512_set1_epi32(value); }
/// v, computed here and in a register: a fence for the compiler's scheduler.
NEMO_SIMD I in_register(I v) {
  __asm__("" : "+v"(v));
  return v;
}
/// kLanes bytes, each in a word.
NEMO_SIMD I load_byte_words(const void* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
NEMO_SIMD I broadcast_word(const void* p) {
  std::int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}
/// The same 16 bytes in every 128-bit lane.
NEMO_SIMD I broadcast_16_bytes(const void* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
NEMO_SIMD I and_bits(I a, I b) { return _mm512_and_si512(a, b); }
NEMO_SIMD I or_bits(I a, I b) { return _mm512_or_si512(a, b); }
NEMO_SIMD I xor_bits(I a, I b) { return _mm512_xor_si512(a, b); }
/// Bits move across byte borders: mask afterwards.
template <int kCount>
NEMO_SIMD I shift_right(I v) {
  return _mm512_srli_epi16(v, kCount);
}
template <int kCount>
NEMO_SIMD I shift_left(I v) {
  return _mm512_slli_epi16(v, kCount);
}
NEMO_SIMD I shift_right(I v, int count) { return _mm512_srl_epi16(v, _mm_cvtsi32_si128(count)); }
/// Every 16 bits as a signed number.
template <int kCount>
NEMO_SIMD I shift_signed_right(I v) {
  return _mm512_srai_epi16(v, kCount);
}
template <int kCount>
NEMO_SIMD I shift_words_right(I v) {
  return _mm512_srli_epi32(v, kCount);
}
template <int kCount>
NEMO_SIMD I shift_words_left(I v) {
  return _mm512_slli_epi32(v, kCount);
}
/// Byte kByte of every word, sign-extended.
template <int kByte>
NEMO_SIMD I signed_byte(I v) {
  return _mm512_srai_epi32(_mm512_slli_epi32(v, 24 - 8 * kByte), 24);
}
/// The low halves of the products of 16-bit numbers.
NEMO_SIMD I multiply_shorts(I a, I b) { return _mm512_mullo_epi16(a, b); }
NEMO_SIMD I add_words(I a, I b) { return _mm512_add_epi32(a, b); }
NEMO_SIMD I subtract_words(I a, I b) { return _mm512_sub_epi32(a, b); }
NEMO_SIMD I add_shorts(I a, I b) { return _mm512_add_epi16(a, b); }
NEMO_SIMD I add_bytes(I a, I b) { return _mm512_add_epi8(a, b); }
NEMO_SIMD I greater_words(I a, I b, I yes, I no) {
  return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(a, b), no, yes);
}
/// value in the bytes whose mask bits are not all zero, else 0.
NEMO_SIMD I where_bits(I v, I mask, I value) {
  return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(v, mask), value);
}
/// All ones in byte i where bit i of the 64 bits at p is set, else 0.
NEMO_SIMD I spread_bits(const void* p) {
  std::uint64_t bits;
  __builtin_memcpy(&bits, p, 8);
  return _mm512_movm_epi8(bits);
}
/// table[index & 15] where every 128-bit lane of `table` holds the same 16 bytes; 0 for index >
/// 127.
NEMO_SIMD I look_up(I table, I index) { return _mm512_shuffle_epi8(table, index); }
/// table[index], 0 for index > 15; index < 128.
NEMO_SIMD I look_up_or_zero(I table, I index) {
  return look_up(table, add_bytes(index, all_bytes(0x70)));
}
/// Shifts each 128-bit lane right by kBytes bytes.
template <int kBytes>
NEMO_SIMD I drop_bytes(I v) {
  return _mm512_bsrli_epi128(v, kBytes);
}
NEMO_SIMD I interleave_low_halves(I a, I b) { return _mm512_unpacklo_epi64(a, b); }
NEMO_SIMD I interleave_high_halves(I a, I b) { return _mm512_unpackhi_epi64(a, b); }
/// kLanes bytes, again and again.
NEMO_SIMD I broadcast_lanes(const void* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
/// Every word by a count of its own.
NEMO_SIMD I shift_each_right(I words, I counts) { return _mm512_srlv_epi32(words, counts); }
NEMO_SIMD F to_floats(I words) { return F(_mm512_cvtepi32_ps(words)); }
/// 16 floats to be looked up.
struct FloatTable {
  __m512 entries;
};
NEMO_SIMD FloatTable load_table(const float* p) { return {_mm512_loadu_ps(p)}; }
/// table[index], index in [0, 16).
NEMO_SIMD F look_up(const FloatTable& table, I index) {
  return F(_mm512_permutexvar_ps(index, table.entries));
}
NEMO_SIMD F as_floats(I bits) { return F(_mm512_castsi512_ps(bits)); }
NEMO_SIMD I as_words(F v) { return _mm512_castps_si512(v); }
/// The half-precision numbers in the low / high 16 bits of every word.
NEMO_SIMD F low_halves(I words) { return F(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))); }
NEMO_SIMD F high_halves(I words) { return low_halves(_mm512_srli_epi32(words, 16)); }

/// 16 rows of 16 bytes: 128-bit lane i of out[g] = row 4i + g, which makes transpose() come out in
/// row order.
NEMO_SIMD void load_rows(const std::byte* p, std::int64_t stride, I (&out)[4]) {
  const auto at = [](const std::byte* q) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
  };
  const std::int64_t stride4 = 4 * stride;
  for (int g = 0; g < 4; ++g) {
    // 256-bit inserts from memory: 512-bit ones and masked broadcasts have half their throughput.
    const std::byte* row = p + g * stride;
    const __m256i low =
        _mm256_inserti128_si256(_mm256_castsi128_si256(at(row)), at(row + stride4), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(at(row + 2 * stride4)),
                                                 at(row + 3 * stride4), 1);
    out[g] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
}
/// out[j] word r = word j of row r, from the lanes of load_rows.
NEMO_SIMD void transpose(const I (&rows)[4], I* out) {
  const I lo01 = _mm512_unpacklo_epi32(rows[0], rows[1]);
  const I hi01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
  const I lo23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
  const I hi23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
  out[0] = _mm512_unpacklo_epi64(lo01, lo23);
  out[1] = _mm512_unpackhi_epi64(lo01, lo23);
  out[2] = _mm512_unpacklo_epi64(hi01, hi23);
  out[3] = _mm512_unpackhi_epi64(hi01, hi23);
}
/// Word r = the sum of the four words of row r, from the lanes of load_rows.
NEMO_SIMD I row_sums(I a, I b, I c, I d) {
  const I ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const I cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// --- int8 products --------------------------------------------------------------------------
// VNNI multiplies unsigned by signed bytes, so signed weights are stored plus 128 (their sign bit
// flipped) and 128 * sum(activations) is taken off afterwards, all exactly in int32.
constexpr int kSignedBias = 128;
NEMO_SIMD I signed_codes(I v) { return xor_bits(v, all_bytes(0x80)); }

/// Word r of acc += the product of words r of a and b as pairs of int16.
NEMO_SIMD I add_dot_shorts(I acc, I a, I b) { return _mm512_dpwssd_epi32(acc, a, b); }

/// Instruction sets without VNNI need different code for different ranges of the codes.
constexpr int dot_class(int) { return 0; }

template <int kClass>
struct Dot {
  /// Panels keep codes as they are.
  NEMO_SIMD static void arrange(I (&)[8]) {}
  /// Adds to acc[i][t] word r: sum over quads of (word r of codes) . (activation quad of token t),
  /// for kRows row vectors whose codes lie `step` bytes apart.
  template <int kRows, int kTokens, int kQuads>
  NEMO_SIMD static void panel(const std::byte* codes, std::int64_t step, const std::byte* acts,
                              std::int64_t stride, I (&acc)[kRows][kTokens]) {
    for (int q = 0; q < kQuads; ++q) {
      for (int i = 0; i < kRows; ++i) {
        const I w = load_bytes(codes + i * step + 64 * q);
        for (int t = 0; t < kTokens; ++t) {
          acc[i][t] = _mm512_dpbusd_epi32(acc[i][t], w, broadcast_word(acts + t * stride + 4 * q));
        }
      }
    }
  }
  /// The same for one row vector with the codes in registers.
  template <int kTokens, int kQuads>
  NEMO_SIMD static void quads(const I* codes, const std::byte* acts, std::int64_t stride,
                              I (&acc)[kTokens]) {
    for (int q = 0; q < kQuads; ++q) {
      for (int t = 0; t < kTokens; ++t) {
        acc[t] = _mm512_dpbusd_epi32(acc[t], codes[q], broadcast_word(acts + t * stride + 4 * q));
      }
    }
  }
  /// Word r of dots[t] = row r . activations of token t over 16 elements, from the lanes of
  /// load_rows.
  template <int kTokens>
  NEMO_SIMD static void rows16(const I (&v)[4], const std::byte* acts, std::int64_t stride,
                               I (&dots)[kTokens]) {
    const I zero = _mm512_setzero_si512();
    for (int t = 0; t < kTokens; ++t) {
      const I a = broadcast_16_bytes(acts + t * stride);
      dots[t] = row_sums(_mm512_dpbusd_epi32(zero, v[0], a), _mm512_dpbusd_epi32(zero, v[1], a),
                         _mm512_dpbusd_epi32(zero, v[2], a), _mm512_dpbusd_epi32(zero, v[3], a));
    }
  }
  /// The same over 32 elements.
  template <int kTokens>
  NEMO_SIMD static void rows32(const I (&low)[4], const I (&high)[4], const std::byte* acts,
                               std::int64_t stride, I (&dots)[kTokens]) {
    const I zero = _mm512_setzero_si512();
    for (int t = 0; t < kTokens; ++t) {
      const I a = broadcast_16_bytes(acts + t * stride);
      const I b = broadcast_16_bytes(acts + t * stride + 16);
      I s[4];
      for (int g = 0; g < 4; ++g) {
        s[g] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, low[g], a), high[g], b);
      }
      dots[t] = row_sums(s[0], s[1], s[2], s[3]);
    }
  }
};

}  // namespace
}  // namespace nemo

#include "../simd/half_columns-inl.hpp"
#include "../simd/x86_bytes-inl.hpp"
