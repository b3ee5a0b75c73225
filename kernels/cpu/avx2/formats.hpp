// What the two translation units of the `avx2` table share.
#pragma once

#include "../simd/format_table.hpp"

namespace nemo::avx2 {

extern const FormatTable kFormatTable;

}  // namespace nemo::avx2
