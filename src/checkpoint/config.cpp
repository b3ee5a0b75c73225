// Counts derived from a model's sizes, and the checks that make those sizes safe to compute with.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/config.hpp>
#include <nemo/io/printable.hpp>

#include <cmath>

namespace nemo {
namespace {

constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;  // rows or columns of a layer's matrix
constexpr std::int64_t kMaxVocab = std::int64_t{1} << 24;
constexpr std::int64_t kMaxHeads = 1 << 16;
constexpr std::size_t kMaxLayers = 4096;

[[noreturn]] void bad(const std::string& message) {
  throw Error(ErrorCode::bad_file, "model configuration: " + message);
}

void in_range(std::string_view what, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return;
  bad(std::string(what) + " is " + std::to_string(value) + ", expected " + std::to_string(least) +
      " to " + std::to_string(most));
}

void divides(std::string_view small_name, std::int64_t small, std::string_view large_name,
             std::int64_t large) {
  if (large % small == 0) return;
  bad(std::string(small_name) + " (" + std::to_string(small) + ") does not divide " +
      std::string(large_name) + " (" + std::to_string(large) + ")");
}

void finite(std::string_view what, float value, bool zero_allowed) {
  if (std::isfinite(value) && (value > 0 || (zero_allowed && value == 0))) return;
  bad(std::string(what) + " is " + std::to_string(value) + ", expected a positive number");
}

void check_mamba(const MambaConfig& m) {
  in_range("the number of Mamba heads", m.heads, 1, kMaxHeads);
  in_range("the Mamba head size", m.head_dim, 1, kMaxWidth);
  in_range("the Mamba inner size", m.inner(), 1, kMaxWidth);
  in_range("the number of Mamba groups", m.groups, 1, m.heads);
  in_range("the Mamba state size", m.state, 1, kMaxHeads);
  in_range("the Mamba convolution width", m.conv_channels(), 1, 4 * kMaxWidth);
  in_range("the convolution kernel", m.conv_kernel, 1, 64);
  divides("the number of Mamba groups", m.groups, "the number of Mamba heads", m.heads);
  if (!(m.dt_min >= 0) || !(m.dt_max > m.dt_min)) bad("the limits of dt are not a range");
}

void check_layer(const LayerConfig& l, const RouterConfig& router) {
  switch (l.kind) {
    case LayerKind::mamba:
      break;
    case LayerKind::attention:
      in_range("the number of attention heads", l.q_heads, 1, kMaxHeads);
      in_range("the number of key/value heads", l.kv_heads, 1, l.q_heads);
      in_range("the attention head size", l.head_dim, 1, 1 << 14);
      in_range("the attention width", l.q_heads * l.head_dim, 1, kMaxWidth);
      divides("the number of key/value heads", l.kv_heads, "the number of attention heads",
              l.q_heads);
      break;
    case LayerKind::mlp:
      in_range("the feed-forward size", l.ff, 1, kMaxWidth);
      break;
    case LayerKind::moe:
      in_range("the number of experts", l.experts, 1, kMaxHeads);
      in_range("the number of experts used", l.experts_used, 1, l.experts);
      in_range("the expert feed-forward size", l.expert_ff, 1, kMaxWidth);
      in_range("the shared expert's size", l.shared_ff, 0, kMaxWidth);
      in_range("the latent size", l.latent, 0, kMaxWidth);
      divides("the number of expert groups", router.groups, "the number of experts", l.experts);
      if (l.experts / router.groups * router.groups_used < l.experts_used) {
        bad("the expert groups used hold fewer experts than are used per token");
      }
      break;
  }
}

std::int64_t layer_parameters(const ModelConfig& c, const LayerConfig& l, std::int64_t experts) {
  const std::int64_t d = c.hidden;
  const MambaConfig& m = c.mamba;
  std::int64_t n = d;  // the layer's norm
  switch (l.kind) {
    case LayerKind::mamba:
      n += m.in_rows() * d + m.conv_channels() * (m.conv_kernel + (m.conv_bias ? 1 : 0)) +
           3 * m.heads + m.inner() + d * m.inner();
      break;
    case LayerKind::attention:
      n += 2 * (l.q_heads + l.kv_heads) * l.head_dim * d;
      break;
    case LayerKind::mlp:
      n += 2 * l.ff * d;
      break;
    case LayerKind::moe:
      n += l.experts * (d + 1) + experts * 2 * l.expert_ff * l.expert_width(d) +
           2 * l.shared_ff * d + 2 * l.latent * d;
      break;
  }
  return n;
}

}  // namespace

char symbol_of(LayerKind kind) noexcept {
  switch (kind) {
    case LayerKind::mamba:
      return 'M';
    case LayerKind::attention:
      return '*';
    case LayerKind::mlp:
      return '-';
    case LayerKind::moe:
      return 'E';
  }
  return '?';
}

std::vector<LayerKind> parse_pattern(std::string_view pattern) {
  std::vector<LayerKind> kinds;
  for (const char c : pattern) {
    switch (c) {
      case 'M':
        kinds.push_back(LayerKind::mamba);
        break;
      case '*':
        kinds.push_back(LayerKind::attention);
        break;
      case '-':
        kinds.push_back(LayerKind::mlp);
        break;
      case 'E':
        kinds.push_back(LayerKind::moe);
        break;
      case '/':
      case '|':
        break;  // pipeline split marks of training
      default:
        bad("the layer pattern holds " + in_quotes({&c, 1}) + "; known are M, E, * and -");
    }
  }
  return kinds;
}

std::string ModelConfig::pattern() const {
  std::string text;
  for (const LayerConfig& layer : layers) text += symbol_of(layer.kind);
  return text;
}

std::int64_t ModelConfig::count(LayerKind kind) const noexcept {
  std::int64_t n = 0;
  for (const LayerConfig& layer : layers) n += layer.kind == kind ? 1 : 0;
  return n;
}

float ModelConfig::scale_of(const LayerConfig& layer) const noexcept {
  if (attention_scale != 0.0f) return attention_scale;
  return 1.0f / std::sqrt(static_cast<float>(layer.head_dim));
}

std::int64_t ModelConfig::parameters() const noexcept {
  std::int64_t n = vocab * hidden * (tied_head ? 1 : 2) + hidden;
  for (const LayerConfig& layer : layers) n += layer_parameters(*this, layer, layer.experts);
  return n;
}

std::int64_t ModelConfig::active_parameters() const noexcept {
  std::int64_t n = vocab * hidden * (tied_head ? 1 : 2) + hidden;
  for (const LayerConfig& layer : layers) n += layer_parameters(*this, layer, layer.experts_used);
  return n;
}

std::int64_t ModelConfig::mtp_parameters() const noexcept {
  if (mtp.empty()) return 0;
  // enorm, hnorm, final norm and eh_proj around the layers
  std::int64_t n = 3 * hidden + 2 * hidden * hidden;
  for (const LayerConfig& layer : mtp) n += layer_parameters(*this, layer, layer.experts);
  return n;
}

std::int64_t ModelConfig::mamba_state_bytes() const noexcept {
  const std::int64_t floats = mamba.inner() * mamba.state +  //
                              mamba.conv_channels() * (mamba.conv_kernel - 1);
  return count(LayerKind::mamba) * floats * static_cast<std::int64_t>(sizeof(float));
}

std::int64_t ModelConfig::kv_elements_per_token() const noexcept {
  std::int64_t n = 0;
  for (const LayerConfig& l : layers) n += 2 * l.kv_heads * l.head_dim;
  return n;
}

void ModelConfig::validate() const {
  in_range("the vocabulary size", vocab, 1, kMaxVocab);
  in_range("the hidden size", hidden, 1, kMaxWidth);
  finite("the norm epsilon", norm_eps, false);
  if (!std::isfinite(attention_scale) || attention_scale < 0) bad("the attention scale is absurd");
  if (layers.empty()) bad("the model has no layers");
  if (layers.size() > kMaxLayers || mtp.size() > kMaxLayers) {
    bad("the model has " + std::to_string(layers.size()) + " layers, more than the " +
        std::to_string(kMaxLayers) + " this program allows");
  }
  if (has(LayerKind::mamba)) check_mamba(mamba);
  if (has(LayerKind::moe)) {
    finite("the scale of routed experts", router.scale, false);
    in_range("the number of expert groups", router.groups, 1, kMaxHeads);
    in_range("the number of expert groups used", router.groups_used, 1, router.groups);
  }
  long double total = 0;  // so that a sum over many absurd layers cannot overflow unseen
  for (std::size_t i = 0; i < layers.size() + mtp.size(); ++i) {
    const bool draft = i >= layers.size();
    const LayerConfig& layer = draft ? mtp[i - layers.size()] : layers[i];
    try {
      check_layer(layer, router);
    } catch (const Error& error) {
      throw Error(error.code(), std::string(error.what()) +
                                    (draft ? " (draft layer " : " (layer ") +
                                    std::to_string(draft ? i - layers.size() : i) + ")");
    }
    total += static_cast<long double>(layer.experts) * static_cast<long double>(layer.expert_ff) *
             static_cast<long double>(layer.expert_width(hidden));
  }
  if (total > 1e15L) bad("the experts together are larger than any machine's memory");
}

}  // namespace nemo
