// Which tensors a GGUF of a given model holds: names, dims and what each one is for.
#pragma once

#include <nemo/checkpoint/config.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace nemo {

enum class TensorRole : std::uint8_t {
  embedding,
  head,
  norm,
  mixer_in,   // reads the residual stream (or a hidden layer) and is followed by more of the mixer
  mixer_out,  // writes to the residual stream
  router,
  router_bias,
  conv,
  conv_bias,
  dt_bias,
  a,
  d,
};

/// Parts of a model whose matrices are usually quantized alike.
enum class ModelPart : std::uint8_t {
  embeddings,
  head,
  attention,
  mamba,
  mlp,
  shared_experts,
  latent,
  experts,
  other,  // router, norms and small vectors
};
inline constexpr int kModelPartCount = static_cast<int>(ModelPart::other) + 1;

/// A tensor of the file; dims contiguous first.
struct LayoutTensor {
  std::string name;  // in a GGUF
  std::string canonical;
  std::vector<std::int64_t> dims;
  TensorRole role;
  ModelPart part = ModelPart::other;
  int layer = -1;  // -1: not part of a layer

  [[nodiscard]] std::int64_t elements() const noexcept {
    std::int64_t n = 1;
    for (const std::int64_t dim : dims) n *= dim;
    return n;
  }
  /// Weight matrices take the file's quantized type; the others stay F32.
  [[nodiscard]] bool is_matrix() const noexcept {
    return role == TensorRole::embedding || role == TensorRole::head ||
           role == TensorRole::mixer_in || role == TensorRole::mixer_out;
  }
};

/// All tensors of the trunk, in the order converters write them.
[[nodiscard]] std::vector<LayoutTensor> gguf_layout(const ModelConfig& config);

/// Those of the draft head, of no layer; in a GGUF both its mixers share the block behind the
/// trunk.
[[nodiscard]] std::vector<LayoutTensor> draft_head_layout(const ModelConfig& config);

/// Trunk and draft head.
[[nodiscard]] std::vector<LayoutTensor> whole_layout(const ModelConfig& config);

}  // namespace nemo
