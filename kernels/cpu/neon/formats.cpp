// The weight formats of the `neon` kernel table.
#include "formats.hpp"

// The shared code is written in terms of vector.hpp.
// clang-format off
#include "vector.hpp"
#include "../simd/format_table-inl.hpp"
// clang-format on

namespace nemo::neon {

constinit const FormatTable kFormatTable =
    make_formats(WeightBlocks{}, ScalarBlocks{}, PlanarCodes{});

}  // namespace nemo::neon
