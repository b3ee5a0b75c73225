// The unquantized KV cache policies: keys and values as half or float, one row per position.
#pragma once

#include <nemo/base/aligned.hpp>
#include <nemo/base/error.hpp>
#include <nemo/cache/kv_cache.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
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
  static constexpr bool kExactChunk = false;

  explicit DenseCache(const KvShape& shape) : capacity_(shape.capacity) {
    for (const KvShape::Layer& layer : shape.layers) {
      const auto elements = static_cast<std::size_t>(layer.kv_heads * capacity_ * layer.head_dim);
      layers_.push_back({layer, AlignedBuffer<T>(elements), AlignedBuffer<T>(elements)});
    }
  }

  // Keys, values and queries stay in the model's own domain.
  void rotate(const Kernels&, std::int64_t, float*, float*, std::int64_t,
              std::int64_t) const noexcept {}
  [[nodiscard]] std::int64_t packed_bytes(std::int64_t, std::int64_t) const noexcept { return 0; }
  void prepare(const Kernels&, std::int64_t, std::int64_t, float*, std::int64_t,
               std::byte*) const noexcept {}
  void finish(const Kernels&, std::int64_t, std::int64_t, float*, std::int64_t,
              const float*) const noexcept {}

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
    l.tokens = first + tokens;
  }

  void scores(const Kernels& kernels, const KvRange& range, const KvQueries& q, std::int64_t rows,
              float* out, std::int64_t ldo) const {
    const Layer& l = layers_[static_cast<std::size_t>(range.layer)];
    const T* k = l.keys.data() + offset(l, range.head, range.first);
    const std::int64_t dim = l.shape.head_dim;
    if constexpr (std::is_same_v<T, Half>) {
      kernels.scores_half(q.rows, dim, rows, k, dim, range.tokens, dim, out, ldo);
    } else {
      kernels.gemm_nt(rows, range.tokens, dim, q.rows, dim, k, dim, out, ldo, false);
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

  /// Rows past the end are overwritten by the next append.
  void truncate(std::int64_t tokens) noexcept {
    for (Layer& l : layers_) l.tokens = std::min(l.tokens, tokens);
  }
  [[nodiscard]] std::int64_t tokens() const noexcept {
    return layers_.empty() ? 0 : layers_.front().tokens;
  }
  [[nodiscard]] std::int64_t mark() const noexcept { return tokens(); }
  void rewind(std::int64_t mark) noexcept { truncate(mark); }

  [[nodiscard]] DenseCache fork() const {
    KvShape shape{{}, capacity_};
    for (const Layer& l : layers_) shape.layers.push_back(l.shape);
    DenseCache copy(shape);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Layer& from = layers_[i];
      Layer& to = copy.layers_[i];
      to.tokens = from.tokens;
      const auto bytes = static_cast<std::size_t>(from.tokens * from.shape.head_dim) * sizeof(T);
      if (bytes == 0) continue;
      for (std::int64_t head = 0; head < from.shape.kv_heads; ++head) {
        const std::int64_t at = offset(from, head, 0);
        std::memcpy(to.keys.data() + at, from.keys.data() + at, bytes);
        std::memcpy(to.values.data() + at, from.values.data() + at, bytes);
      }
    }
    return copy;
  }

  /// "nemoKV" and the element size, then per layer: heads, channels, tokens, rows of every head.
  void save(const ByteSink& sink) const {
    const std::uint64_t magic = kMagic;
    sink(&magic, sizeof magic);
    for (const Layer& l : layers_) {
      const std::int64_t sizes[] = {l.shape.kv_heads, l.shape.head_dim, l.tokens};
      sink(sizes, sizeof sizes);
      const auto bytes = static_cast<std::size_t>(l.tokens * l.shape.head_dim) * sizeof(T);
      for (std::int64_t head = 0; head < l.shape.kv_heads; ++head) {
        sink(l.keys.data() + offset(l, head, 0), bytes);
        sink(l.values.data() + offset(l, head, 0), bytes);
      }
    }
  }
  void load(const ByteSource& source) {
    std::uint64_t magic = 0;
    source(&magic, sizeof magic);
    if (magic != kMagic) throw Error(ErrorCode::bad_file, "saved cache: not of an " + name());
    truncate(0);
    for (Layer& l : layers_) {
      std::int64_t sizes[3] = {};
      source(sizes, sizeof sizes);
      if (sizes[0] != l.shape.kv_heads || sizes[1] != l.shape.head_dim || sizes[2] < 0 ||
          sizes[2] > capacity_ || (&l != &layers_.front() && sizes[2] != tokens())) {
        throw Error(ErrorCode::bad_file, "saved cache: its sizes are not this " + name() + "'s");
      }
      const auto bytes = static_cast<std::size_t>(sizes[2] * l.shape.head_dim) * sizeof(T);
      for (std::int64_t head = 0; head < l.shape.kv_heads; ++head) {
        source(l.keys.data() + offset(l, head, 0), bytes);
        source(l.values.data() + offset(l, head, 0), bytes);
      }
      l.tokens = sizes[2];
    }
  }

  [[nodiscard]] std::size_t bytes(std::int64_t tokens) const noexcept {
    std::int64_t elements = 0;
    for (const Layer& l : layers_) elements += 2 * l.shape.kv_heads * l.shape.head_dim;
    return static_cast<std::size_t>(elements * tokens) * sizeof(T);
  }

  /// Rows that have been written; the rest of the capacity is address space without memory.
  [[nodiscard]] std::size_t allocated_bytes() const noexcept {
    std::int64_t elements = 0;
    for (const Layer& l : layers_) {
      elements += 2 * l.shape.kv_heads * l.shape.head_dim * l.tokens;
    }
    return static_cast<std::size_t>(elements) * sizeof(T);
  }

 private:
  struct Layer {
    KvShape::Layer shape;
    AlignedBuffer<T> keys;    // [kv_heads, capacity, head_dim]
    AlignedBuffer<T> values;  // [kv_heads, capacity, head_dim]
    std::int64_t tokens = 0;
  };

  // "nemoKV" 0, and the size of an element in the last byte.
  static constexpr std::uint64_t kMagic =
      std::uint64_t{sizeof(T)} << 56 | std::uint64_t{0x564b6f6d656e};
  [[nodiscard]] static std::string name() { return std::string(kName) + " cache"; }

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
