// Sums of sizes; weights dominate, then the KV cache at long contexts.
//
//   KV bytes per token = sum over attention layers of 2 * kv_heads * head_dim * bytes per element
#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/checkpoint/quant_mix.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <unistd.h>
#include <utility>

namespace nemo {

std::int64_t planned_weight_bytes(const ModelConfig& config, std::string_view mix) {
  MixAssigner types(find_quant_mix(mix), config);
  std::int64_t bytes = 0;
  for (const LayoutTensor& tensor : gguf_layout(config)) {
    const std::int64_t rows = tensor.elements() / tensor.dims[0];
    bytes += rows * row_bytes(types.next(tensor), tensor.dims[0]);
  }
  return bytes;
}

std::int64_t scratch_bytes(const ModelConfig& config, std::int64_t tokens, int threads) {
  // Floats that live at once per token: residual stream, its normed copy and that copy's 8-bit
  // form, then the widest mixer's own.
  const MambaConfig& m = config.mamba;
  std::int64_t widest = 0;
  for (const LayerConfig& l : config.layers) {
    std::int64_t floats = 0;
    switch (l.kind) {
      case LayerKind::mamba:
        floats = m.in_rows() + m.conv_channels() + 2 * m.inner();
        break;
      case LayerKind::attention:
        floats = (3 * l.q_heads + 2 * l.kv_heads) * l.head_dim;
        break;
      case LayerKind::mlp:
        floats = 2 * l.ff;
        break;
      case LayerKind::moe:
        floats = l.experts + 2 * l.shared_ff +
                 l.experts_used * (2 * l.expert_ff + 2 * l.expert_width(config.hidden));
        break;
    }
    widest = std::max(widest, floats);
  }
  const std::int64_t per_token = 4 * (3 * config.hidden + widest);
  constexpr std::int64_t kPerThread = std::int64_t{4} << 20;  // matmul scratch and score tiles
  return tokens * per_token + config.vocab * 4 + threads * kPerThread;
}

std::int64_t physical_memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGESIZE);
  std::int64_t bytes = pages > 0 && page > 0 ? std::int64_t{pages} * page : 0;
  std::ifstream limit("/sys/fs/cgroup/memory.max");  // "max" where there is none
  std::int64_t allowed = 0;
  if (limit >> allowed && allowed > 0) bytes = bytes > 0 ? std::min(bytes, allowed) : allowed;
  return bytes;
}

MemoryPlan plan_memory(const ModelConfig& config, std::int64_t weight_bytes, std::int64_t context,
                       int threads) {
  constexpr std::int64_t kPrefillChunk = 512;
  MemoryPlan plan;
  plan.context = context;
  plan.weights = weight_bytes;
  plan.state = config.mamba_state_bytes();
  plan.scratch = scratch_bytes(config, std::min(kPrefillChunk, context), threads);
  plan.physical = physical_memory_bytes();
  for (const auto& [policy, bytes] : {std::pair{"fp16", 2}, std::pair{"fp32", 4}}) {
    const std::int64_t per_token = config.kv_elements_per_token() * bytes;
    plan.add_kv(policy, static_cast<double>(per_token), per_token * context);
  }
  return plan;
}

void MemoryPlan::add_kv(std::string policy, double bytes_per_token, std::int64_t bytes) {
  kv.push_back({std::move(policy), bytes_per_token, bytes, weights + state + scratch + bytes});
}

std::int64_t MemoryPlan::longest_context(const Kv& policy) const noexcept {
  const std::int64_t left = usable() - (policy.total - policy.bytes);
  if (left <= 0) return 0;
  if (policy.bytes_per_token <= 0) return std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(static_cast<double>(left) / policy.bytes_per_token);
}

std::string MemoryPlan::verdict() const {
  if (kv.empty()) return "";
  const auto needs = [this](const Kv& policy) {
    return "needs " + human_bytes(policy.total) + " with --kv " + policy.policy + " at " +
           std::to_string(context) + " tokens; ";
  };
  if (physical <= 0) return needs(kv[0]) + "this machine's memory is unknown";
  const std::string has = "this machine has " + human_bytes(physical);
  if (fits(kv[0])) return needs(kv[0]) + has + ": it fits";
  const Kv& smallest = *std::min_element(
      kv.begin(), kv.end(), [](const Kv& a, const Kv& b) { return a.total < b.total; });
  if (fits(smallest)) return needs(smallest) + has + ": it fits so, but not with " + kv[0].policy;
  if (smallest.total - weights < physical / 2) {
    return needs(smallest) + has +
           ": it runs from disk, slowly, because weights do not stay in memory";
  }
  return needs(smallest) + has + ": it does not fit; use a shorter --ctx or a smaller quantization";
}

std::string human_bytes(std::int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  char text[32];
  const int decimals = unit == 0 || value >= 99.95 ? 0 : (value >= 9.995 ? 1 : 2);
  std::snprintf(text, sizeof text, "%.*f %s", decimals, value, kUnits[unit]);
  return text;
}

}  // namespace nemo
