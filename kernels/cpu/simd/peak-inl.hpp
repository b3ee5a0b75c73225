// What this instruction set's multiply units can do at most: loops without memory traffic, the
// yardsticks of `nemo bench roofline`. Included after the instruction set's vector.hpp.
#pragma once

namespace nemo {
namespace {

/// a = a * 0.5 + b in kChains independent registers: more than a pipeline's latency needs.
[[maybe_unused]] std::int64_t peak_f32(std::int64_t rounds, float* sink) noexcept {
  constexpr int kChains = 12;
  F acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = F(static_cast<float>(i));
  const F half(0.5f);
  const F step(sink[0]);
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (int i = 0; i < kChains; ++i) acc[i] = fma(acc[i], half, step);
  }
  for (int i = 1; i < kChains; ++i) acc[0] = acc[0] + acc[i];
  sink[0] = sum(acc[0]);
  return 2 * rounds * kChains * kLanes;
}

/// Products of codes up to kMaxCode with int8 activations, as the weight kernels make them: codes
/// and activations from L1.
template <int kMaxCode>
std::int64_t peak_dot(std::int64_t rounds, std::int32_t* sink) noexcept {
  constexpr int kQuads = 8;
  constexpr std::int64_t kVector = sizeof(I);
  constexpr std::int64_t kCodes = kPanelRows * kQuads * kVector;
  alignas(64) std::byte codes[kCodes];
  alignas(64) std::byte acts[kPanelTokens * 32];
  for (std::int64_t i = 0; i < kCodes; ++i) {
    codes[i] = static_cast<std::byte>((sink[0] + i) % (kMaxCode < 128 ? kMaxCode + 1 : 256));
  }
  for (std::int64_t i = 0; i < kPanelTokens * 32; ++i) {
    acts[i] = static_cast<std::byte>((sink[0] + i) % 100);
  }
  I acc[kPanelRows][kPanelTokens];
  for (auto& row : acc) {
    for (I& v : row) v = all_words(0);
  }
  for (std::int64_t r = 0; r < rounds; ++r) {
    Dot<dot_class(kMaxCode)>::template panel<kPanelRows, kPanelTokens, kQuads>(
        codes, kQuads * kVector, acts, 32, acc);
    asm volatile("" ::: "memory");  // the next round reads its operands again
  }
  I total = all_words(0);
  for (auto& row : acc) {
    for (const I v : row) total = add_words(total, v);
  }
  std::int32_t words[sizeof(I) / 4];
  store_bytes(total, words);
  sink[0] = words[0];
  return 2 * rounds * kPanelRows * kPanelTokens * kQuads * kVector;
}

}  // namespace
}  // namespace nemo
