// The `avx512vnni` kernel table.
#include "formats.hpp"

#include <kernels/cpu/kv_tables.hpp>
#include <kernels/cpu/tables.hpp>

// The shared code is written in terms of vector.hpp.
// clang-format off
#include "vector.hpp"
#include "../simd/float_table-inl.hpp"
// clang-format on

namespace nemo {

constinit const Kernels kAvx512VnniKernels =
    make_kernels("avx512vnni", avx512vnni::kFormatTable.formats, &kAvx512VnniKvKernels);

}  // namespace nemo
