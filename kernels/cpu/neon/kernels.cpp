// The `neon` kernel table.
#include "formats.hpp"

#include <kernels/cpu/kv_tables.hpp>
#include <kernels/cpu/tables.hpp>

// The shared code is written in terms of vector.hpp.
// clang-format off
#include "vector.hpp"
#include "../simd/float_table-inl.hpp"
// clang-format on

namespace nemo {

constinit const Kernels kNeonKernels =
    make_kernels("neon", neon::kFormatTable.formats, &kNeonKvKernels);

}  // namespace nemo
