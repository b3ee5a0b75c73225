// The kernel tables of this architecture; each is defined in the folder of its instruction set.
#pragma once

#include <nemo/kernels.hpp>

namespace nemo {

extern const Kernels kReferenceKernels;
// Defined only where CMake builds their folder (NEMO_HAVE_AVX2, NEMO_HAVE_AVX512VNNI).
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512VnniKernels;

}  // namespace nemo
