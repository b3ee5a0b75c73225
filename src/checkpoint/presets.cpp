// Numbers of the published configurations (NVIDIA Nemotron 3 family), and one tiny model with all
// four kinds of layers.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/presets.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <array>

namespace nemo {
namespace {

struct Preset {
  std::string_view name;
  std::string_view pattern;
  std::int64_t vocab, hidden;
  std::int64_t q_heads, kv_heads, head_dim;
  std::int64_t mamba_heads, mamba_head_dim, state, groups;
  std::int64_t ff;
  std::int64_t experts, experts_used, expert_ff, shared_ff, latent;
  float routed_scale;
  bool draft_head = false;  // attention and experts of the trunk's sizes
};

constexpr std::string_view kNano30b = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME";

constexpr std::array kPresets = {
    Preset{"nano-4b", "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-",  //
           131072, 3136, 40, 8, 128, 96, 80, 128, 8, 12544, 0, 0, 0, 0, 0, 1.0f},
    Preset{"nano-30b-a3b", kNano30b,  //
           131072, 2688, 32, 2, 128, 64, 64, 128, 8, 0, 128, 6, 1856, 3712, 0, 2.5f},
    Preset{"lightning-30b", kNano30b,  //
           131072, 2688, 32, 2, 128, 64, 64, 128, 8, 0, 128, 6, 1856, 3712, 0, 2.5f, true},
    Preset{"super-120b-a12b",
           "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEM"
           "E",
           131072, 4096, 32, 2, 128, 128, 64, 128, 8, 0, 512, 22, 2688, 5376, 1024, 5.0f, true},
    Preset{"ultra-550b-a55b",
           "MEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEM"
           "EM*EMEMEMEM*EMEMEMEME",
           131072, 8192, 64, 2, 128, 256, 64, 128, 8, 0, 512, 22, 5120, 10240, 2048, 5.0f, true},
    Preset{"tiny", "ME-M*EM-", 1024, 256, 4, 2, 64, 8, 64, 64, 2, 512, 8, 2, 256, 256, 0, 2.5f},
};

constexpr auto kNames = [] {
  std::array<std::string_view, kPresets.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kPresets[i].name;
  return names;
}();

ModelConfig expand(const Preset& p, bool draft_head) {
  ModelConfig c;
  c.name = p.name;
  c.vocab = p.vocab;
  c.hidden = p.hidden;
  c.context_length = 1048576;
  c.mamba.heads = p.mamba_heads;
  c.mamba.head_dim = p.mamba_head_dim;
  c.mamba.groups = p.groups;
  c.mamba.state = p.state;
  c.mamba.conv_kernel = 4;
  c.router.scale = p.routed_scale;
  for (const LayerKind kind : parse_pattern(p.pattern)) {
    LayerConfig layer;
    layer.kind = kind;
    if (kind == LayerKind::attention) {
      layer.q_heads = p.q_heads;
      layer.kv_heads = p.kv_heads;
      layer.head_dim = p.head_dim;
    } else if (kind == LayerKind::mlp) {
      layer.ff = p.ff;
    } else if (kind == LayerKind::moe) {
      layer.experts = p.experts;
      layer.experts_used = p.experts_used;
      layer.expert_ff = p.expert_ff;
      layer.shared_ff = p.shared_ff;
      layer.latent = p.latent;
    }
    c.layers.push_back(layer);
  }
  for (const LayerKind kind : {LayerKind::attention, LayerKind::moe}) {
    if (!draft_head || !p.draft_head) break;
    c.mtp.push_back(*std::find_if(c.layers.begin(), c.layers.end(),
                                  [&](const LayerConfig& layer) { return layer.kind == kind; }));
  }
  c.architecture = c.has(LayerKind::moe) ? "nemotron_h_moe" : "nemotron_h";
  c.validate();
  return c;
}

}  // namespace

std::span<const std::string_view> preset_names() noexcept { return kNames; }

ModelConfig preset_config(std::string_view name, bool draft_head) {
  const Preset* found = nullptr;
  std::string known;
  for (const Preset& preset : kPresets) {
    known += (known.empty() ? "" : ", ") + std::string(preset.name);
    if (preset.name == name) return expand(preset, draft_head);
    if (name.empty() || !preset.name.starts_with(name)) continue;
    if (found != nullptr) {
      throw Error(ErrorCode::usage, "architecture " + in_quotes(name) +
                                        " is ambiguous: " + std::string(found->name) + " or " +
                                        std::string(preset.name));
    }
    found = &preset;
  }
  if (found != nullptr) return expand(*found, draft_head);
  throw Error(ErrorCode::usage, "unknown architecture " + in_quotes(name) + "; known are " + known +
                                    " and the path of a config.json");
}

}  // namespace nemo
