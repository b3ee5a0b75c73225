// A few bytes at a time with BMI2 and AVX2: the same for all tables of x86; included by their
// vector.hpp.
#pragma once

namespace nemo {
namespace {

/// Bytes 0, 2, 4 and 6.
NEMO_SIMD std::uint32_t even_bytes(std::uint64_t v) {
  return static_cast<std::uint32_t>(_pext_u64(v, 0x00ff00ff00ff00ff));
}
/// Replaces 32 codes below 16 by the entries of a table.
NEMO_SIMD void look_up_32(const std::int8_t* table, std::uint8_t* codes) {
  auto* p = reinterpret_cast<__m256i*>(codes);
  const __m256i entries =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  _mm256_storeu_si256(p, _mm256_shuffle_epi8(entries, _mm256_loadu_si256(p)));
}
/// Eight codes of kBits bits, a byte each.
template <int kBits>
NEMO_SIMD std::uint64_t spread_codes(std::uint64_t packed) {
  return _pdep_u64(packed, 0x0101010101010101u * ((1u << kBits) - 1));
}

}  // namespace
}  // namespace nemo
