// Structurally exact checkpoints with random weights, to measure speed and memory at real sizes
// without the real weights.
#pragma once

#include <nemo/base/progress.hpp>
#include <nemo/checkpoint/config.hpp>
#include <nemo/checkpoint/directory_layout.hpp>

#include <cstdint>
#include <filesystem>
#include <string>

namespace nemo {

struct SynthOptions {
  std::string mix = "Q4_0";  // see quant_mix.hpp
  std::uint64_t seed = 1;
  int threads = 1;  // the bytes do not depend on it
  ProgressCallback
      progress;  // (bytes written, bytes in all); called from any thread, one at a time
};

/// Sizes for `arch`: a preset's name, the path of a config.json or of a folder that holds one; cut
/// to its first `layers` layers when that is not 0. Presets and cut models keep a draft head only
/// with `draft_head`. Throws Error{usage}.
[[nodiscard]] ModelConfig synth_config(const std::string& arch, std::int64_t layers,
                                       bool draft_head = false);

/// Writes a GGUF with every key and tensor of a converted model, a working byte-level BPE tokenizer
/// and random weights: variances keep activations near 1, decay rates and
/// steps of the Mamba layers lie in the trained range, routing spreads over the experts. Memory
/// stays at a few MiB a thread. Replaces `path`. Throws Error{io} (before writing when the disk is
/// too small), {usage} for an unknown mix, {cancelled}.
void write_synthetic_gguf(const std::filesystem::path& path, const ModelConfig& config,
                          const SynthOptions& options);

/// The same as a directory: config.json with its quantization block, sharded safetensors, tokenizer
/// files, generation_config.json, chat template. `options.mix` is not used. The folder appears when
/// it is complete; an existing model is replaced only with `replace`.
void write_synthetic_directory(const std::filesystem::path& path, const ModelConfig& config,
                               const DirectoryRecipe& recipe, const SynthOptions& options,
                               bool replace);

/// Bytes of all tensors of a directory.
[[nodiscard]] std::int64_t planned_directory_bytes(const ModelConfig& config,
                                                   const DirectoryRecipe& recipe);

}  // namespace nemo
