// Rows of activations to int8 (Q8Row). Four passes over a row that stays in L1, so that the few
// operations across lanes serve several blocks at once: maxima, scales, codes, sums of codes.
// Included after the instruction set's vector.hpp.
#pragma once

#include "lanes-inl.hpp"

namespace nemo {
namespace {

constexpr int kBlockVectors = 32 / kLanes;

/// The largest magnitudes of a block's elements, lane by lane; a NaN counts as nothing.
NEMO_SIMD F block_maxima(const float* x) {
  F most(0.0f);
  for (int i = 0; i < kBlockVectors; ++i) {
    most = greater(absolute(load(x + i * kLanes)), most);
  }
  return most;
}

/// maxima[b] = the largest magnitude of block b
NEMO_SIMD void maxima_of_blocks(const float* x, std::int64_t blocks, float* maxima) {
  std::int64_t b = 0;
  for (; b + 4 <= blocks; b += 4) {
    const float* at = x + 32 * b;
    store_four(mosts(block_maxima(at), block_maxima(at + 32), block_maxima(at + 64),
                     block_maxima(at + 96)),
               maxima + b);
  }
  for (; b < blocks; ++b) maxima[b] = largest(block_maxima(x + 32 * b));
}

/// Q8Row::scale_for of every lane.
template <int kMost>
NEMO_SIMD F scales_for(F maxima) {
  constexpr std::int32_t kBelow = (1 << Q8Row::kLevelAt) - 1;
  const auto word = [](float v)
                        NEMO_SIMD_LAMBDA { return all_words(__builtin_bit_cast(std::int32_t, v)); };
  // Floats that are not negative compare as their bits do.
  const I above = add_words(as_words(maxima / F(static_cast<float>(kMost))), all_words(kBelow));
  const I scale = and_bits(above, all_words(~kBelow));
  const I normal = greater_words(word(0x1p-126f), scale, all_words(0), scale);
  return as_floats(
      greater_words(scale, word(Q8Row::kLargestScale), all_words(Q8Row::kPowerBits), normal));
}

/// Codes of one block, and what they leave of x if `error` is not null.
template <int kMost>
NEMO_SIMD void codes_of_block(const float* x, float scale, std::int8_t* codes, float* error) {
  const F inverse(scale > 0.0f ? 1.0f / scale : 0.0f);
  for (int i = 0; i < kBlockVectors; ++i) {
    const F v = load(x + i * kLanes);
    F code = lesser(v * inverse,
                    F(static_cast<float>(kMost)));  // NaN (of an infinite input) becomes kMost
    code = round_even(greater(code, F(static_cast<float>(-kMost))));
    store_codes(code, codes + i * kLanes);
    if (error != nullptr) store(v - F(scale) * code, error + i * kLanes);
  }
}

/// sums[j] = codes[16j] + ... + codes[16j + 15] for n / 16 of them.
NEMO_SIMD void sums_of_codes(const std::int8_t* codes, std::int64_t n, std::int32_t* sums) {
  constexpr std::int64_t kBytes = 4 * kLanes;
  std::int64_t i = 0;
  for (; i + kBytes <= n; i += kBytes) store_sums_of_16(load_bytes(codes + i), sums + i / 16);
  if (i == n) return;
  alignas(64) std::int8_t rest[kBytes] = {};
  std::int32_t rest_sums[kBytes / 16];
  __builtin_memcpy(rest, codes + i, static_cast<std::size_t>(n - i));
  store_sums_of_16(load_bytes(rest), rest_sums);
  __builtin_memcpy(sums + i / 16, rest_sums, static_cast<std::size_t>((n - i) / 4));
}

/// Kernels::quantize_q8 with codes up to kMost.
template <int kMost>
void quantize_q8(const float* x, std::int64_t n, void* out, float* error) noexcept {
  const Q8Row row = Q8Row::at(out, n);
  const std::int64_t blocks = n / 32;
  maxima_of_blocks(x, blocks, row.scales);
  for_lanes(blocks, [&](auto at) NEMO_SIMD_LAMBDA {
    at.store(scales_for<kMost>(at.load(row.scales)), row.scales);
  });
  for (std::int64_t b = 0; b < blocks; ++b) {
    codes_of_block<kMost>(x + 32 * b, row.scales[b], row.codes + 32 * b,
                          error != nullptr ? error + 32 * b : nullptr);
  }
  sums_of_codes(row.codes, n, row.sums);
}

}  // namespace
}  // namespace nemo
