// Storage of the quantized KV cache and its two products over a range of positions.
#include "packed_block.hpp"

#include <nemo/base/error.hpp>
#include <nemo/cache/packed_cache.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <utility>

namespace nemo {
namespace {

constexpr std::int64_t kExactBlock = 128;  // tokens

KvSide side_of(const KvFormat& format, std::int64_t head_dim, bool values) {
  const auto dim = static_cast<std::int32_t>(head_dim);
  const std::int32_t bits = values ? format.value_bits : format.key_bits;
  std::int32_t group = values ? format.value_group : format.key_group;
  if (group == 0 || group > dim) group = dim;
  const KvCode code = format.scheme == KvScheme::affine ? KvCode::affine
                      : bits == 8                       ? KvCode::int8
                                                        : KvCode::lloyd_max;
  return {dim, bits, group, code, values ? KvScale::least_squares : KvScale::unbiased, values};
}

std::shared_ptr<AlignedBuffer<std::byte>> zeroed_block(std::int64_t bytes) {
  auto block = std::make_shared<AlignedBuffer<std::byte>>(static_cast<std::size_t>(bytes));
  std::memset(block->data(), 0, block->size());
  return block;
}

/// Block number `index`, made or copied when it is missing or somebody else's too.
std::byte* writable(std::vector<std::shared_ptr<AlignedBuffer<std::byte>>>& blocks,
                    std::int64_t index, std::int64_t bytes) {
  const auto i = static_cast<std::size_t>(index);
  while (blocks.size() <= i) blocks.push_back(zeroed_block(bytes));
  if (blocks[i].use_count() > 1) {
    auto copy = std::make_shared<AlignedBuffer<std::byte>>(blocks[i]->size());
    std::memcpy(copy->data(), blocks[i]->data(), copy->size());
    blocks[i] = std::move(copy);
  } else {
    // What another fork read before it let go of the block happened before our writes.
    std::atomic_thread_fence(std::memory_order_acquire);
  }
  return blocks[i]->data();
}

}  // namespace

PackedCache::PackedCache(const KvShape& shape) : capacity_(shape.capacity), means_(shape.means) {
  if (shape.formats.size() != shape.layers.size() ||
      (means_ != nullptr && means_->size() != shape.layers.size())) {
    throw Error(ErrorCode::internal, "PackedCache: formats and means come per attention layer");
  }
  for (std::size_t i = 0; i < shape.layers.size(); ++i) {
    const KvShape::Layer& sizes = shape.layers[i];
    const KvFormat& format = shape.formats[i];
    format.check(sizes.head_dim);
    Layer l{
        sizes,
        format,
        side_of(format, sizes.head_dim, false),
        side_of(format, sizes.head_dim, true),
        format.scheme == KvScheme::fp16 ? std::numeric_limits<std::int64_t>::max() : format.sink,
        0,
        0,
        0,
        std::vector<Head>(static_cast<std::size_t>(sizes.kv_heads)),
        {},
        {}};
    if (means_ != nullptr && format.scheme != KvScheme::fp16) l.means = &(*means_)[i];
    l.exact_block = std::min(l.sink, kExactBlock);
    l.exact = l.sink;
    if (format.scheme != KvScheme::fp16) {
      l.recent.resize(
          static_cast<std::size_t>(sizes.kv_heads * 2 * kKvTileTokens * sizes.head_dim));
    }
    for (std::int64_t head = 0; head < sizes.kv_heads; ++head) {
      for (const bool values : {false, true}) {
        const std::int64_t group = values ? l.values.group : l.keys.group;
        l.transforms.push_back(std::make_shared<const KvHeadTransform>(
            format.rotation, sizes.head_dim, group, format.seed,
            KvHeadId{static_cast<std::int64_t>(i), head, values}));
      }
    }
    layers_.push_back(std::move(l));
  }
}

PackedCache::PackedCache(const KvShape& shape, const KvFormat& format)
    : PackedCache(KvShape{shape.layers, shape.capacity,
                          std::vector<KvFormat>(shape.layers.size(), format), shape.means}) {}

void PackedCache::rotate(const Kernels& kernels, std::int64_t layer, float* keys, float* values,
                         std::int64_t stride, std::int64_t tokens) const {
  const Layer& l = layer_at(layer);
  const std::int64_t dim = l.shape.head_dim;
  if (l.means != nullptr) {
    const std::int64_t width = l.shape.kv_heads * dim;
    for (std::int64_t t = 0; t < tokens; ++t) {
      kernels.axpy(-1.0f, l.means->keys.data(), width, keys + t * stride);
      kernels.axpy(-1.0f, l.means->values.data(), width, values + t * stride);
    }
  }
  for (std::int64_t head = 0; head < l.shape.kv_heads; ++head) {
    kernels.kv->rotate(transform(layer, head, false), false, keys + head * dim, stride, tokens);
    kernels.kv->rotate(transform(layer, head, true), false, values + head * dim, stride, tokens);
  }
}

void PackedCache::append(const Kernels& kernels, std::int64_t layer, std::int64_t first,
                         const float* keys, const float* values, std::int64_t stride,
                         std::int64_t tokens) {
  Layer& l = layers_[static_cast<std::size_t>(layer)];
  if (first != l.tokens) {
    throw Error(ErrorCode::internal, "PackedCache: positions must be appended in order");
  }
  const std::int64_t dim = l.shape.head_dim;
  const std::int64_t end = first + tokens;
  const PackedBlock at(l.keys, l.values);
  // The tile that stays incomplete, if any, starts here.
  const std::int64_t open =
      end <= l.sink ? end : l.sink + (end - l.sink) / kKvTileTokens * kKvTileTokens;
  for (std::int64_t h = 0; h < l.shape.kv_heads; ++h) {
    Head& head = l.heads[static_cast<std::size_t>(h)];
    const float* k = keys + h * dim;
    const float* v = values + h * dim;
    std::int64_t p = first;
    for (; p < std::min(end, l.sink); ++p) {
      std::byte* block = writable(head.exact, p / l.exact_block, l.exact_block * dim * 4);
      auto* row = reinterpret_cast<Half*>(block) + p % l.exact_block * dim;
      kernels.half_from_float(k + (p - first) * stride, dim, row);
      kernels.half_from_float(v + (p - first) * stride, dim, row + l.exact_block * dim);
    }
    while (p < end) {
      const std::int64_t tile = (p - l.sink) / kKvTileTokens;
      const std::int64_t lane = (p - l.sink) % kKvTileTokens;
      const std::int64_t count = std::min(kKvTileTokens - lane, end - p);
      std::byte* block = writable(head.packed, tile / kBlockTiles, at.bytes);
      const std::int64_t i = tile % kBlockTiles;
      const auto encode = [&](const KvSide& side, const float* rows, std::byte* codes,
                              std::byte* scales) {
        codes += i * side.tile_bytes();
        auto* tile_scales = reinterpret_cast<Half*>(scales) + i * side.tile_scales();
        // What a rewind left behind must not make equal sequences differ when they are saved.
        if (lane == 0 && count < kKvTileTokens) {
          std::fill_n(codes, side.tile_bytes(), std::byte{0});
          std::fill_n(tile_scales, side.tile_scales(), Half{});
        }
        kernels.kv->encode(side, rows, stride, lane, count, codes, tile_scales);
      };
      encode(l.keys, k + (p - first) * stride, block, block + at.key_scales);
      encode(l.values, v + (p - first) * stride, block + at.value_codes, block + at.value_scales);
      p += count;
    }
    for (p = std::max(first, open); p < end; ++p) {
      Half* row = l.recent.data() + (h * 2 * kKvTileTokens + (p - open)) * dim;
      kernels.half_from_float(k + (p - first) * stride, dim, row);
      kernels.half_from_float(v + (p - first) * stride, dim, row + kKvTileTokens * dim);
    }
  }
  // Earlier tokens of the same incomplete tile are as exact as they were.
  if (open > first) l.exact = open;
  l.tokens = end;
}

std::int64_t PackedCache::packed_bytes(std::int64_t layer, std::int64_t rows) const {
  if (rows > kMaxRows) {
    throw Error(ErrorCode::unsupported, "quantized KV caches serve at most " +
                                            std::to_string(kMaxRows) +
                                            " query heads per kv head; use fp16");
  }
  const Layer& l = layer_at(layer);
  return l.format.scheme == KvScheme::fp16 ? 0 : KvPackedQueries::bytes(l.keys, rows);
}

void PackedCache::prepare(const Kernels& kernels, std::int64_t layer, std::int64_t head, float* q,
                          std::int64_t rows, std::byte* packed) const {
  const Layer& l = layer_at(layer);
  if (l.format.scheme == KvScheme::fp16) return;
  kernels.kv->rotate(transform(layer, head, false), false, q, l.shape.head_dim, rows);
  kernels.kv->pack_queries(l.keys, q, rows, packed);
}

void PackedCache::finish(const Kernels& kernels, std::int64_t layer, std::int64_t head, float* out,
                         std::int64_t rows, const float* sums) const {
  const Layer& l = layer_at(layer);
  const std::int64_t dim = l.shape.head_dim;
  kernels.kv->rotate(transform(layer, head, true), true, out, dim, rows);
  if (l.means == nullptr) return;
  const float* mean = l.means->values.data() + head * dim;
  for (std::int64_t r = 0; r < rows; ++r) kernels.axpy(sums[r], mean, dim, out + r * dim);
}

/// A run of positions stored alike: half precision rows, or tiles.
struct PackedCache::Segment {
  std::int64_t offset;  // of its first token from the start of the range
  std::int64_t tokens;
  const Half* keys;    // [tokens, dim], or null
  const Half* values;  // [tokens, dim]
  KvTiles key_tiles;   // the tiles that the tokens lie in,
  KvTiles value_tiles;
  std::int64_t skip;  // behind as many tokens of the first
};

template <class Fn>
void PackedCache::for_segments(const Layer& l, const KvRange& range, Fn fn) const {
  const Head& head = l.heads[static_cast<std::size_t>(range.head)];
  const std::int64_t dim = l.shape.head_dim;
  const std::int64_t end = range.first + range.tokens;
  const std::int64_t open =
      l.tokens <= l.sink ? l.tokens : l.sink + (l.tokens - l.sink) / kKvTileTokens * kKvTileTokens;
  const PackedBlock at(l.keys, l.values);
  std::int64_t p = range.first;
  while (p < end) {
    Segment s{p - range.first, 0, nullptr, nullptr, {}, {}, 0};
    if (p < l.sink) {
      const std::int64_t in_block = p % l.exact_block;
      s.tokens = std::min({l.exact_block - in_block, end - p, l.sink - p});
      s.keys = reinterpret_cast<const Half*>(
                   head.exact[static_cast<std::size_t>(p / l.exact_block)]->data()) +
               in_block * dim;
      s.values = s.keys + l.exact_block * dim;
    } else if (p >= l.exact && p >= open) {
      s.tokens = end - p;
      s.keys = l.recent.data() + (range.head * 2 * kKvTileTokens + (p - open)) * dim;
      s.values = s.keys + kKvTileTokens * dim;
    } else {
      const std::int64_t in_block = (p - l.sink) % kBlockTokens;
      // Tokens before the exact ones of the incomplete tile are read from their codes.
      const std::int64_t coded = p < open ? open : l.exact;
      s.tokens = std::min({kBlockTokens - in_block, end - p, coded - p});
      s.skip = in_block % kKvTileTokens;
      const std::int64_t tile = in_block / kKvTileTokens;
      const std::int64_t count = (s.skip + s.tokens + kKvTileTokens - 1) / kKvTileTokens;
      const std::byte* block =
          head.packed[static_cast<std::size_t>((p - l.sink) / kBlockTokens)]->data();
      s.key_tiles = {
          block + tile * l.keys.tile_bytes(),
          reinterpret_cast<const Half*>(block + at.key_scales) + tile * l.keys.tile_scales(),
          count};
      s.value_tiles = {
          block + at.value_codes + tile * l.values.tile_bytes(),
          reinterpret_cast<const Half*>(block + at.value_scales) + tile * l.values.tile_scales(),
          count};
    }
    fn(s);
    p += s.tokens;
  }
}

namespace {

/// The tiles of a segment as: a first tile cut in front, whole tiles, a last tile cut behind.
/// fn(first tile, tiles, first token in the segment, tokens, tokens skipped in front).
template <class Fn>
void for_tile_runs(std::int64_t skip, std::int64_t tokens, Fn fn) {
  std::int64_t done = 0;
  std::int64_t tile = 0;
  while (done < tokens) {
    const std::int64_t left = tokens - done;
    if (skip == 0 && left >= kKvTileTokens) {
      const std::int64_t n = left / kKvTileTokens;
      fn(tile, n, done, n * kKvTileTokens, std::int64_t{0});
      tile += n;
      done += n * kKvTileTokens;
    } else {
      const std::int64_t n = std::min(kKvTileTokens - skip, left);
      fn(tile, std::int64_t{1}, done, n, skip);
      ++tile;
      done += n;
      skip = 0;
    }
  }
}

KvTiles part(const KvTiles& tiles, const KvSide& side, std::int64_t first, std::int64_t count) {
  return {tiles.codes + first * side.tile_bytes(), tiles.scales + first * side.tile_scales(),
          count};
}

}  // namespace

void PackedCache::scores(const Kernels& kernels, const KvRange& range, const KvQueries& q,
                         std::int64_t rows, float* out, std::int64_t ldo) const {
  const Layer& l = layer_at(range.layer);
  const std::int64_t dim = l.shape.head_dim;
  for_segments(l, range, [&](const Segment& s) {
    if (s.keys != nullptr) {
      kernels.scores_half(q.rows, dim, rows, s.keys, dim, s.tokens, dim, out + s.offset, ldo);
      return;
    }
    for_tile_runs(s.skip, s.tokens,
                  [&](std::int64_t tile, std::int64_t tiles, std::int64_t first, std::int64_t n,
                      std::int64_t skip) {
                    const KvTiles run = part(s.key_tiles, l.keys, tile, tiles);
                    float* to = out + s.offset + first;
                    if (n == tiles * kKvTileTokens) {
                      kernels.kv->scores(l.keys, run, q, rows, to, ldo);
                      return;
                    }
                    alignas(64) float whole[kMaxRows * kKvTileTokens];
                    kernels.kv->scores(l.keys, run, q, rows, whole, kKvTileTokens);
                    for (std::int64_t r = 0; r < rows; ++r) {
                      std::copy_n(whole + r * kKvTileTokens + skip, n, to + r * ldo);
                    }
                  });
  });
}

void PackedCache::mix(const Kernels& kernels, const KvRange& range, const float* p,
                      std::int64_t ldp, std::int64_t rows, float* out, std::int64_t ldo) const {
  const Layer& l = layer_at(range.layer);
  const std::int64_t dim = l.shape.head_dim;
  for_segments(l, range, [&](const Segment& s) {
    if (s.values != nullptr) {
      kernels.mix_half(p + s.offset, ldp, rows, s.values, dim, s.tokens, dim, out, ldo);
      return;
    }
    for_tile_runs(s.skip, s.tokens,
                  [&](std::int64_t tile, std::int64_t tiles, std::int64_t first, std::int64_t n,
                      std::int64_t skip) {
                    const KvTiles run = part(s.value_tiles, l.values, tile, tiles);
                    const float* from = p + s.offset + first;
                    if (n == tiles * kKvTileTokens) {
                      kernels.kv->mix(l.values, run, from, ldp, rows, out, ldo);
                      return;
                    }
                    alignas(64) float whole[kMaxRows * kKvTileTokens];
                    for (std::int64_t r = 0; r < rows; ++r) {
                      float* row = whole + r * kKvTileTokens;
                      std::fill_n(row, kKvTileTokens, 0.0f);
                      std::copy_n(from + r * ldp, n, row + skip);
                    }
                    kernels.kv->mix(l.values, run, whole, kKvTileTokens, rows, out, ldo);
                  });
  });
}

void PackedCache::decode(const Kernels& kernels, const KvRange& range, float* keys,
                         float* values) const {
  const Layer& l = layer_at(range.layer);
  const std::int64_t dim = l.shape.head_dim;
  for_segments(l, range, [&](const Segment& s) {
    if (s.keys != nullptr) {
      kernels.float_from_half(s.keys, s.tokens * dim, keys + s.offset * dim);
      kernels.float_from_half(s.values, s.tokens * dim, values + s.offset * dim);
      return;
    }
    alignas(64) float whole[kKvTileTokens * kKvMaxDim];
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      const std::int64_t tile = (s.skip + t) / kKvTileTokens;
      const std::int64_t lane = (s.skip + t) % kKvTileTokens;
      const auto row = [&](const KvSide& side, const KvTiles& tiles, float* to) {
        const KvTiles one = part(tiles, side, tile, 1);
        kernels.kv->decode(side, one.codes, one.scales, whole, dim);
        std::copy_n(whole + lane * dim, dim, to + (s.offset + t) * dim);
      };
      row(l.keys, s.key_tiles, keys);
      row(l.values, s.value_tiles, values);
    }
  });
}

