// Float products of many rows with both operands rounded to bf16, 8 significant bits, where one
// instruction adds up two products: twice the speed of float ones.
//
// A word holds two numbers that are neighbours along the depth. Rows (queries, weights of values,
// activations) are packed as they lie; the shared side (keys, values, weight rows) is laid out in
// strips, lane = token, channel or weight row, and goes through the same register tiles as floats
// (gemm_tiles-inl.hpp). Every sum is over depth alone, so a row's result does not depend on the
// others.
//
// Pairs is what the hardware does:
//   round(first, second)      words of two vectors: lane i has element i of both
//   store_row(a, b, to)       2 * kLanes neighbours as kLanes words
//   add(acc, a, b)            acc + the products of the words' first and of their second numbers
//   vectors()                 the table for rows that are too wide
// Included after the instruction set's vector.hpp.
#pragma once

#include "gemm_tiles-inl.hpp"
#include "planar-inl.hpp"

#include <kernels/cpu/tables.hpp>

namespace nemo {
namespace {

constexpr std::int64_t kPairRows = 256;     // packed at once: 64 KiB of queries or weights
constexpr std::int64_t kPairDepth = 128;    // channels, or tokens: a strip is 16 KiB
constexpr std::int64_t kPairColumns = 128;  // channels of values
constexpr std::int64_t kPairWords = kPairDepth / 2;
constexpr std::int64_t kPairStripFloats = kPairWords * kStrip;
static_assert(kPairColumns % kStrip == 0);
constexpr std::int64_t kPackedBytes = std::int64_t{4} << 20;  // of activations, at once
static_assert(kPackedBytes <= std::int64_t{kMatmulScratchBytes});

template <class Pairs>
struct AddPairs {
  NEMO_SIMD static F add(F acc, F a, F b) { return Pairs::add(acc, as_words(a), as_words(b)); }
};

/// Rows of n numbers as words, `words` >= n / 2 apart and a multiple of kLanes.
template <class Pairs>
NEMO_SIMD void pack_pairs(const float* rows, std::int64_t ld, std::int64_t count, std::int64_t n,
                          float* out, std::int64_t words) {
  for (std::int64_t r = 0; r < count; ++r) {
    const float* from = rows + r * ld;
    for (std::int64_t i = 0; i < n; i += 2 * kLanes) {
      Pairs::store_row(load_upto(from + i, n - i), load_upto(from + i + kLanes, n - i - kLanes),
                       out + r * words + i / 2);
    }
  }
}

/// The numbers of words of neighbours, rounded.
template <class Pairs>
NEMO_SIMD F round_words(I words, const Half*) {
  return as_floats(Pairs::round(low_halves(words), high_halves(words)));
}
template <class Pairs>
NEMO_SIMD F round_words(I words, const BFloat16*) {
  return as_floats(words);
}

/// strip[w * kStrip + r] = numbers 2w and 2w + 1 of row r, for n numbers of kLanes rows.
template <class Pairs, class T>
NEMO_SIMD void expand_pairs(const T* rows, std::int64_t ld, std::int64_t n, float* strip) {
  std::int64_t w = 0;
  for (; 2 * w + 8 <= n; w += 4) {
    I four[4];
    I words[4];
    load_rows(reinterpret_cast<const std::byte*>(rows + 2 * w), 2 * ld, four);
    transpose(four, words);
    for (int i = 0; i < 4; ++i) {
      store(round_words<Pairs>(words[i], rows), strip + (w + i) * kStrip);
    }
  }
  for (; 2 * w < n; ++w) {
    alignas(64) T words[2 * kLanes] = {};
    for (int r = 0; r < kLanes; ++r) {
      words[2 * r] = rows[r * ld + 2 * w];
      if (2 * w + 1 < n) words[2 * r + 1] = rows[r * ld + 2 * w + 1];
    }
    store(round_words<Pairs>(load_bytes(words), rows), strip + w * kStrip);
  }
}

/// The same for `count` <= kStrip rows; `tails` has room for kLanes rows.
template <class Pairs, class T>
NEMO_SIMD void expand_pair_strip(const T* rows, std::int64_t ld, std::int64_t count, std::int64_t n,
                                 T* tails, float* strip) {
  for (std::int64_t r = 0; r < count; r += kLanes) {
    if (r + kLanes <= count) {
      expand_pairs<Pairs>(rows + r * ld, ld, n, strip + r);
      continue;
    }
    __builtin_memset(tails, 0, static_cast<std::size_t>(kLanes * n) * sizeof(T));
    for (std::int64_t i = r; i < count; ++i) {
      __builtin_memcpy(tails + (i - r) * n, rows + i * ld, static_cast<std::size_t>(n) * sizeof(T));
    }
    expand_pairs<Pairs>(tails, n, n, strip + r);
  }
}

/// Strips of words of n <= kPairColumns columns: word w has numbers 2w and 2w + 1 of its column, of
/// `depth` rows.
template <class Pairs, class T>
NEMO_SIMD void pack_strips(const T* rows, std::int64_t ld, std::int64_t depth, std::int64_t n,
                           float* strips) {
  for (std::int64_t w = 0; 2 * w < depth; ++w) {
    const T* first = rows + 2 * w * ld;
    for_lanes(n, [&](auto at) NEMO_SIMD_LAMBDA {
      const F second = 2 * w + 1 < depth ? at.load(first + ld) : F(0.0f);
      float* strip = strips + at.i / kStrip * kPairStripFloats + w * kStrip;
      store(as_floats(Pairs::round(at.load(first), second)), strip + at.i % kStrip);
    });
  }
}

/// As scores_half.
template <class Pairs>
void pair_scores(const float* q, std::int64_t ldq, std::int64_t rows, const Half* k,
                 std::int64_t ldk, std::int64_t tokens, std::int64_t dim, float* scores,
                 std::int64_t lds) noexcept {
  alignas(64) float queries[kPairRows * kPairWords];
  alignas(64) float keys[kPairWords * kStrip];
  alignas(64) Half tails[kLanes * kPairDepth];
  for (std::int64_t r = 0; r < rows; r += kPairRows) {
    const std::int64_t height = rows - r < kPairRows ? rows - r : kPairRows;
    for (std::int64_t c = 0; c < dim; c += kPairDepth) {
      const std::int64_t width = dim - c < kPairDepth ? dim - c : kPairDepth;
      const std::int64_t words = (width + 1) / 2;
      pack_pairs<Pairs>(q + r * ldq + c, ldq, height, width, queries, kPairWords);
      for (std::int64_t t = 0; t < tokens; t += kStrip) {
        const std::int64_t count = tokens - t < kStrip ? tokens - t : kStrip;
        expand_pair_strip<Pairs>(k + t * ldk + c, ldk, count, width, tails, keys);
        const std::int64_t steps = r + c == 0 ? strip_steps(height, count, words) : 0;
        Ahead ahead = rows_ahead(k + t * ldk, ldk, count, steps);
        strip_product<AddPairs<Pairs>>(height, count, words, queries, kPairWords, keys, 0,
                                       scores + r * lds + t, lds, c > 0, ahead);
      }
    }
  }
}

/// As mix_half.
template <class Pairs>
void pair_mix(const float* p, std::int64_t ldp, std::int64_t rows, const Half* v, std::int64_t ldv,
              std::int64_t tokens, std::int64_t dim, float* out, std::int64_t ldo) noexcept {
  alignas(64) float weights[kPairRows * kPairWords];
  alignas(64) float values[kPairColumns / kStrip * kPairStripFloats];
  for (std::int64_t r = 0; r < rows; r += kPairRows) {
    const std::int64_t height = rows - r < kPairRows ? rows - r : kPairRows;
    for (std::int64_t t = 0; t < tokens; t += kPairDepth) {
      const std::int64_t count = tokens - t < kPairDepth ? tokens - t : kPairDepth;
      const std::int64_t words = (count + 1) / 2;
      pack_pairs<Pairs>(p + r * ldp + t, ldp, height, count, weights, kPairWords);
      for (std::int64_t c = 0; c < dim; c += kPairColumns) {
        const std::int64_t width = dim - c < kPairColumns ? dim - c : kPairColumns;
        pack_strips<Pairs>(v + t * ldv + c, ldv, count, width, values);
        const std::int64_t steps = r + c == 0 ? strip_steps(height, width, words) : 0;
        Ahead ahead = rows_ahead(v + t * ldv, ldv, count, steps);
        strip_product<AddPairs<Pairs>>(height, width, words, weights, kPairWords, values,
                                       kPairStripFloats, out + r * ldo + c, ldo, true, ahead);
      }
    }
  }
}

/// Strips of columns [first, first + n) of rows [r, r + count) of weights, n <= kPairDepth.
template <class Pairs>
struct BFloat16Strips {
  static constexpr DType kType = DType::bf16;
  NEMO_SIMD static void pack(const WeightRows& w, std::int64_t r, std::int64_t count,
                             std::int64_t first, std::int64_t n, float* strip) {
    alignas(64) BFloat16 tails[kLanes * kPairDepth];
    const auto* rows = reinterpret_cast<const BFloat16*>(w.data + r * w.row_bytes);
    expand_pair_strip<Pairs>(rows + first, w.row_bytes / 2, count, n, tails, strip);
  }
};
/// The same of weights that must be expanded: E4M3 codes and their products with powers of two are
/// bf16 numbers, others are rounded.
template <class Pairs, class Codes>
struct PlanarStrips {
  static constexpr DType kType = Codes::kType;
  NEMO_SIMD static void pack(const WeightRows& w, std::int64_t r, std::int64_t count,
                             std::int64_t first, std::int64_t n, float* strip) {
    alignas(64) float values[kPairDepth];
    alignas(64) float words[kStrip * kPairWords];
    for (std::int64_t i = 0; i < count; ++i) {
      expand_planar<Codes>(w, r + i, first, n, values);
      pack_pairs<Pairs>(values, 0, 1, n, words + i * kPairWords, kPairWords);
    }
    transpose_strip(count, (n + 1) / 2, words, kPairWords, strip);
  }
};

template <class Pairs, class Strips>
void pair_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
                 std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
                 std::byte* scratch) noexcept {
  const std::int64_t pieces = (w.cols + kPairDepth - 1) / kPairDepth;
  const std::int64_t most = kPackedBytes / (pieces * kPairWords * 4);
  if (most == 0) {
    Pairs::vectors()
        .format(Strips::kType)
        .matmul(w, row0, rows, acts, act_stride, tokens, y, ldy, scratch);
    return;
  }
  auto* packed = reinterpret_cast<float*>(scratch);  // [pieces, tokens, kPairWords]
  alignas(64) float strip[kPairWords * kStrip];
  const auto ldx = act_stride / static_cast<std::int64_t>(sizeof(float));
  for (std::int64_t t = 0; t < tokens; t += most) {
    const std::int64_t count = tokens - t < most ? tokens - t : most;
    const auto width_of = [&](std::int64_t piece) NEMO_SIMD_LAMBDA {
      const std::int64_t rest = w.cols - piece * kPairDepth;
      return rest < kPairDepth ? rest : kPairDepth;
    };
    const auto* x = reinterpret_cast<const float*>(acts + t * act_stride);
    for (std::int64_t i = 0; i < pieces; ++i) {
      pack_pairs<Pairs>(x + i * kPairDepth, ldx, count, width_of(i),
                        packed + i * count * kPairWords, kPairWords);
    }
    for (std::int64_t r = 0; r < rows; r += kStrip) {
      const std::int64_t height = rows - r < kStrip ? rows - r : kStrip;
      const std::int64_t next = rows - r - kStrip < kStrip ? rows - r - kStrip : kStrip;
      const std::int64_t steps = strip_steps(count, height, kPairWords);
      Ahead ahead;
      if (next > 0) {
        ahead = {w.data + (row0 + r + kStrip) * w.row_bytes, next * w.row_bytes, steps * pieces};
      }
      for (std::int64_t i = 0; i < pieces; ++i) {
        const std::int64_t width = width_of(i);
        Strips::pack(w, row0 + r, height, i * kPairDepth, width, strip);
        strip_product<AddPairs<Pairs>>(count, height, (width + 1) / 2,
                                       packed + i * count * kPairWords, kPairWords, strip, 0,
                                       y + t * ldy + r, ldy, i > 0, ahead);
      }
    }
  }
}

/// As Kernels::peak_bf16.
template <class Pairs>
std::int64_t peak_pairs(std::int64_t rounds, float* sink) noexcept {
  constexpr int kChains = 12;
  const I words = Pairs::round(F(sink[0]), F(0.5f));
  F acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = F(static_cast<float>(i));
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (int i = 0; i < kChains; ++i) acc[i] = Pairs::add(acc[i], words, words);
  }
  for (int i = 1; i < kChains; ++i) acc[0] = acc[0] + acc[i];
  sink[0] = sum(acc[0]);
  return 2 * rounds * kChains * 2 * kLanes;
}

}  // namespace
}  // namespace nemo
