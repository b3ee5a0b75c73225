// KV rotation and codecs for this instruction set: the shared code, compiled without contraction.
#include "../simd/kv_codec-inl.hpp"
#include "kv.hpp"

namespace nemo::neon {

void rotate(const KvTransform& transform, bool inverse, float* rows, std::int64_t ld,
            std::int64_t count) noexcept {
  kv_rotate(transform, inverse, rows, ld, count);
}
void encode(const KvSide& side, const float* rows, std::int64_t ld, std::int64_t first,
            std::int64_t count, std::byte* codes, Half* scales) noexcept {
  kv_encode(side, rows, ld, first, count, codes, scales);
}
void decode(const KvSide& side, const std::byte* codes, const Half* scales, float* rows,
            std::int64_t ld) noexcept {
  kv_decode(side, codes, scales, rows, ld);
}

}  // namespace nemo::neon
