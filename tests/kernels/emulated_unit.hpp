// Products of a matrix unit, of bf16 pairs and of Winograd's kind with emulated instructions, for
// machines without them.
#pragma once

#include <kernels/cpu/kv_tables.hpp>
#include <kernels/cpu/tables.hpp>

namespace nemo::test {

/// As the `amx` table's, but in plain C++ beside the vector operations of AVX2.
extern const FormatTable kEmulatedUnitProducts;
extern const FloatProducts kEmulatedFloatProducts;
extern const FloatProducts kEmulatedPrefillProducts;
/// As those of `avx512bf16`, in two parts and rounded.
extern const FloatProducts kEmulatedPartProducts;
extern const FloatProducts kEmulatedPairProducts;
/// As those of `zen4`.
extern const WinogradProducts kEmulatedWinogradProducts;
extern const KvKernels kWinogradKvKernels;  // products alone

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
