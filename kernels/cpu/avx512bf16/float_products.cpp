// What the `avx512bf16` kernel table has of its own: float products of many tokens in bf16.
// clang-format off
#include "../avx512vnni/vector.hpp"
#include "../simd/bf16_gemm-inl.hpp"
// clang-format on

namespace nemo {
namespace {

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
  NEMO_SIMD static const Kernels& vectors() { return kAvx512VnniKernels; }
};

}  // namespace

constinit const FloatProducts kAvx512Bf16FloatProducts = pair_float_products<Avx512Pairs>();

}  // namespace nemo