void PackedCache::truncate(std::int64_t tokens) {
  for (Layer& l : layers_) truncate(l, std::max<std::int64_t>(0, tokens));
}

void PackedCache::truncate(Layer& l, std::int64_t tokens) {
  if (tokens >= l.tokens) return;
  const auto open_of = [&](std::int64_t n) {
    return n <= l.sink ? n : l.sink + (n - l.sink) / kKvTileTokens * kKvTileTokens;
  };
  // Rows of another tile than the one that was incomplete exist only as codes.
  if (open_of(tokens) != open_of(l.tokens)) l.exact = tokens;
  l.exact = std::min(l.exact, std::max(tokens, l.sink));
  l.tokens = tokens;
  const auto keep = [](std::vector<Block>& blocks, std::int64_t n, std::int64_t each) {
    const auto count = each == 0 ? std::size_t{0} : static_cast<std::size_t>((n + each - 1) / each);
    if (blocks.size() > count) blocks.resize(count);
  };
  for (Head& head : l.heads) {
    keep(head.exact, std::min(tokens, l.sink), l.exact_block);
    keep(head.packed, tokens - std::min(tokens, l.sink), kBlockTokens);
  }
}

void PackedCache::make_blocks(Layer& l) {
  const std::int64_t exact = std::min(l.tokens, l.sink);
  const PackedBlock at(l.keys, l.values);
  for (Head& head : l.heads) {
    for (std::int64_t p = 0; p < exact; p += l.exact_block) {
      writable(head.exact, p / l.exact_block, l.exact_block * l.shape.head_dim * 4);
    }
    for (std::int64_t p = 0; p < l.tokens - exact; p += kBlockTokens) {
      writable(head.packed, p / kBlockTokens, at.bytes);
    }
  }
}

