// Attention products on a matrix unit that multiplies bf16 numbers and adds in float.
//
// With kParts = 2 a number is taken as the sum of two bf16 parts, high and low, 8 significant bits
// each. A half is exactly that; a float loses at most 2^-17 of itself. Of the four products of
// parts low * low is left out, at most 2^-16 of the whole; the others are added in one float sum:
//   a * b ~ a_low * b_high + a_high * b_high + a_high * b_low
// Infinities have no parts: they become NaN. With kParts = 1, for prefill, a number is rounded to
// one, and a third of the products remains. Every sum is over depth alone, so a result does not
// depend on how many rows share the unit.
//
// Operands are tiles, kLanes rows of kLanes words, a word two parts of the depth. Those are not
// neighbours but kLanes apart, so that two vectors of floats become a row without a shuffle: word w
// of depth block b has elements 2 kLanes b + w and 2 kLanes b + kLanes + w. The shared side (keys,
// values) meets all rows of the other one (queries, weights):
//   scores^T [tokens, rows] = keys [tokens, dim] * queries^T [dim, rows]
//   out [rows, dim] += weights [rows, tokens] * values [tokens, dim]
//
// Unit is what the hardware does, with eight registers that hold a tile each:
//   configure(rows, words)  registers 0..3, 6 and 7 have `rows` <= kLanes rows of `words` <= kLanes
//                           words, 4 and 5 kLanes of kLanes
//   zero<r>(), load<r>(tile, bytes from row to row), store<r>(tile)
//   multiply<c, a, b>()     c [i, j] += sum over words w of a [i, w] . b [w, j]
//   release()               no product follows
//   vectors()               the table for what it cannot do
// Included after the instruction set's vector.hpp.
#pragma once

#include "lanes-inl.hpp"

#include <type_traits>

namespace nemo {
namespace {

constexpr std::int64_t kLineBytes = sizeof(F);
constexpr std::int64_t kTileBytes = kLanes * kLineBytes;
constexpr std::int64_t kTileFloats = kLanes * kLanes;
constexpr std::int64_t kTileDepth = 2 * kLanes;
constexpr std::int64_t kPassDepth = 128;   // elements of depth summed in the unit
constexpr std::int64_t kSharedBlocks = 4;  // of kLanes tokens or columns
constexpr std::int64_t kShared = kSharedBlocks * kLanes;
/// Rows whose parts are kept: 32 KiB, or 64 KiB in prefill, which has many.
template <int kParts>
constexpr std::int64_t kPassRows = kParts == 2 ? 64 : 256;
/// A block of kLanes rows or columns: [depth blocks, part, tile], the high part first.
template <int kParts>
constexpr std::int64_t kBlockBytes = (kPassDepth / kTileDepth) * (kParts * kTileBytes);

constexpr std::int64_t blocks_of(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}

/// One row of a tile of high parts and of the tile of low parts behind it.
template <class T, int kParts>
NEMO_SIMD void store_parts(F first, F second, std::byte* to) {
  // Halves are cut, for their rest has 3 bits and is a part; floats are rounded, and their rest.
  constexpr bool kCut = std::is_same_v<T, Half> && kParts == 2;
  const I top = all_words(-0x10000);
  const auto at = [&](F v) NEMO_SIMD_LAMBDA {
    return kCut ? as_words(v) : add_words(as_words(v), all_words(0x8000));
  };
  const I high[2] = {at(first), at(second)};
  const I odd = and_bits(high[1], top);
  store_bytes(or_bits(shift_words_right<16>(high[0]), odd), to);
  if constexpr (kParts == 1) return;
  const I low[2] = {at(first - as_floats(and_bits(high[0], top))), at(second - as_floats(odd))};
  const I odd_low = kCut ? low[1] : and_bits(low[1], top);
  store_bytes(or_bits(shift_words_right<16>(low[0]), odd_low), to + kTileBytes);
}

/// Row `to` of the tiles of a block: n elements along the depth.
template <int kParts, class T>
NEMO_SIMD void row_parts(const T* from, std::int64_t n, std::byte* to) {
  std::int64_t i = 0;
  for (; i + kTileDepth <= n; i += kTileDepth, to += kParts * kTileBytes) {
    store_parts<T, kParts>(load(from + i), load(from + i + kLanes), to);
  }
  if (i < n) {
    store_parts<T, kParts>(load_upto(from + i, n - i), load_upto(from + i + kLanes, n - i - kLanes),
                           to);
  }
}

/// The same, of zeros.
template <int kParts>
NEMO_SIMD void zero_row(std::int64_t n, std::byte* to) {
  for (std::int64_t i = 0; i < n; i += kTileDepth, to += kParts * kTileBytes) {
    store_parts<Half, kParts>(F(0.0f), F(0.0f), to);
  }
}

/// kTileDepth columns of `count` <= kLanes rows that have n of them; zeros behind.
class Square {
 public:
  NEMO_SIMD Square(const float* rows, std::int64_t ld, std::int64_t count, std::int64_t n)
      : from_(rows), stride_(ld) {
    if (count == kLanes && n >= kTileDepth) return;
    for (std::int64_t r = 0; r < kLanes; ++r) {
      const std::int64_t width = r < count ? n : 0;
      float* row = copy_ + r * kTileDepth;
      store(load_upto(rows + r * ld, width), row);
      store(load_upto(rows + r * ld + kLanes, width - kLanes), row + kLanes);
    }
    from_ = copy_;
    stride_ = kTileDepth;
  }
  Square(const Square&) = delete;  // it may point into itself
  Square& operator=(const Square&) = delete;
  /// Columns c..c+3, lane = row.
  NEMO_SIMD void columns(std::int64_t c, I (&out)[4]) const {
    I four[4];
    load_rows(reinterpret_cast<const std::byte*>(from_ + c), 4 * stride_, four);
    transpose(four, out);
  }

