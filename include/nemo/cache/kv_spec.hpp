// KV policies as people write them: --kv strings and kv_config.json.
//
//   fp16 | fp32 | turbo:K,V[,sink=N] | rotor:BITS[,GROUP][,v=BITS][,sink=N][,preset=NAME]
//   | affine:BITS[,GROUP] | FILE.json
// FILE.json is OptiQ's array of {"layer_idx", "bits", "group_size"}, one object per attention
// layer; layers it does not list stay fp16. Ours may also have "scheme" (affine, turbo, rotor,
// fp16), "k_bits", "v_bits", "group_size_v", "sink" and "preset" (of rotor).
#pragma once

#include <nemo/cache/kv_format.hpp>
#include <nemo/checkpoint/config.hpp>
#include <nemo/checkpoint/kv_means.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// One policy string other than fp32 and FILE.json. Throws Error{usage} saying what there is.
[[nodiscard]] KvFormat parse_kv_format(std::string_view text);

/// The content of a kv_config.json as one format per attention layer of the model. `origin` is for
/// messages. layer_idx counts all layers when every one of them is an attention layer, else the
/// cached ones (Mamba-2 and attention) when every one of those is. Throws Error{bad_file}.
[[nodiscard]] std::vector<KvFormat> parse_kv_config(std::string_view json,
                                                    const ModelConfig& config,
                                                    const std::string& origin);

/// What a --kv string means for a model.
struct KvPolicy {
  std::string name;                      // canonical: "turbo:8,4,sink=128", or the file's name
  bool fp32 = false;                     // everything in float, for verification
  std::vector<KvFormat> formats;         // one per attention layer
  std::shared_ptr<const KvMeans> means;  // subtracted before quantizing; null: nothing is
  std::string origin;                    // the pairing it was picked up from; empty: asked for

  /// Nothing is quantized: half precision in every layer (or float).
  [[nodiscard]] bool dense() const noexcept;
};

/// Throws Error{unsupported} for the first format that does not fit its layer's heads; the message
/// begins with `origin`.
void check_kv_formats(const std::vector<KvFormat>& formats, const ModelConfig& config,
                      const std::string& origin);

/// A --kv string, not empty. Throws Error: {usage}, {io}, {bad_file}, or {unsupported} when a
/// format does not fit a layer.
[[nodiscard]] KvPolicy resolve_kv(const std::string& text, const ModelConfig& config);

}  // namespace nemo
