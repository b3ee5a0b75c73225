// What the `avx512bf16` kernel table has of its own: float products of many tokens in bf16, and
// those of FP8 weights.
// clang-format off
#include "../avx512vnni/vector.hpp"
#include "../simd/bf16_gemm-inl.hpp"
#include "../simd/e4m3_pairs-inl.hpp"
// clang-format on

namespace nemo {
namespace {

/// The two bytes of the bf16 number that an E4M3 code without its sign is.
struct E4m3Bytes {
  alignas(64) std::uint8_t low[128], high[128];
  constexpr E4m3Bytes() : low(), high() {
    for (int code = 0; code < 128; ++code) {
      const float value = e4m3(static_cast<std::uint8_t>(code));
      const auto bits = __builtin_bit_cast(std::uint32_t, value) >> 16;
      low[code] = static_cast<std::uint8_t>(bits);
      high[code] = static_cast<std::uint8_t>(bits >> 8);
    }
  }
};

struct Avx512Pairs {
  NEMO_SIMD static __m512i rounded(F first, F second) {
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  }
  NEMO_SIMD static I round(F first, F second) {
    alignas(64) static constexpr std::int16_t kInTurns[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(kInTurns), rounded(first, second));
  }
  NEMO_SIMD static void store_row(F first, F second, float* to) {
    store_bytes(rounded(first, second), to);
  }
  NEMO_SIMD static F add(F acc, I a, I b) {
    return F(_mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
  }
  NEMO_SIMD static void e4m3_words(const std::byte* codes, I& first, I& second) {
    static constexpr E4m3Bytes kBytes;
    // Bytes are interleaved within 16: eight codes of the first half, then eight of the second.
    const I order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    const I v = _mm512_permutexvar_epi64(order, load_bytes(codes));
    const I low = _mm512_permutex2var_epi8(load_bytes(kBytes.low), v, load_bytes(kBytes.low + 64));
    const I magnitude =
        _mm512_permutex2var_epi8(load_bytes(kBytes.high), v, load_bytes(kBytes.high + 64));
    const I high = or_bits(magnitude, and_bits(v, all_bytes(0x80)));
    first = _mm512_unpacklo_epi8(low, high);
    second = _mm512_unpackhi_epi8(low, high);
  }
  NEMO_SIMD static const Kernels& vectors() { return kAvx512VnniKernels; }
};

}  // namespace

constinit const FloatProducts kAvx512Bf16FloatProducts = {.e4m3_matmul = e4m3_matmul<Avx512Pairs>};
constinit const FloatProducts kAvx512Bf16PrefillProducts = pair_float_products<Avx512Pairs>();

}  // namespace nemo
