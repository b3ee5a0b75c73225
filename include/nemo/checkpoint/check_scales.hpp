// Are the scales of quantized matrices numbers? One NaN among them makes every answer nonsense.
#pragma once

#include <nemo/checkpoint/checkpoint.hpp>

namespace nemo {

/// Reads all scales and offsets that lie in tensors of their own, on several threads. Throws
/// Error{bad_file} naming a tensor whose scales or offsets are not all finite.
void check_scales(const Checkpoint& checkpoint, int threads);

}  // namespace nemo
