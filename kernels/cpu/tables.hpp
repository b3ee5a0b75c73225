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

/// What the `amx` table has of its own; everything else is the `avx512vnni` table's.
struct AmxKernels {
  FormatTable products;  // an entry has its matmul, or nothing
  std::int64_t (*peak_dot)(std::int64_t rounds, std::int32_t* sink) noexcept;
};
extern const AmxKernels kAmxKernels;  // where CMake says NEMO_HAVE_AMX

}  // namespace nemo
