// What the `neon_i8mm` kernel table has of its own: the products of many tokens with SMMLA, which
// multiplies 2 x 8 by 8 x 2 bytes.
#include <kernels/cpu/tables.hpp>

// The shared code is written in terms of vector.hpp.
// clang-format off
#include "../neon/vector.hpp"
#include "../simd/peak-inl.hpp"
#include "../simd/planar_q8-inl.hpp"
// clang-format on

namespace nemo {

constinit const ProductKernels kNeonI8mmProducts = {integer_products(WeightBlocks{}, PlanarCodes{}),
                                                    peak_dot<128>};

}  // namespace nemo
