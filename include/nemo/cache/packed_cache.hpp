// The quantized KV cache: every layer in a format of its own, computed on as it is stored.
//
// One kv head holds, in this order of positions and all in its rotated domain:
//   the first `sink` tokens         half precision, in blocks of at most 128 tokens
//   all later ones                  codes in tiles of 16 tokens, 16 tiles a block
// and, of the last, incomplete tile, also the half precision rows: what was written since the last
// truncation is read from there, so up to 15 recent tokens are exact as well. Codes are made from
// the float row when a token arrives and never again: trimming keeps them.
// With means (checkpoint/kv_means.hpp) all of it is what is left after subtracting them.
// Blocks are shared between forks until one of them writes.
#pragma once

#include <nemo/base/aligned.hpp>
#include <nemo/cache/kv_cache.hpp>
#include <nemo/cache/kv_transform.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace nemo {

class PackedCache {
 public:
  static constexpr std::string_view kName = "packed";
  static constexpr bool kExactChunk = true;
  /// Query rows per call; more than 64 only when more than 64 query heads share a kv head.
  static constexpr std::int64_t kMaxRows = 256;

  /// shape.formats: one per layer. Throws Error{unsupported} when a format does not fit its layer.
  explicit PackedCache(const KvShape& shape);
  PackedCache(const KvShape& shape, const KvFormat& format);
  PackedCache(PackedCache&&) noexcept = default;
  PackedCache& operator=(PackedCache&&) noexcept = default;
  ~PackedCache() = default;

  // The concept; shapes and meaning in kv_cache.hpp.
  void rotate(const Kernels& kernels, std::int64_t layer, float* keys, float* values,
              std::int64_t stride, std::int64_t tokens) const;
  void append(const Kernels& kernels, std::int64_t layer, std::int64_t first, const float* keys,
              const float* values, std::int64_t stride, std::int64_t tokens);
  [[nodiscard]] std::int64_t packed_bytes(std::int64_t layer, std::int64_t rows) const;
  void prepare(const Kernels& kernels, std::int64_t layer, std::int64_t head, float* q,
               std::int64_t rows, std::byte* packed) const;
  void scores(const Kernels& kernels, const KvRange& range, const KvQueries& q, std::int64_t rows,
              float* out, std::int64_t ldo) const;
  void mix(const Kernels& kernels, const KvRange& range, const float* p, std::int64_t ldp,
           std::int64_t rows, float* out, std::int64_t ldo) const;
  void finish(const Kernels& kernels, std::int64_t layer, std::int64_t head, float* out,
              std::int64_t rows, const float* sums) const;

  [[nodiscard]] std::int64_t tokens() const noexcept {
    return layers_.empty() ? 0 : layers_.front().tokens;
  }
  /// Later tokens may leave bits in the codes of an incomplete tile, which nothing reads.
  void truncate(std::int64_t tokens);
  /// The tokens held, and the incomplete tile: half precision rows and codes.
  struct Mark {
    struct Layer {
      std::int64_t tokens;
      std::int64_t exact;
      std::vector<Half> recent;
      std::vector<std::byte> tile;
    };
    std::vector<Layer> layers;
  };
  [[nodiscard]] Mark mark() const;
  void rewind(const Mark& mark);
  [[nodiscard]] PackedCache fork() const { return *this; }
  void save(const ByteSink& sink) const;
  void load(const ByteSource& source);

  [[nodiscard]] std::size_t bytes(std::int64_t tokens) const noexcept;
  /// What is allocated for keys and values now, shared blocks included.
  [[nodiscard]] std::size_t allocated_bytes() const noexcept;
  /// What of it forks hold as well.
  [[nodiscard]] std::size_t shared_bytes() const noexcept;

  /// Rows [tokens, head_dim] of one head as attention sees them, in the rotated domain; for tests
  /// and measurement.
  void decode(const Kernels& kernels, const KvRange& range, float* keys, float* values) const;
  [[nodiscard]] KvTransform transform(std::int64_t layer, std::int64_t head, bool values) const {
    const Layer& l = layer_at(layer);
    return l.transforms[static_cast<std::size_t>(2 * head + (values ? 1 : 0))]->view();
  }

 private:
  using Block = std::shared_ptr<AlignedBuffer<std::byte>>;

  struct Head {
    std::vector<Block> exact;   // sink: keys [block tokens, dim], values [block tokens, dim]
    std::vector<Block> packed;  // key codes, value codes, key scales, value scales of 16 tiles
  };
  struct Layer {
    KvShape::Layer shape;
    KvFormat format;
    KvSide keys, values;
    std::int64_t sink;         // tokens in half precision
    std::int64_t exact_block;  // tokens of a half precision block
    std::int64_t tokens = 0;
    std::int64_t exact = 0;  // positions from here on in the incomplete tile are in `recent`
    std::vector<Head> heads;
    std::vector<Half> recent;  // [kv_heads, 2, 16, dim]: keys and values of the incomplete tile
    std::vector<std::shared_ptr<const KvHeadTransform>> transforms;  // [kv_heads, 2]
    const KvLayerMeans* means = nullptr;                             // null: not centered
  };
  struct Segment;

  PackedCache(const PackedCache&) = default;
  PackedCache& operator=(const PackedCache&) = default;

  [[nodiscard]] const Layer& layer_at(std::int64_t layer) const {
    return layers_[static_cast<std::size_t>(layer)];
  }
  template <class Fn>
  void for_segments(const Layer& layer, const KvRange& range, Fn fn) const;

  static void truncate(Layer& layer, std::int64_t tokens);
  /// Storage for the tokens that `layer` says it holds.
  static void make_blocks(Layer& layer);
  /// Calls move(head, block, offset, bytes) for the parts of the incomplete tile, if any, of every
  /// head.
  template <class Move>
  static void for_open_tile(const Layer& layer, Move move);
  template <class LayerRef, class Move>
  static void for_content(LayerRef& layer, Move move);

  std::int64_t capacity_;
  std::shared_ptr<const KvMeans> means_;
  std::vector<Layer> layers_;
};

}  // namespace nemo
