// The kernel tables of this architecture; each is defined in the folder of its instruction set.
#pragma once

#include <nemo/kernels.hpp>

#include <kernels/cpu/simd/format_table.hpp>

namespace nemo {

extern const Kernels kReferenceKernels;
// Defined only where CMake builds their folder (NEMO_HAVE_AVX2 and so on).
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512VnniKernels;
extern const Kernels kNeonKernels;

/// Int8 products: what `avxvnni`, `amx` and `neon_i8mm` have of their own. Everything else is the
/// table's that they are made from: `avx2`, `avx512vnni` or `neon`.
struct ProductKernels {
  FormatTable formats;  // an entry has its products and what they take, or nothing
  std::int64_t (*peak_dot)(std::int64_t rounds, std::int32_t* sink) noexcept;
};
extern const ProductKernels kAvxVnniProducts;
extern const ProductKernels kAmxProducts;
extern const ProductKernels kNeonI8mmProducts;

/// What `zen4` has beside the parts of `avx512bf16`: for prefill products that take
/// ActFormat::q8_winograd, and products with packed KV tiles.
struct WinogradProducts {
  FormatTable formats;  // as in ProductKernels
  decltype(Kernels::quantize_q8_winograd) quantize;
  const KvKernels* kv;
};
extern const WinogradProducts kZen4Products;

/// Float products of bf16 numbers: what `amx` has beside, where the CPU has them, of numbers in two
/// parts, and what `amx` and `avx512bf16` have for prefill, of rounded ones.
struct FloatProducts {
  decltype(Kernels::scores_half) scores_half;
  decltype(Kernels::mix_half) mix_half;
  Matmul bf16_matmul;
  decltype(Kernels::peak_bf16) peak;
  struct Gemms {
    decltype(Kernels::gemm_nt) nt = nullptr;
    decltype(Kernels::gemm_nn) nn = nullptr;
    decltype(Kernels::gemm_tn) tn = nullptr;
  };
  Gemms gemms = {};  // null: as the table they are added to
};
extern const FloatProducts kAmxFloatProducts;
extern const FloatProducts kAmxPrefillProducts;
extern const FloatProducts kAvx512Bf16FloatProducts;

}  // namespace nemo