template <class Move>
void PackedCache::for_open_tile(const Layer& l, Move move) {
  const std::int64_t coded = l.tokens - std::min(l.tokens, l.sink);
  if (coded % kKvTileTokens == 0) return;
  const PackedBlock at(l.keys, l.values);
  const std::int64_t i = coded / kKvTileTokens % kBlockTiles;
  for (std::size_t h = 0; h < l.heads.size(); ++h) {
    const auto block = static_cast<std::size_t>(coded / kBlockTokens);
    move(h, block, i * l.keys.tile_bytes(), l.keys.tile_bytes());
    move(h, block, at.value_codes + i * l.values.tile_bytes(), l.values.tile_bytes());
    move(h, block, at.key_scales + i * l.keys.tile_scales() * 2, l.keys.tile_scales() * 2);
    move(h, block, at.value_scales + i * l.values.tile_scales() * 2, l.values.tile_scales() * 2);
  }
}

PackedCache::Mark PackedCache::mark() const {
  Mark mark;
  for (const Layer& l : layers_) {
    mark.layers.push_back({l.tokens, l.exact, l.recent, {}});
    std::vector<std::byte>& tile = mark.layers.back().tile;
    for_open_tile(l, [&](std::size_t head, std::size_t block, std::int64_t at, std::int64_t n) {
      const std::byte* from = l.heads[head].packed[block]->data() + at;
      tile.insert(tile.end(), from, from + n);
    });
  }
  return mark;
}

