// What the two translation units of the `avx512vnni` table share.
#pragma once

#include "../simd/format_table.hpp"

namespace nemo::avx512vnni {

extern const FormatTable kFormatTable;

}  // namespace nemo::avx512vnni
