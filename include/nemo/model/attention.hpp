// Causal grouped-query attention without position encoding, over any KV cache policy.
//
//   o_t = softmax(q_t K^T / sqrt(head_dim)) V   over positions <= t;   out = W_o o
//
// Scores are made tile by tile with a running maximum, so no row of the score matrix ever exists.
// Tiles and ranges start at fixed positions: what a query gets depends on its own row and the
// cache, not on the number of threads, nor on the chunk it came in unless the policy stores less
// than it is given: then the keys and values of the current chunk are read as computed.
#pragma once

#include <nemo/cache/kv_cache.hpp>
#include <nemo/model/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace nemo {

struct AttentionWeights {
  Matrix q, k, v, o;  // [q_heads*head_dim, d], [kv_heads*head_dim, d] twice, [d, q_heads*head_dim]
  std::vector<float> q_bias, k_bias, v_bias, o_bias;  // one per row of the matrix, or empty
  std::int64_t q_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  float scale = 0;
};

/// Projects, caches and attends `tokens` rows whose first position is `past`.
/// x: normalised input; out: [tokens, d], ldo floats apart. `slot`: index among attention layers.
template <KvCache Cache>
void attention(Compute& compute, const AttentionWeights& w, Activations& x, Cache& cache,
               std::int64_t slot, std::int64_t past, float* out, std::int64_t ldo);

/// Keys and values of some tokens in the policy's domain, kept until it is known how many count.
struct KvReplay {
  std::vector<float> keys, values;  // [tokens, kv_heads*head_dim]
};

/// As attention() of each token by itself, bit by bit; `replay` is written.
template <KvCache Cache>
void attention(Compute& compute, const AttentionWeights& w, Activations& x, Cache& cache,
               std::int64_t slot, std::int64_t past, float* out, std::int64_t ldo,
               KvReplay& replay);

/// Caches keys and values of x's rows and leaves it at that: all that later queries need of them.
template <KvCache Cache>
void cache_keys(Compute& compute, const AttentionWeights& w, Activations& x, Cache& cache,
                std::int64_t slot, std::int64_t past);