void PackedCache::rewind(const Mark& mark) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& l = layers_[i];
    const Mark::Layer& m = mark.layers[i];
    truncate(l, m.tokens);
    l.exact = m.exact;
    l.recent = m.recent;
    std::size_t done = 0;
    for_open_tile(l, [&](std::size_t head, std::size_t block, std::int64_t at, std::int64_t n) {
      std::vector<Block>& blocks = l.heads[head].packed;
      std::byte* to = writable(blocks, static_cast<std::int64_t>(block),
                               static_cast<std::int64_t>(blocks[block]->size()));
      std::memcpy(to + at, m.tile.data() + done, static_cast<std::size_t>(n));
      done += static_cast<std::size_t>(n);
    });
  }
}

std::size_t PackedCache::bytes(std::int64_t tokens) const noexcept {
  std::int64_t total = 0;
  for (const Layer& l : layers_) {
    const std::int64_t exact = std::min(tokens, l.sink);
    const std::int64_t tile = l.keys.tile_bytes() + l.values.tile_bytes() +
                              2 * (l.keys.tile_scales() + l.values.tile_scales());
    const std::int64_t packed = (tokens - exact) * tile / kKvTileTokens;
    total += l.shape.kv_heads * (exact * 4 * l.shape.head_dim + packed);
  }
  return static_cast<std::size_t>(total);
}

std::size_t PackedCache::shared_bytes() const noexcept {
  std::size_t total = 0;
  for (const Layer& l : layers_) {
    for (const Head& head : l.heads) {
      for (const std::vector<Block>* blocks : {&head.exact, &head.packed}) {
        for (const Block& b : *blocks) total += b.use_count() > 1 ? b->size() : 0;
      }
    }
  }
  return total;
}

std::size_t PackedCache::allocated_bytes() const noexcept {
  std::size_t total = 0;
  for (const Layer& l : layers_) {
    for (const Head& head : l.heads) {
      for (const Block& b : head.exact) total += b->size();
      for (const Block& b : head.packed) total += b->size();
    }
    total += l.recent.size() * sizeof(Half);
  }
  return total;
}

}  // namespace nemo
