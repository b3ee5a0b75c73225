// What the `avxvnni` kernel table has of its own: integer products with vpdpbusd.
#include <kernels/cpu/tables.hpp>

// The shared code is written in terms of vector.hpp.
// clang-format off
#include "../avx2/vector.hpp"
#include "../simd/peak-inl.hpp"
#include "../simd/planar_q8-inl.hpp"
// clang-format on

namespace nemo {

constinit const ProductKernels kAvxVnniProducts = {integer_products(WeightBlocks{}, PlanarCodes{}),
                                                   peak_dot<128>};

}  // namespace nemo