namespace detail {

inline constexpr std::int64_t kTile =
    128;  // cached positions per score tile: 256 x 128 floats stay in L2
inline constexpr std::int64_t kRange = 512;      // positions per independently computed partial
inline constexpr std::int64_t kQueryRows = 256;  // query rows (tokens x heads of a group) per item
inline constexpr std::int64_t kPartialFloats = 2 << 20;  // of partials that are kept at once

/// Softmax-weighted values of some rows over one range, before the division by `sum`.
struct Partial {
  float* max;  // [rows]; -inf where nothing is visible
  float* sum;  // [rows]
  float* acc;  // [rows, dim]
};

/// Rows of one kv head: `tokens` queries from position `first_position`, `group` heads each.
struct QueryBlock {
  KvQueries q;  // [tokens*group, dim], scaled and prepared
  std::int64_t tokens;
  std::int64_t group;
  std::int64_t first_position;
};

/// Keys and values of the tokens being evaluated, in the policy's domain.
struct Chunk {
  const float* keys = nullptr;    // [tokens, kv_heads*dim], rows `stride` floats apart
  const float* values = nullptr;  // the same; null: everything is in the cache
  std::int64_t stride = 0;
};

/// Positions of a cache range, or of the current chunk when `chunk` starts at range.first.
template <KvCache Cache>
void attend_range(const Kernels& kernels, const Cache& cache, const Chunk& chunk,
                  const KvRange& range, const QueryBlock& block, std::int64_t dim, float* scores,
                  const Partial& out) {
  const std::int64_t rows = block.tokens * block.group;
  std::fill_n(out.max, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(out.sum, rows, 0.0f);
  std::fill_n(out.acc, rows * dim, 0.0f);
  const std::int64_t end = range.first + range.tokens;
  for (std::int64_t first = range.first; first < end; first += kTile) {
    const KvRange tile{range.layer, range.head, first, std::min(kTile, end - first)};
    const std::int64_t in_chunk = (first - range.first) * chunk.stride + range.head * dim;
    if (chunk.keys != nullptr) {
      kernels.gemm_nt(rows, tile.tokens, dim, block.q.rows, dim, chunk.keys + in_chunk,
                      chunk.stride, scores, kTile, false);
    } else {
      cache.scores(kernels, tile, block.q, rows, scores, kTile);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t position = block.first_position + r / block.group;
      const std::int64_t visible = std::clamp<std::int64_t>(position + 1 - first, 0, tile.tokens);
      float* s = scores + r * kTile;
      std::fill(s + visible, s + tile.tokens, 0.0f);
      if (visible == 0) continue;
      const float max = std::max(out.max[r], kernels.max(s, visible));
      if (max != out.max[r]) {
        const float correction = std::exp(out.max[r] - max);
        out.sum[r] *= correction;
        kernels.scale(correction, dim, out.acc + r * dim);
        out.max[r] = max;
      }
      out.sum[r] += kernels.exp_sum(s, visible, max, s);
    }
    if (chunk.keys != nullptr) {
      kernels.gemm_nn(rows, dim, tile.tokens, scores, kTile, chunk.values + in_chunk, chunk.stride,
                      out.acc, dim, true);
    } else {
      cache.mix(kernels, tile, scores, kTile, rows, out.acc, dim);
    }
  }
}

/// total <- total + part, in the order of ranges.
inline void merge(const Kernels& kernels, std::int64_t rows, std::int64_t dim, const Partial& part,
                  const Partial& total) {
  for (std::int64_t r = 0; r < rows; ++r) {
    if (part.sum[r] == 0.0f) continue;
    const float max = std::max(total.max[r], part.max[r]);
    const float keep = std::exp(total.max[r] - max);
    const float add = std::exp(part.max[r] - max);
    total.sum[r] = total.sum[r] * keep + part.sum[r] * add;
    kernels.scale(keep, dim, total.acc + r * dim);
    kernels.axpy(add, part.acc + r * dim, dim, total.acc + r * dim);
    total.max[r] = max;
  }
}

/// q, out: [tokens, q_heads*dim]. The keys and values of these tokens are `chunk`, or already in
/// the cache when it is empty.
template <KvCache Cache>
void attend(Compute& compute, const Cache& cache, const AttentionWeights& w, std::int64_t slot,
            std::int64_t past, std::int64_t tokens, const float* q, std::int64_t ldq, float* out,
            std::int64_t ldo, const Chunk& chunk = {}) {
  Arena::Scope scope(compute.arena);
  const std::int64_t dim = w.head_dim;
  const std::int64_t group = w.q_heads / w.kv_heads;
  const std::int64_t block_tokens = std::clamp<std::int64_t>(kQueryRows / group, 1, tokens);
  const std::int64_t blocks = (tokens + block_tokens - 1) / block_tokens;
  const std::int64_t rows = block_tokens * group;
  const std::int64_t units = w.kv_heads * blocks;
  const std::int64_t cached = chunk.keys != nullptr ? past : past + tokens;
  const std::int64_t cached_ranges = (cached + kRange - 1) / kRange;
  const std::int64_t all_ranges = cached_ranges + (past + tokens - cached + kRange - 1) / kRange;

  const std::int64_t partial_floats = padded(rows) * 2 + padded(rows * dim);
  const auto partial_at = [&](float* p) {
    return Partial{p, p + padded(rows), p + padded(rows) * 2};
  };
  // Few queries: threads share the ranges of a block, so many at a time. Many: each block walks its
  // own ranges. Either way partials are merged in the order of ranges.
  const bool split_ranges = units < 4 * std::int64_t{compute.threads};
  const std::int64_t at_once =
      split_ranges
          ? std::clamp<std::int64_t>(kPartialFloats / (units * partial_floats), 1, all_ranges)
          : 1;
  auto* queries = compute.arena.take<float>(units * padded(rows * dim));
  const std::int64_t packed_bytes = (cache.packed_bytes(slot, rows) + 63) / 64 * 64;
  auto* packed = compute.arena.take<std::byte>(units * packed_bytes);
  auto* scores = compute.arena.take<float>(compute.threads * rows * kTile);
  auto* totals = compute.arena.take<float>(units * partial_floats);
  auto* partials = compute.arena.take<float>(
      (split_ranges ? units * at_once : std::int64_t{compute.threads}) * partial_floats);

  const auto block_of = [&](std::int64_t unit) {
    const std::int64_t t0 = unit % blocks * block_tokens;
    return QueryBlock{{queries + unit * padded(rows * dim), packed + unit * packed_bytes},
                      std::min(block_tokens, tokens - t0),
                      group,
                      past + t0};
  };
  const int unit_threads = blocks > 1 || packed_bytes > 0 ? compute.threads : 1;
  parallel_for(unit_threads, units, [&](std::int64_t unit) {
    const QueryBlock block = block_of(unit);
    const std::int64_t head = unit / blocks;
    float* to = queries + unit * padded(rows * dim);
    for (std::int64_t t = 0; t < block.tokens; ++t) {
      const float* from = q + (block.first_position - past + t) * ldq + head * group * dim;
      for (std::int64_t i = 0; i < group * dim; ++i) to[t * group * dim + i] = w.scale * from[i];
    }
    cache.prepare(compute.kernels, slot, head, to, block.tokens * group,
                  packed + unit * packed_bytes);
  });
  const auto range_of = [&](std::int64_t unit, std::int64_t index) {
    const QueryBlock block = block_of(unit);
    const bool in_cache = index < cached_ranges;
    const std::int64_t visible = block.first_position + block.tokens;
    const std::int64_t end = in_cache ? std::min(cached, visible) : visible;
    const std::int64_t first = in_cache ? index * kRange : past + (index - cached_ranges) * kRange;
    return KvRange{slot, unit / blocks, first, std::clamp<std::int64_t>(end - first, 0, kRange)};
  };
  const auto attend_one = [&](std::int64_t unit, std::int64_t index, float* s, const Partial& to) {
    const KvRange range = range_of(unit, index);
    Chunk rest;  // what of the chunk lies behind range.first
    if (index >= cached_ranges) {
      const std::int64_t skip = (range.first - past) * chunk.stride;
      rest = {chunk.keys + skip, chunk.values + skip, chunk.stride};
    }
    attend_range(compute.products(), cache, rest, range, block_of(unit), dim, s, to);
  };

  const auto total_of = [&](std::int64_t unit) {
    return partial_at(totals + unit * partial_floats);
  };
  const auto scores_of_thread = [&] { return scores + omp_get_thread_num() * rows * kTile; };
  // The ranges [first, first + at_once) of a unit; range 0 lies in the total already.
  const auto partial_of = [&](std::int64_t unit, std::int64_t first, std::int64_t index) {
    return index == 0 ? total_of(unit)
                      : partial_at(partials + (unit * at_once + index - first) * partial_floats);
  };
  const auto merge_ranges = [&](std::int64_t unit, std::int64_t first) {
    const std::int64_t end = std::min(first + at_once, all_ranges);
    for (std::int64_t index = std::max<std::int64_t>(first, 1); index < end; ++index) {
      merge(compute.kernels, block_of(unit).tokens * group, dim, partial_of(unit, first, index),
            total_of(unit));
    }
  };
  std::int64_t unmerged = 0;
  if (split_ranges) {
    for (std::int64_t first = 0; first < all_ranges; first += at_once) {
      if (first > 0) {
        parallel_for(unit_threads, units, [&](std::int64_t unit) { merge_ranges(unit, unmerged); });
      }
      unmerged = first;
      const std::int64_t count = std::min(at_once, all_ranges - first);
      parallel_for(compute.threads, units * count, [&](std::int64_t item) {
        const std::int64_t unit = item / count;
        const std::int64_t index = first + item % count;
        attend_one(unit, index, scores_of_thread(), partial_of(unit, first, index));
      });
    }
  } else {
    parallel_for(compute.threads, units, [&](std::int64_t unit) {
      const Partial part = partial_at(partials + omp_get_thread_num() * partial_floats);
      attend_one(unit, 0, scores_of_thread(), total_of(unit));
      for (std::int64_t index = 1; index < all_ranges; ++index) {
        if (range_of(unit, index).tokens == 0) break;
        attend_one(unit, index, scores_of_thread(), part);
        merge(compute.kernels, block_of(unit).tokens * group, dim, part, total_of(unit));
      }
    });
  }

  parallel_for(unit_threads, units, [&](std::int64_t unit) {
    const QueryBlock block = block_of(unit);
    const Partial total = total_of(unit);
    if (split_ranges) merge_ranges(unit, unmerged);
    const std::int64_t head = unit / blocks;
    cache.finish(compute.kernels, slot, head, total.acc, block.tokens * group, total.sum);
    for (std::int64_t r = 0; r < block.tokens * group; ++r) {
      float* to =
          out + (block.first_position - past + r / group) * ldo + (head * group + r % group) * dim;
      const float inverse = 1.0f / total.sum[r];
      for (std::int64_t i = 0; i < dim; ++i) to[i] = total.acc[r * dim + i] * inverse;
    }
  });
}

/// A matrix's rows for every token, biased.
struct Projection {
  const Matrix* matrix;
  const std::vector<float>* bias;
  float* rows;
  std::int64_t ld;
};

inline Projection projection(Compute& compute, const Matrix& matrix, const std::vector<float>& bias,
                             std::int64_t tokens) {
  const std::int64_t ld = padded(matrix.rows);
  return {&matrix, &bias, compute.arena.take<float>(tokens * ld), ld};
}

/// All of them in one parallel region.
inline void project(Compute& compute, Activations& x, std::span<const Projection> projections) {
  std::vector<Product> products;
  for (const Projection& p : projections) {
    products.push_back(
        {p.matrix, 0, x.form(*p.matrix), x.rows(), p.rows, p.ld, biased(*p.bias, *p.matrix)});
  }
  run_products(compute, products);
}

/// What attention() does between the projections; k and v have the same ld and are rotated already.
template <KvCache Cache>
void append_and_attend(Compute& compute, const AttentionWeights& w, Cache& cache, std::int64_t slot,
                       std::int64_t past, std::int64_t tokens, const Projection& q, const float* k,
                       const float* v, std::int64_t ldkv, float* mixed, std::int64_t ldm) {
  if constexpr (Cache::kExactChunk) {
    attend(compute, cache, w, slot, past, tokens, q.rows, q.ld, mixed, ldm, {k, v, ldkv});
    cache.append(compute.kernels, slot, past, k, v, ldkv, tokens);
  } else {
    cache.append(compute.kernels, slot, past, k, v, ldkv, tokens);
    attend(compute, cache, w, slot, past, tokens, q.rows, q.ld, mixed, ldm);
  }
}

/// attention(); `replay` may be null.
template <KvCache Cache>
void attention(Compute& compute, const AttentionWeights& w, Activations& x, Cache& cache,
               std::int64_t slot, std::int64_t past, float* out, std::int64_t ldo,
               KvReplay* replay) {
  Arena::Scope scope(compute.arena);
  const std::int64_t tokens = x.rows();
  const Projection q = projection(compute, w.q, w.q_bias, tokens);
  const Projection k = projection(compute, w.k, w.k_bias, tokens);
  const Projection v = projection(compute, w.v, w.v_bias, tokens);
  const Projection all[] = {q, k, v};
  project(compute, x, all);
  cache.rotate(compute.kernels, slot, k.rows, v.rows, k.ld, tokens);

  auto* mixed = compute.arena.take<float>(tokens * q.ld);
  // A policy that shows queries their own chunk as computed would show more of it than single
  // tokens see: then one token at a time.
  const std::int64_t step = replay != nullptr && Cache::kExactChunk ? 1 : tokens;
  for (std::int64_t t = 0; t < tokens; t += step) {
    const Projection rows{q.matrix, q.bias, q.rows + t * q.ld, q.ld};
    append_and_attend(compute, w, cache, slot, past + t, step, rows, k.rows + t * k.ld,
                      v.rows + t * v.ld, k.ld, mixed + t * q.ld, q.ld);
  }
  if (replay != nullptr) {
    const std::int64_t width = w.k.rows;
    replay->keys.resize(static_cast<std::size_t>(tokens * width));
    replay->values.resize(static_cast<std::size_t>(tokens * width));
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::copy_n(k.rows + t * k.ld, width, replay->keys.data() + t * width);
      std::copy_n(v.rows + t * v.ld, width, replay->values.data() + t * width);
    }
  }

  Activations mixed_rows(compute, mixed, tokens, w.q.rows, q.ld);
  linear(compute, w.o, mixed_rows, out, ldo, biased(w.o_bias, w.o));
}

}  // namespace detail

