// How much memory a model will take at a context length, before anything is loaded.
#pragma once

#include <nemo/checkpoint/config.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// Bytes of the trunk's tensors when stored with a quantization mix (see quant_mix.hpp).
[[nodiscard]] std::int64_t planned_weight_bytes(const ModelConfig& config, std::string_view mix);

/// Temporary memory of a forward pass over `tokens` tokens on `threads` threads (an upper
/// estimate).
[[nodiscard]] std::int64_t scratch_bytes(const ModelConfig& config, std::int64_t tokens,
                                         int threads);

/// Installed memory, or the limit of the container this process runs in; 0 when unknown.
[[nodiscard]] std::int64_t physical_memory_bytes();

struct MemoryPlan {
  struct Kv {
    std::string policy;
    double bytes_per_token;
    std::int64_t bytes;  // for the whole context
    std::int64_t total;  // with weights, state and scratch
  };
  std::int64_t context = 0;  // tokens
  std::int64_t weights = 0;
  std::int64_t state = 0;  // convolution and SSM state of one sequence
  std::int64_t scratch = 0;
  std::vector<Kv> kv;         // fp16 first: what runs by default
  std::int64_t physical = 0;  // 0: unknown

  /// Lists a KV cache policy; sizes of quantized ones are the cache's own business.
  void add_kv(std::string policy, double bytes_per_token, std::int64_t bytes);

  /// What a model may take of this machine: the system and other programs keep a share.
  [[nodiscard]] std::int64_t usable() const noexcept { return physical / 100 * 92; }
  [[nodiscard]] bool fits(const Kv& policy) const noexcept { return policy.total <= usable(); }
  /// Tokens of context that fit with a policy; 0 when the weights alone do not fit.
  [[nodiscard]] std::int64_t longest_context(const Kv& policy) const noexcept;

  /// One sentence: does it fit this machine by default, or with the smallest policy?
  [[nodiscard]] std::string verdict() const;
};

/// With the dense policies, fp16 and fp32.
[[nodiscard]] MemoryPlan plan_memory(const ModelConfig& config, std::int64_t weight_bytes,
                                     std::int64_t context, int threads);

/// "17.4 GB" (powers of ten), three significant digits.
[[nodiscard]] std::string human_bytes(std::int64_t bytes);

}  // namespace nemo
