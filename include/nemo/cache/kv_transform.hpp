// The orthogonal transforms of quantized caches, built from a seed.
//
//   hadamard:  T = H_D diag(s) / sqrt(D)
//   rotor:     per group of channels, stages s = 0, 1, ...: quartets (i, i+h, i+2h, i+3h), h = 4^s,
//              turn by v <- q v with q = (+-1 +-i +-j +-k)/2; a last stage of pairs at stride
//              group/2 when log2(group) is odd. Every output depends on every input of the group.
// Signs come from SplitMix64 of a counter, so nothing but the seed is stored.
#pragma once

#include <nemo/cache/kv_format.hpp>
#include <nemo/kv_kernels.hpp>

#include <cstdint>
#include <vector>

namespace nemo {

/// Which head's transform: heads of keys and values, of all layers, get signs of their own.
struct KvHeadId {
  std::int64_t layer;  // index among the attention layers
  std::int64_t head;
  bool values;
};

/// Owns the numbers that a KvTransform points to. Movable, not copyable.
class KvHeadTransform {
 public:
  KvHeadTransform(KvRotation rotation, std::int64_t dim, std::int64_t group, std::uint64_t seed,
                  const KvHeadId& id);
  /// turbo's transform with given signs [dim], for comparison with other implementations.
  static KvHeadTransform hadamard_with_signs(const std::vector<float>& signs);

  KvHeadTransform(const KvHeadTransform&) = delete;
  KvHeadTransform& operator=(const KvHeadTransform&) = delete;
  KvHeadTransform(KvHeadTransform&&) noexcept = default;
  KvHeadTransform& operator=(KvHeadTransform&&) noexcept = default;

  [[nodiscard]] KvTransform view() const noexcept {
    return {stages_.data(), static_cast<std::int32_t>(stages_.size()), dim_, factor_};
  }

 private:
  struct Stage {
    std::vector<std::int16_t> index;
    std::vector<float> values;
  };
  explicit KvHeadTransform(std::int64_t dim) : dim_(static_cast<std::int32_t>(dim)) {}
  void add(KvStage::Kind kind, std::int64_t order, Stage stage);

  std::vector<Stage> numbers_;
  std::vector<KvStage> stages_;  // point into numbers_
  std::int32_t dim_;
  float factor_ = 1.0f;
};

}  // namespace nemo
