// Mean keys and values of every attention layer over a text, for quantized caches that subtract
// them (checkpoint/kv_means.hpp).
#pragma once

#include <nemo/base/progress.hpp>
#include <nemo/checkpoint/kv_means.hpp>
#include <nemo/engine/model.hpp>

#include <cstdint>
#include <span>

namespace nemo {

struct KvCalibrationOptions {
  std::int64_t window = 2048;  // tokens that see each other; the text is cut into such windows
  ProgressCallback progress;   // tokens evaluated of all; false cancels
};

/// Evaluates `tokens` with keys and values in float. Throws Error{bad_input} for no tokens, ids
/// outside the vocabulary or a model without attention, {usage} for a bad window, {cancelled}.
[[nodiscard]] KvMeans calibrate_kv(const Model& model, std::span<const std::int32_t> tokens,
                                   const KvCalibrationOptions& options = {});

}  // namespace nemo
