// The immutable weights of one model, shared by any number of sessions.
#pragma once

#include <nemo/base/aligned.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/model/attention.hpp>
#include <nemo/model/mamba2.hpp>
#include <nemo/model/mlp.hpp>
#include <nemo/model/moe.hpp>

#include <memory>
#include <optional>
#include <variant>
#include <vector>

namespace nemo {

/// One norm and one mixer.
struct LayerWeights {
  std::vector<float> norm;  // [d]
  std::variant<Mamba2Weights, AttentionWeights, MlpWeights, MoeWeights> mixer;
};

/// The draft head: see mtp.hpp.
struct MtpWeights {
  std::vector<float> token_norm, hidden_norm;  // [d] each
  Matrix fuse;                                 // [d, 2d]
  std::vector<float> attention_norm;           // [d]
  AttentionWeights attention;
  std::vector<float> experts_norm;  // [d]
  MoeWeights experts;
  std::vector<float> final_norm;  // [d]
};

struct ModelWeights {
  ModelConfig config;
  Matrix embeddings;              // [vocab, d]
  Matrix head;                    // [vocab, d]; the embeddings when tied
  std::vector<float> final_norm;  // [d]
  std::vector<LayerWeights> layers;
  std::optional<MtpWeights> mtp;

  std::shared_ptr<const Checkpoint> checkpoint;  // keeps the mapped bytes alive
  std::vector<AlignedBuffer<float>> converted;   // routers stored in less than float
  Repacked repacked;                             // matrices copied into kernel order
};

/// Views a checkpoint's tensors as the modules' weights; matrices stay where and as they are,
/// unless `repacked` has copies of them. Throws Error{bad_file} for missing or mis-shaped tensors.
[[nodiscard]] std::shared_ptr<const ModelWeights> load_weights(
    std::shared_ptr<const Checkpoint> checkpoint, Repacked repacked = {});

}  // namespace nemo
