// What a KV cache policy is: storage for keys and values that does its own arithmetic.
//
// Attention never sees how keys are stored. For one (layer, kv head) it asks for
//   scores[r, t] = q[r] . k[t]          and          out[r] += sum_t p[r, t] v[t]
// over a range of cached positions; a policy may answer from packed codes in a rotated domain:
// rotate() and prepare() take keys, values and queries there, finish() brings results back.
#pragma once

#include <nemo/base/byte_stream.hpp>
#include <nemo/cache/kv_format.hpp>
#include <nemo/checkpoint/kv_means.hpp>
#include <nemo/kernels.hpp>
#include <nemo/kv_kernels.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
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
  std::int64_t capacity;            // tokens
  std::vector<KvFormat> formats{};  // one per layer, for PackedCache; other policies know theirs
  std::shared_ptr<const KvMeans> means{};  // for centering; null: none
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
             const float* rows, float* out, std::byte* packed, const KvQueries& q, std::int64_t n) {
  /// The policy's spelling on the command line, e.g. "fp16".
  { C::kName } -> std::convertible_to<std::string_view>;
  /// True: queries see the keys and values of their own chunk as computed, and append() comes after
  /// attention. False: append() comes first and everything is read from the cache.
  { C::kExactChunk } -> std::convertible_to<bool>;

  /// Takes fresh key and value rows to the policy's domain, in place.
  /// (kernels, layer, keys, values, stride, tokens); see append for the shapes.
  view.rotate(kernels, n, out, out, n, n);
  /// Stores rotated key and value rows [tokens, kv_heads*head_dim] (rows `stride` floats apart) of
  /// one layer behind those it holds, at positions [first, first + tokens).
  /// (kernels, layer, first, keys, values, stride, tokens)
  cache.append(kernels, n, n, rows, rows, n, n);

  /// Bytes that prepare() packs `rows` queries of a layer into. (layer, rows)
  { view.packed_bytes(n, n) } -> std::same_as<std::int64_t>;
  /// Takes query rows [rows, head_dim] to the policy's domain in place, and packs them.
  /// (kernels, layer, head, q, rows, packed)
  view.prepare(kernels, n, n, out, n, packed);
  /// (kernels, range, prepared queries, rows, scores [rows, range.tokens], lds)
  view.scores(kernels, range, q, n, out, n);
  /// (kernels, range, p [rows, range.tokens], ldp, rows, out [rows, head_dim] accumulated, ldo)
  view.mix(kernels, range, rows, n, n, out, n);
  /// Brings mixed rows [rows, head_dim] back from the policy's domain; sums[r] is the sum of row
  /// r's weights p. (kernels, layer, head, out, rows, sums)
  view.finish(kernels, n, n, out, n, rows);

  /// Tokens held; the layers agree between forward passes.
  { view.tokens() } -> std::same_as<std::int64_t>;
  /// Forgets positions from `tokens` on.
  cache.truncate(n);
  /// What it takes to come back to this moment bit by bit, while later tokens only append.
  cache.rewind(view.mark());
  /// A second cache with the same content; they diverge from here on.
  { view.fork() } -> std::same_as<C>;
  view.save(ByteSink{});
  /// Throws Error{bad_file} when the bytes are of another policy or shape.
  cache.load(ByteSource{});
  /// Bytes that `tokens` cached tokens occupy.
  { view.bytes(n) } -> std::same_as<std::size_t>;
  /// Bytes that are allocated for keys and values now.
  { view.allocated_bytes() } -> std::same_as<std::size_t>;
};

}  // namespace nemo
