// The unquantized KV cache policies: keys and values as half or float, one row per position.
#pragma once

#include <nemo/base/aligned.hpp>
#include <nemo/cache/kv_cache.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <vector>

namespace nemo {

/// T is Half (Fp16Cache) or float (Fp32Cache, for verification). Memory for the whole capacity is
/// reserved at once and becomes resident as positions are written.
template <class T>
class DenseCache {
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, float>,
                "DenseCache: the element type is nemo::Half or float");

 public:
  static constexpr std::string_view kName = std::is_same_v<T, Half> ? "fp16" : "fp32";

  explicit DenseCache(const KvShape& shape) : capacity_(shape.capacity) {
    for (const KvShape::Layer& layer : shape.layers) {
      const auto elements = static_cast<std::size_t>(layer.kv_heads * capacity_ * layer.head_dim);
      layers_.push_back({layer, AlignedBuffer<T>(elements), AlignedBuffer<T>(elements)});
    }
  }

  void append(const Kernels& kernels, std::int64_t layer, std::int64_t first, const float* keys,
              const float* values, std::int64_t stride, std::int64_t tokens) {
    Layer& l = layers_[static_cast<std::size_t>(layer)];
    for (std::int64_t head = 0; head < l.shape.kv_heads; ++head) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        const std::int64_t from = t * stride + head * l.shape.head_dim;
        const std::int64_t to = offset(l, head, first + t);
        store(kernels, keys + from, l.shape.head_dim, l.keys.data() + to);
        store(kernels, values + from, l.shape.head_dim, l.values.data() + to);
      }
    }
  }

  void scores(const Kernels& kernels, const KvRange& range, const float* q, std::int64_t ldq,
              std::int64_t rows, float* out, std::int64_t ldo) const {
    const Layer& l = layers_[static_cast<std::size_t>(range.layer)];
    const T* k = l.keys.data() + offset(l, range.head, range.first);
    const std::int64_t dim = l.shape.head_dim;
    if constexpr (std::is_same_v<T, Half>) {
      kernels.scores_half(q, ldq, rows, k, dim, range.tokens, dim, out, ldo);
    } else {
      kernels.gemm_nt(rows, range.tokens, dim, q, ldq, k, dim, out, ldo, false);
    }
  }

  void mix(const Kernels& kernels, const KvRange& range, const float* p, std::int64_t ldp,
           std::int64_t rows, float* out, std::int64_t ldo) const {
    const Layer& l = layers_[static_cast<std::size_t>(range.layer)];
    const T* v = l.values.data() + offset(l, range.head, range.first);
    const std::int64_t dim = l.shape.head_dim;
    if constexpr (std::is_same_v<T, Half>) {
      kernels.mix_half(p, ldp, rows, v, dim, range.tokens, dim, out, ldo);
    } else {
      kernels.gemm_nn(rows, dim, range.tokens, p, ldp, v, dim, out, ldo, true);
    }
  }

  void truncate(std::int64_t) noexcept {}  // rows past the end are overwritten by the next append

  [[nodiscard]] std::size_t bytes(std::int64_t tokens) const noexcept {
    std::int64_t elements = 0;
    for (const Layer& l : layers_) elements += 2 * l.shape.kv_heads * l.shape.head_dim;
    return static_cast<std::size_t>(elements * tokens) * sizeof(T);
  }

 private:
  struct Layer {
    KvShape::Layer shape;
    AlignedBuffer<T> keys;    // [kv_heads, capacity, head_dim]
    AlignedBuffer<T> values;  // [kv_heads, capacity, head_dim]
  };

  [[nodiscard]] std::int64_t offset(const Layer& l, std::int64_t head,
                                    std::int64_t position) const {
    return (head * capacity_ + position) * l.shape.head_dim;
  }
  static void store(const Kernels& kernels, const float* row, std::int64_t dim, T* out) {
    if constexpr (std::is_same_v<T, Half>) {
      kernels.half_from_float(row, dim, out);
    } else {
      std::memcpy(out, row, static_cast<std::size_t>(dim) * sizeof(float));
    }
  }

  std::int64_t capacity_;
  std::vector<Layer> layers_;
};

using Fp16Cache = DenseCache<Half>;
using Fp32Cache = DenseCache<float>;

static_assert(KvCache<Fp16Cache> && KvCache<Fp32Cache>);

}  // namespace nemo