 private:
  const float* from_;
  std::int64_t stride_;
  alignas(64) float copy_[kLanes * kTileDepth];
};

/// A block whose columns are `count` <= kLanes rows of n elements, zeros behind them.
template <int kParts>
NEMO_SIMD void transposed_parts(const float* rows, std::int64_t ld, std::int64_t count,
                                std::int64_t n, std::byte* to) {
  for (std::int64_t i = 0; i < n; i += kTileDepth, to += kParts * kTileBytes) {
    const Square from(rows + i, ld, count, n - i);
    for (std::int64_t e = 0; e < kLanes; e += 4) {
      I first[4], second[4];
      from.columns(e, first);
      from.columns(e + kLanes, second);
      for (int k = 0; k < 4; ++k) {
        store_parts<float, kParts>(as_floats(first[k]), as_floats(second[k]),
                                   to + (e + k) * kLineBytes);
      }
    }
  }
}

/// kSharedBlocks blocks whose columns are `width` columns of n rows, zeros behind them.
template <int kParts, class T>
NEMO_SIMD void column_parts(const T* rows, std::int64_t ld, std::int64_t n, std::int64_t width,
                            std::byte* to) {
  for (std::int64_t i = 0; i < n; i += kTileDepth, to += kParts * kTileBytes) {
    for (std::int64_t w = 0; w < kLanes; ++w) {
      const T* first = rows + (i + w) * ld;
      const T* second = first + kLanes * ld;
      std::byte* line = to + w * kLineBytes;
      if (i + kTileDepth <= n && width >= kShared) {
        unroll<kSharedBlocks>([&](auto b) NEMO_SIMD_LAMBDA {
          store_parts<T, kParts>(load(first + b.k * kLanes), load(second + b.k * kLanes),
                                 line + b.k * kBlockBytes<kParts>);
        });
        continue;
      }
      for (std::int64_t b = 0; b < kSharedBlocks; ++b) {
        const std::int64_t c = b * kLanes;
        store_parts<T, kParts>(load_upto(first + c, i + w < n ? width - c : 0),
                               load_upto(second + c, i + w + kLanes < n ? width - c : 0),
                               line + b * kBlockBytes<kParts>);
      }
    }
  }
}

/// sums[x, y] = block x of the shared side times block y of the other one, over `depth` tiles; the
/// shared side has the rows of the product or its columns.
template <class Unit, int kParts, bool kSharedRows, int kX, int kY>
void multiply_blocks(const std::byte* shared, const std::byte* other, std::int64_t depth,
                     float* sums) noexcept {
  static_assert((kX == 4 && kY == 1) || (kX == 2 && kY == 2));
  const auto multiply = [](auto x, auto y, auto in_x, auto in_y) NEMO_SIMD_LAMBDA {
    constexpr int kSums = decltype(x)::k * kY + decltype(y)::k;
    constexpr int kFirst = kSharedRows ? decltype(in_x)::k : decltype(in_y)::k;
    constexpr int kSecond = kSharedRows ? decltype(in_y)::k : decltype(in_x)::k;
    Unit::template multiply<kSums, kFirst, kSecond>();
  };
  unroll<4>([](auto i) NEMO_SIMD_LAMBDA { Unit::template zero<decltype(i)::k>(); });
  for (std::int64_t b = 0; b < depth; ++b) {
    const std::byte* x = shared + kParts * b * kTileBytes;
    const std::byte* y = other + kParts * b * kTileBytes;
    const std::byte* low_x = x + kTileBytes;
    const std::byte* low_y = y + kTileBytes;
    if constexpr (kY == 1) {
      Unit::template load<6>(y, kLineBytes);
      if constexpr (kParts == 2) {
        Unit::template load<7>(low_y, kLineBytes);
        unroll<kX>([&](auto i) NEMO_SIMD_LAMBDA {
          using In = Index<4 + decltype(i)::k % 2>;
          Unit::template load<In::k>(low_x + i.k * kBlockBytes<kParts>, kLineBytes);
          multiply(i, Index<0>{}, In{}, Index<6>{});
        });
      }
      unroll<kX>([&](auto i) NEMO_SIMD_LAMBDA {
        using In = Index<4 + decltype(i)::k % 2>;
        Unit::template load<In::k>(x + i.k * kBlockBytes<kParts>, kLineBytes);
        multiply(i, Index<0>{}, In{}, Index<6>{});
        if constexpr (kParts == 2) multiply(i, Index<0>{}, In{}, Index<7>{});
      });
    } else {
      const auto load_two = [](auto first, const std::byte* from) NEMO_SIMD_LAMBDA {
        Unit::template load<decltype(first)::k>(from, kLineBytes);
        Unit::template load<decltype(first)::k + 1>(from + kBlockBytes<kParts>, kLineBytes);
      };
      const auto multiply_all = [&]() NEMO_SIMD_LAMBDA {
        unroll<4>([&](auto i) NEMO_SIMD_LAMBDA {
          using X = Index<decltype(i)::k / 2>;
          using Y = Index<decltype(i)::k % 2>;
          multiply(X{}, Y{}, Index<4 + X::k>{}, Index<6 + Y::k>{});
        });
      };
      load_two(Index<6>{}, y);
      if constexpr (kParts == 2) {
        load_two(Index<4>{}, low_x);
        multiply_all();
      }
      load_two(Index<4>{}, x);
      multiply_all();
      if constexpr (kParts == 2) {
        load_two(Index<6>{}, low_y);
        multiply_all();
      }
    }
  }
  unroll<4>([&](auto i) NEMO_SIMD_LAMBDA {
    Unit::template store<decltype(i)::k>(sums + i.k * kTileFloats);
  });
}

/// Calls finish(shared block, other block, sums) for all pairs of blocks.
template <class Unit, int kParts, bool kSharedRows, class Finish>
NEMO_SIMD void multiply_sides(const std::byte* shared, const std::byte* other, std::int64_t blocks,
                              std::int64_t depth, Finish finish) {
  alignas(64) float sums[4 * kTileFloats];
  std::int64_t y = 0;
  for (; y + 2 <= blocks; y += 2) {
    for (std::int64_t x = 0; x < kSharedBlocks; x += 2) {
      multiply_blocks<Unit, kParts, kSharedRows, 2, 2>(
          shared + x * kBlockBytes<kParts>, other + y * kBlockBytes<kParts>, depth, sums);
      for (std::int64_t i = 0; i < 4; ++i) finish(x + i / 2, y + i % 2, sums + i * kTileFloats);
    }
  }
  if (y < blocks) {
    multiply_blocks<Unit, kParts, kSharedRows, 4, 1>(shared, other + y * kBlockBytes<kParts>, depth,
                                                     sums);
    for (std::int64_t i = 0; i < 4; ++i) finish(i, y, sums + i * kTileFloats);
  }
}

/// As scores_half.
template <class T, class Unit, int kParts>
void unit_scores(const float* q, std::int64_t ldq, std::int64_t rows, const T* k, std::int64_t ldk,
                 std::int64_t tokens, std::int64_t dim, float* scores, std::int64_t lds) noexcept {
  alignas(64) std::byte queries[kPassRows<kParts> / kLanes * kBlockBytes<kParts>];
  alignas(64) std::byte keys[kSharedBlocks * kBlockBytes<kParts>];
  Unit::configure(kLanes, kLanes);
  for (std::int64_t r0 = 0; r0 < rows; r0 += kPassRows<kParts>) {
    const std::int64_t height = rows - r0 < kPassRows<kParts> ? rows - r0 : kPassRows<kParts>;
    const std::int64_t blocks = blocks_of(height, kLanes);
    for (std::int64_t c = 0; c < dim; c += kPassDepth) {
      const std::int64_t n = dim - c < kPassDepth ? dim - c : kPassDepth;
      for (std::int64_t b = 0; b < blocks; ++b) {
        const std::int64_t r = b * kLanes;
        transposed_parts<kParts>(q + (r0 + r) * ldq + c, ldq,
                                 height - r < kLanes ? height - r : kLanes, n,
                                 queries + b * kBlockBytes<kParts>);
      }
      for (std::int64_t t = 0; t < tokens; t += kShared) {
        const std::int64_t count = tokens - t < kShared ? tokens - t : kShared;
        for (std::int64_t i = 0; i < kShared; ++i) {
          std::byte* to = keys + i / kLanes * kBlockBytes<kParts> + i % kLanes * kLineBytes;
          if (i < count) {
            row_parts<kParts>(k + (t + i) * ldk + c, n, to);
          } else {
            zero_row<kParts>(n, to);
          }
        }
        const auto finish = [&](std::int64_t x, std::int64_t y,
                                const float* sums) NEMO_SIMD_LAMBDA {
          const std::int64_t width = count - x * kLanes;
          float* to = scores + (r0 + y * kLanes) * lds + t + x * kLanes;
          for (std::int64_t r = 0; r < kLanes && width > 0; r += 4) {
            I four[4], out[4];
            load_rows(reinterpret_cast<const std::byte*>(sums + r), kLineBytes, four);
            transpose(four, out);
            for (std::int64_t i = 0; i < 4 && y * kLanes + r + i < height; ++i) {
              float* row = to + (r + i) * lds;
              F v = as_floats(out[i]);
              if (c > 0) v = load_upto(row, width) + v;
              store_upto(v, row, width);
            }
          }
        };
        multiply_sides<Unit, kParts, true>(keys, queries, blocks, blocks_of(n, kTileDepth), finish);
      }
    }
  }
  Unit::release();
}

/// As mix_half.
template <class T, class Unit, int kParts>
void unit_mix(const float* p, std::int64_t ldp, std::int64_t rows, const T* v, std::int64_t ldv,
              std::int64_t tokens, std::int64_t dim, float* out, std::int64_t ldo) noexcept {
  alignas(64) std::byte weights[kPassRows<kParts> / kLanes * kBlockBytes<kParts>];
  alignas(64) std::byte values[kSharedBlocks * kBlockBytes<kParts>];
  if (rows == 0) return;
  Unit::configure(rows < kLanes ? rows : kLanes, kLanes);
  for (std::int64_t r0 = 0; r0 < rows; r0 += kPassRows<kParts>) {
    const std::int64_t height = rows - r0 < kPassRows<kParts> ? rows - r0 : kPassRows<kParts>;
    const std::int64_t blocks = blocks_of(height, kLanes);
    for (std::int64_t t = 0; t < tokens; t += kPassDepth) {
      const std::int64_t n = tokens - t < kPassDepth ? tokens - t : kPassDepth;
      for (std::int64_t r = 0; r < blocks * kLanes; ++r) {
        std::byte* to = weights + r / kLanes * kBlockBytes<kParts> + r % kLanes * kLineBytes;
        if (r < height) {
          row_parts<kParts>(p + (r0 + r) * ldp + t, n, to);
        } else {
          zero_row<kParts>(n, to);
        }
      }
      for (std::int64_t c = 0; c < dim; c += kShared) {
        column_parts<kParts>(v + t * ldv + c, ldv, n, dim - c, values);
        const auto finish = [&](std::int64_t x, std::int64_t y,
                                const float* sums) NEMO_SIMD_LAMBDA {
          const std::int64_t width = dim - c - x * kLanes;
          float* to = out + (r0 + y * kLanes) * ldo + c + x * kLanes;
          for (std::int64_t r = 0; r < kLanes && y * kLanes + r < height && width > 0; ++r) {
            float* row = to + r * ldo;
            store_upto(load_upto(row, width) + load(sums + r * kLanes), row, width);
          }
        };
        multiply_sides<Unit, kParts, false>(values, weights, blocks, blocks_of(n, kTileDepth),
                                            finish);
      }
    }
  }
  Unit::release();
}

}  // namespace
}  // namespace nemo
