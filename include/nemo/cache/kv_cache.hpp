// What a KV cache policy is: storage for keys and values that does its own arithmetic.
//
// Attention never sees how keys are stored. For one (layer, kv head) it asks for
//   scores[r, t] = q[r] . k[t]          and          out[r] += sum_t p[r, t] v[t]
// over a range of cached positions; a policy may answer from packed codes in a rotated domain.
#pragma once

#include <nemo/kernels.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace nemo {

/// Sizes of what a cache holds; one entry of `layers` per attention layer, in model order.
struct KvShape {
  struct Layer {
    std::int64_t kv_heads;
    std::int64_t head_dim;
  };
  std::vector<Layer> layers;
  std::int64_t capacity;  // tokens
};

/// A range of cached positions of one head.
struct KvRange {
  std::int64_t layer;  // index into KvShape::layers
  std::int64_t head;   // kv head
  std::int64_t first;
  std::int64_t tokens;
};

template <class C>
concept KvCache = std::movable<C> && std::constructible_from<C, const KvShape&> &&
    requires(C cache, const C& view, const Kernels& kernels, const KvRange& range,
             const float* rows, float* out, std::int64_t n) {
  /// The policy's spelling on the command line, e.g. "fp16".
  { C::kName } -> std::convertible_to<std::string_view>;
  /// Stores key and value rows [tokens, kv_heads*head_dim] (rows `stride` floats apart) of one
  /// layer at positions [first, first + tokens). (kernels, layer, first, keys, values, stride,
  /// tokens)
  cache.append(kernels, n, n, rows, rows, n, n);
  /// (kernels, range, q [rows, head_dim], ldq, rows, scores [rows, range.tokens], lds)
  view.scores(kernels, range, rows, n, n, out, n);
  /// (kernels, range, p [rows, range.tokens], ldp, rows, out [rows, head_dim] accumulated, ldo)
  view.mix(kernels, range, rows, n, n, out, n);
  /// Forgets positions from `tokens` on.
  cache.truncate(n);
  /// Bytes that `tokens` cached tokens occupy.
  { view.bytes(n) } -> std::same_as<std::size_t>;
};

}  // namespace nemo
