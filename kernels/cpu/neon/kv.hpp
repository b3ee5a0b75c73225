// What kv_codec.cpp gives to the table in kv.cpp; it has a file of its own for its compiler flags.
#pragma once

#include <nemo/kv_kernels.hpp>

namespace nemo::neon {

void rotate(const KvTransform& transform, bool inverse, float* rows, std::int64_t ld,
            std::int64_t count) noexcept;
void encode(const KvSide& side, const float* rows, std::int64_t ld, std::int64_t first,
            std::int64_t count, std::byte* codes, Half* scales) noexcept;
void decode(const KvSide& side, const std::byte* codes, const Half* scales, float* rows,
            std::int64_t ld) noexcept;

}  // namespace nemo::neon
