// Round-to-nearest encoders from float rows to block formats: for tests, small models and tools.
// They use no importance data; the codebook formats (IQ1, IQ2, IQ3) and others that need a search
// guided by such data are not offered.
#pragma once

#include <nemo/tensor/dtype.hpp>

#include <cstddef>
#include <cstdint>

namespace nemo {

/// True for F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K..Q6_K, IQ4_NL and MXFP4.
[[nodiscard]] bool can_encode(DType type) noexcept;

/// Encodes x[cols] (cols a multiple of the block size) into row_bytes(type, cols) bytes at `out`.
/// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and MXFP4 give the bytes of ggml's own reference encoder; the K
/// formats and IQ4_NL choose scales by least squares. Values that are not finite give codes without
/// meaning. Throws Error{unsupported} where can_encode is false.
void encode_row(DType type, const float* x, std::int64_t cols, std::byte* out);

}  // namespace nemo
