// The products of a matrix unit that is emulated, for machines without one.
#pragma once

#include <kernels/cpu/tables.hpp>

namespace nemo::test {

/// As the `amx` table's, but in plain C++ beside the vector operations of AVX2.
extern const FormatTable kEmulatedUnitProducts;
extern const FloatProducts kEmulatedFloatProducts;

/// What was asked of the emulated unit since the last call; `misuse` counts products that it was
/// not configured for and rows or slots that it does not have.
struct UnitUse {
  int products = 0;
  int misuse = 0;
  bool configured = false;  // now
};
UnitUse take_unit_use();
UnitUse take_bf16_unit_use();

}  // namespace nemo::test
