// Saving and loading quantized caches.
//
//   u64 "nemoKVq" 2, u64 layers, then per layer a Header, then per kv head
//   exact key rows, exact value rows | key codes, key scales, value codes, value scales of all
//   tiles | the half precision rows of the incomplete tile
// Everything is little-endian and stands as it does in memory.
#include "packed_block.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/hash.hpp>
#include <nemo/cache/packed_cache.hpp>

#include <algorithm>
#include <cstring>
#include <span>

namespace nemo {
namespace {

constexpr std::uint64_t kMagic = std::uint64_t{2} << 56 | std::uint64_t{0x71564b6f6d656e};

struct Header {
  std::uint32_t scheme, rotation, key_bits, value_bits, key_group, value_group;
  std::int64_t sink;
  std::uint64_t seed;
  std::uint64_t means;  // hash of the layer's means; 0: not centered
  std::int64_t kv_heads, head_dim, tokens, exact;
};

[[noreturn]] void refuse(const std::string& why) {
  throw Error(ErrorCode::bad_file, "saved KV cache: " + why);
}

}  // namespace

/// Calls move(bytes of the cache, count) for everything that `layer` holds, in file order.
template <class LayerRef, class Move>
void PackedCache::for_content(LayerRef& l, Move move) {
  const std::int64_t dim = l.shape.head_dim;
  const std::int64_t exact = std::min(l.tokens, l.sink);
  const std::int64_t coded = l.tokens - exact;
  const std::int64_t tiles = (coded + kKvTileTokens - 1) / kKvTileTokens;
  const PackedBlock at(l.keys, l.values);
  for (std::int64_t h = 0; h < l.shape.kv_heads; ++h) {
    auto& head = l.heads[static_cast<std::size_t>(h)];
    for (std::int64_t p = 0; p < exact; p += l.exact_block) {
      auto* block = head.exact[static_cast<std::size_t>(p / l.exact_block)]->data();
      const std::int64_t rows = std::min(l.exact_block, exact - p);
      move(block, rows * dim * 2);
      move(block + l.exact_block * dim * 2, rows * dim * 2);
    }
    for (std::int64_t t = 0; t < tiles; t += kBlockTiles) {
      auto* block = head.packed[static_cast<std::size_t>(t / kBlockTiles)]->data();
      const std::int64_t n = std::min(kBlockTiles, tiles - t);
      move(block, n * l.keys.tile_bytes());
      move(block + at.key_scales, n * l.keys.tile_scales() * 2);
      move(block + at.value_codes, n * l.values.tile_bytes());
      move(block + at.value_scales, n * l.values.tile_scales() * 2);
    }
    const std::int64_t recent = coded % kKvTileTokens;
    if (recent > 0) {
      auto* rows = l.recent.data() + h * 2 * kKvTileTokens * dim;
      move(rows, recent * dim * 2);
      move(rows + kKvTileTokens * dim, recent * dim * 2);
    }
  }
}

namespace {

/// A cache centered by other means holds other numbers.
std::uint64_t hash_of(const KvLayerMeans* means) noexcept {
  if (means == nullptr) return 0;
  return hash_bytes(std::as_bytes(std::span(means->values)),
                    hash_bytes(std::as_bytes(std::span(means->keys))));
}

template <class Layer>
Header header_of(const Layer& l) {
  const KvFormat& f = l.format;
  const auto u = [](auto x) { return static_cast<std::uint32_t>(x); };
  return {u(f.scheme),      u(f.rotation), u(f.key_bits), u(f.value_bits),  u(f.key_group),
          u(f.value_group), f.sink,        f.seed,        hash_of(l.means), l.shape.kv_heads,
          l.shape.head_dim, l.tokens,      l.exact};
}

}  // namespace

void PackedCache::save(const ByteSink& sink) const {
  const std::uint64_t start[] = {kMagic, layers_.size()};
  sink(start, sizeof start);
  for (const Layer& l : layers_) {
    const Header header = header_of(l);
    sink(&header, sizeof header);
    for_content(l, [&](const void* data, std::int64_t bytes) {
      sink(data, static_cast<std::size_t>(bytes));
    });
  }
}

void PackedCache::load(const ByteSource& source) {
  std::uint64_t start[2] = {};
  source(start, sizeof start);
  if (start[0] != kMagic) refuse("this is none, or of another version");
  if (start[1] != layers_.size()) refuse("it has another number of attention layers");
  truncate(0);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& l = layers_[i];
    Header header{};
    source(&header, sizeof header);
    Header own = header_of(l);
    own.tokens = header.tokens;
    own.exact = header.exact;
    if (std::memcmp(&own, &header, sizeof own) != 0) {
      refuse("layer " + std::to_string(i) + " is not stored as " + l.format.name() +
             " with this model's heads and means");
    }
    if (i > 0 && header.tokens != layers_[0].tokens) refuse("its layers differ in length");
    if (header.tokens < 0 || header.tokens > capacity_ || header.exact < 0) {
      refuse("it holds more tokens than this context of " + std::to_string(capacity_));
    }
    l.tokens = header.tokens;
    l.exact = header.exact;
    make_blocks(l);
    for_content(
        l, [&](void* data, std::int64_t bytes) { source(data, static_cast<std::size_t>(bytes)); });
  }
}

}  // namespace nemo