template <KvCache Cache>
void attention(Compute& compute, const AttentionWeights& w, Activations& x, Cache& cache,
               std::int64_t slot, std::int64_t past, float* out, std::int64_t ldo) {
  detail::attention(compute, w, x, cache, slot, past, out, ldo, nullptr);
}

template <KvCache Cache>
void attention(Compute& compute, const AttentionWeights& w, Activations& x, Cache& cache,
               std::int64_t slot, std::int64_t past, float* out, std::int64_t ldo,
               KvReplay& replay) {
  detail::attention(compute, w, x, cache, slot, past, out, ldo, &replay);
}

template <KvCache Cache>
void cache_keys(Compute& compute, const AttentionWeights& w, Activations& x, Cache& cache,
                std::int64_t slot, std::int64_t past) {
  Arena::Scope scope(compute.arena);
  const detail::Projection both[] = {detail::projection(compute, w.k, w.k_bias, x.rows()),
                                     detail::projection(compute, w.v, w.v_bias, x.rows())};
  detail::project(compute, x, both);
  const auto& [k, v] = both;
  cache.rotate(compute.kernels, slot, k.rows, v.rows, k.ld, x.rows());
  cache.append(compute.kernels, slot, past, k.rows, v.rows, k.ld, x.rows());
}

}  // namespace nemo
