// Mean keys and values of the attention layers, measured by nemo calibrate-kv. Quantized caches
// store what is left after subtracting them:
//
//   softmax_t(q . k_t) = softmax_t(q . (k_t - m))        sum p_t v_t = m + sum p_t (v_t - m)
//
// Both are exact because a Nemotron-H has no position encoding and the p_t sum to 1.
// In a GGUF they are F32 arrays [kv_heads * head_dim], nemo.kv.N.k.mean and nemo.kv.N.v.mean for
// layer N; a file of its own holds nothing else.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

namespace nemo {

class Gguf;
class GgufWriter;
struct ModelConfig;

struct KvLayerMeans {
  std::vector<float> keys, values;  // [kv_heads * head_dim]
};
/// One per attention layer, in model order.
using KvMeans = std::vector<KvLayerMeans>;

/// What a GGUF holds; nothing when it has no key nemo.kv.*.mean. Throws Error{bad_file} when layers
/// or sizes are not the model's or a number is not finite.
[[nodiscard]] std::optional<KvMeans> find_kv_means(const Gguf& gguf, const ModelConfig& config);
/// A file of nemo calibrate-kv. Throws Error{io} or {bad_file}.
[[nodiscard]] KvMeans read_kv_means(const std::filesystem::path& path, const ModelConfig& config);

void add_kv_means(GgufWriter& writer, const KvMeans& means, const ModelConfig& config);
/// Replaces `path`. Throws Error{io}.
void write_kv_means(const std::filesystem::path& path, const KvMeans& means,
                    const ModelConfig& config);

}  // namespace nemo
