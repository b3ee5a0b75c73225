// The KV cache kernels of this architecture; each table is defined in the folder of its instruction
// set.
#pragma once

#include <nemo/kv_kernels.hpp>

namespace nemo {

extern const KvKernels kReferenceKvKernels;
extern const KvKernels kAvx2KvKernels;
extern const KvKernels kAvx512VnniKvKernels;
extern const KvKernels kZen4KvKernels;
extern const KvKernels kNeonKvKernels;

}  // namespace nemo
