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

/// Float products of bf16 numbers: of numbers in two parts, and for prefill of rounded ones. Null:
/// as in the table they are added to.
struct FloatProducts {
  decltype(Kernels::scores_half) scores_half = nullptr;
  decltype(Kernels::mix_half) mix_half = nullptr;
  decltype(Kernels::gemm_nt) gemm_nt = nullptr;
  decltype(Kernels::gemm_nn) gemm_nn = nullptr;
  decltype(Kernels::gemm_tn) gemm_tn = nullptr;
  decltype(Kernels::peak_bf16) peak = nullptr;
  Matmul bf16_matmul = nullptr;
  Matmul e4m3_matmul = nullptr;
};
extern const FloatProducts kAmxFloatProducts;
extern const FloatProducts kAmxPrefillProducts;
extern const FloatProducts kAvx512Bf16FloatProducts;
extern const FloatProducts kAvx512Bf16PrefillProducts;

}  // namespace nemo
