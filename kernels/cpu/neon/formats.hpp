// What the two translation units of the `neon` table share.
#pragma once

#include "../simd/format_table.hpp"

namespace nemo::neon {

extern const FormatTable kFormatTable;

}  // namespace nemo::neon
