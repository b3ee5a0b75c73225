// A model and the KV cache policy that belongs to it as one artifact: nemo pair writes it, loading
// picks it up. A GGUF holds the policy as a kv_config.json under the key nemo.kv.config, a
// directory as the file kv_config.json; means for centering lie beside it
// (checkpoint/kv_means.hpp).
#pragma once

#include <nemo/cache/kv_spec.hpp>
#include <nemo/checkpoint/checkpoint.hpp>

#include <filesystem>
#include <string>

namespace nemo {

/// The policy for a checkpoint: `kv` as resolve_kv() reads it; empty: what the checkpoint is paired
/// with, or fp16. `means`: a file of nemo calibrate-kv; empty: the paired ones, if any; "off":
/// none. Throws Error as resolve_kv() does, {bad_file} for a pairing that is not this model's.
[[nodiscard]] KvPolicy resolve_kv(const std::string& kv, const std::string& means,
                                  const Checkpoint& checkpoint);

/// The formats as a kv_config.json that OptiQ's readers understand too.
[[nodiscard]] std::string kv_config_json(const KvPolicy& policy, const ModelConfig& config);

/// Writes the model at `model` together with a policy to `out`: a GGUF to a GGUF, a directory to a
/// directory (which may be the same one: then only kv_config.json and kv_means.gguf are written).
/// Throws Error{usage} when `out` exists as something else or the policy cannot be stored, {io}.
void pair_model(const std::filesystem::path& model, const KvPolicy& policy,
                const std::filesystem::path& out);

}  // namespace nemo
