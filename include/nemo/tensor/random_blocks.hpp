// Random weights written directly as valid blocks of a format: what a synthetic checkpoint is made
// of.
#pragma once

#include <nemo/tensor/dtype.hpp>

#include <cstddef>
#include <cstdint>

namespace nemo {

/// Fills `bytes` bytes; the same on every platform, independent for every seed.
void random_bytes(std::uint64_t seed, std::byte* out, std::size_t bytes);

/// Fills one row of `cols` elements (a multiple of the block size) at `out`, row_bytes(type, cols)
/// bytes, with random codes whose decoded values are finite with mean 0 and standard deviation
/// `stddev`. The same arguments give the same bytes on every platform; other seeds independent
/// rows. Formats with coarse scales reach `stddev` on average over blocks. NVFP4's smallest step is
/// 2^-9: for less than about 0.01 use a larger stddev and the tensor's own scale. Throws
/// Error{unsupported} for types that are not weights.
void random_row(DType type, std::int64_t cols, float stddev, std::uint64_t seed, std::byte* out);

}  // namespace nemo
