// How many bytes a forward pass has to read: what its speed is compared with.
#pragma once

#include <nemo/model/weights.hpp>

#include <cstdint>

namespace nemo {

/// Bytes of weights that one decoded token reads: every matrix once, k experts of each MoE layer,
/// one embedding row.
[[nodiscard]] std::int64_t decode_weight_bytes(const ModelWeights& weights);

/// Bytes of weights that a prefill chunk of `tokens` reads at least: the same, with the expected
/// number of distinct experts for evenly spread routing, E (1 - (1 - k/E)^tokens).
[[nodiscard]] std::int64_t prefill_weight_bytes(const ModelWeights& weights, std::int64_t tokens);

/// Recurrent state read and written per token of a sequence.
[[nodiscard]] std::int64_t state_traffic_bytes(const ModelWeights& weights);

}  // namespace nemo
