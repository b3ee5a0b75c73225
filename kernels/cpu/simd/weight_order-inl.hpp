// The two orders that rows of a block format may lie in, kLanes rows at a time; included after the
// instruction set's vector.hpp.
//
// File order: row after row. Kernel order: slabs of groups of kLanes rows, strip of columns after
// strip (KernelOrder); in a strip group after group, in a group block after block of all its rows,
// and in a block field after field: the field at byte `at` of row r's block lies at
//   at * kLanes + r * (bytes of the field)
// Fields are words of 4 bytes, and the size % 4 bytes that are left: the scale, at the block's
// start or end. So a vector is one word of every row, which is what products want, and what rows in
// file order have to be loaded row by row and transposed for. Not a bit more or less is stored;
// those that a format keeps in a word of its own for 32 elements (fifth_bits) change places.
#pragma once

#include "lanes-inl.hpp"

namespace nemo {
namespace {

/// Words of 16 bytes of every row, lane = row.
struct RowWords {
  I w[4];
};
NEMO_SIMD RowWords row_words(const std::byte* p, std::int64_t stride) {
  I rows[4];
  RowWords words;
  load_rows(p, stride, rows);
  transpose(rows, words.w);
  return words;
}

/// Byte kByte of every word, unsigned.
template <int kByte>
NEMO_SIMD I byte_of(I v) {
  return kByte == 3 ? shift_words_right<24>(v)
                    : and_bits(shift_words_right<8 * kByte>(v), all_words(255));
}

/// One block of kSize bytes of each of kLanes rows, and what is at byte kAt of all of them.
template <int kSize>
struct FileBlocks {
  static constexpr bool kKernelOrder = false;
  const std::byte* p;
  std::int64_t stride;

  /// 16 bytes of codes, as load_rows; bytes of a row stay together.
  NEMO_SIMD void codes(int at, I (&out)[4]) const { load_rows(p + at, stride, out); }
  /// Words kAt, kAt + 4, ...; kCount of them are valid.
  template <int kAt, int kCount = 4>
  NEMO_SIMD RowWords words() const {
    constexpr int kFrom = kAt + 16 <= kSize ? kAt : kSize - 16;
    I rows[4];
    RowWords words;
    load_rows(p + kFrom, stride, rows);
    if constexpr (kFrom < kAt) {
      for (I& row : rows) row = drop_bytes<kAt - kFrom>(row);
    }
    transpose(rows, words.w);
    return words;
  }
  template <int kAt>
  NEMO_SIMD I word() const {
    constexpr int kFrom = kAt + 16 <= kSize ? kAt : kSize - 16;
    static_assert((kAt - kFrom) % 4 == 0);
    return row_words(p + kFrom, stride).w[(kAt - kFrom) / 4];
  }
  template <int kAt>
  NEMO_SIMD F half() const {
    constexpr int kFrom = kAt + 16 <= kSize ? kAt : kSize - 16;
    const I word = row_words(p + kFrom, stride).w[(kAt - kFrom) / 4];
    return (kAt - kFrom) % 4 == 0 ? low_halves(word) : high_halves(word);
  }
  template <int kAt>
  NEMO_SIMD I byte() const {
    return byte_of<0>(word<kAt>());
  }
  NEMO_SIMD void next() { p += kSize; }
};

/// The same in kernel order, where codes() gives words: vector g = bytes 4g .. 4g+3.
template <int kSize>
struct KernelBlocks {
  static constexpr bool kKernelOrder = true;
  const std::byte* p;

  NEMO_SIMD void codes(int at, I (&out)[4]) const {
    for (int g = 0; g < 4; ++g) out[g] = load_bytes(p + (at + 4 * g) * kLanes);
  }
  template <int kAt, int kCount = 4>
  NEMO_SIMD RowWords words() const {
    RowWords words;
    for (int i = 0; i < kCount; ++i) words.w[i] = load_bytes(p + (kAt + 4 * i) * kLanes);
    return words;
  }
  template <int kAt>
  NEMO_SIMD I word() const {
    return load_bytes(p + kAt * kLanes);
  }
  template <int kAt>
  NEMO_SIMD F half() const {
    return load(reinterpret_cast<const Half*>(p + kAt * kLanes));
  }
  template <int kAt>
  NEMO_SIMD I byte() const {
    return load_byte_words(p + kAt * kLanes);
  }
  NEMO_SIMD void next() { p += kSize * kLanes; }
};

template <class Block>
struct Unpack;

template <class Block>
constexpr std::int64_t bytes_of(std::int64_t cols) {
  return cols / Block::kElements * static_cast<std::int64_t>(sizeof(Block));
}

/// Calls fn(at, bytes) for every field of a block.
template <class Block, class Fn>
NEMO_SIMD void for_fields(Fn fn) {
  constexpr int kSize = sizeof(Block);
  constexpr int kOdd = kSize % 4;
  constexpr int kOddAt = Unpack<Block>::kScaleLast ? kSize - kOdd : 0;
  if constexpr (kOdd != 0) fn(kOddAt, kOdd);
  for (int at = kOddAt == 0 ? kOdd : 0; at + 4 <= kSize; at += 4) fn(at, 4);
}

/// Bit 4q + k of a word goes to 8k + q: from the order of elements to bit q of byte k for element k
/// of quad q.
NEMO_SIMD std::uint32_t bits_by_quads(std::uint32_t bits) {
  std::uint32_t out = 0;
  for (int k = 0; k < 4; ++k) {
    std::uint32_t x = (bits >> k) & 0x11111111u;
    x = (x | x >> 3) & 0x03030303u;
    x = (x | x >> 6) & 0x000f000fu;
    x = (x | x >> 12) & 0xffu;
    out |= x << (8 * k);
  }
  return out;
}
NEMO_SIMD std::uint32_t bits_by_elements(std::uint32_t bits) {
  std::uint32_t out = 0;
  for (int k = 0; k < 4; ++k) {
    std::uint32_t x = (bits >> (8 * k)) & 0xffu;
    x = (x | x << 12) & 0x000f000fu;
    x = (x | x << 6) & 0x03030303u;
    x = (x | x << 3) & 0x11111111u;
    out |= x << k;
  }
  return out;
}

/// Applies `change` to the word at `at`.
template <class Fn>
NEMO_SIMD void change_word(std::byte* at, Fn change) {
  std::uint32_t word;
  __builtin_memcpy(&word, at, 4);
  word = change(word);
  __builtin_memcpy(at, &word, 4);
}

/// Where column c of the group that starts with row r lies in a matrix of rows x cols in kernel
/// order: so many elements from the start of its slab, that of row `slab`.
struct PlaceInOrder {
  std::int64_t slab;
  std::int64_t strip;   // its first column
  std::int64_t height;  // rows of the slab
  std::int64_t width;   // columns of the strip
  std::int64_t row;     // of the slab
  std::int64_t column;  // of the strip

  NEMO_SIMD PlaceInOrder(std::int64_t rows, std::int64_t cols, std::int64_t r, std::int64_t c) {
    const std::int64_t slab_rows = KernelOrder::slab_rows(kLanes, cols);
    const std::int64_t strip_cols = KernelOrder::strip_cols(cols);
    slab = r / slab_rows * slab_rows;
    strip = c / strip_cols * strip_cols;
    height = rows - slab < slab_rows ? rows - slab : slab_rows;
    width = cols - strip < strip_cols ? cols - strip : strip_cols;
    row = r - slab;
    column = c - strip;
  }
  [[nodiscard]] NEMO_SIMD std::int64_t elements() const {
    return strip * height + row * width + column * kLanes;
  }
};

/// Calls fn(r, c, cols of them) for the groups of `rows` rows in the order in which they lie.
template <class Fn>
NEMO_SIMD void for_order(std::int64_t rows, std::int64_t cols, Fn fn) {
  const std::int64_t slab_rows = KernelOrder::slab_rows(kLanes, cols);
  const std::int64_t strip_cols = KernelOrder::strip_cols(cols);
  for (std::int64_t slab = 0; slab < rows; slab += slab_rows) {
    const std::int64_t end = rows - slab < slab_rows ? rows : slab + slab_rows;
    for (std::int64_t c = 0; c < cols; c += strip_cols) {
      for (std::int64_t r = slab; r < end; r += kLanes) {
        fn(r, c, cols - c < strip_cols ? cols - c : strip_cols);
      }
    }
  }
}

/// FormatKernels::to_kernel_order.
template <class Block>
void to_kernel_order(const WeightRows& from, std::int64_t row0, std::int64_t rows,
                     const RowsOut& out) noexcept {
  std::byte* to = out.codes;
  for_order(rows, from.cols, [&](std::int64_t r0, std::int64_t c, std::int64_t width) {
    const std::byte* first = from.data + (row0 + r0) * from.row_bytes + bytes_of<Block>(c);
    for (std::int64_t b = 0; b < width / Block::kElements; ++b) {
      for_fields<Block>([&](int at, int bytes) NEMO_SIMD_LAMBDA {
        for (int r = 0; r < kLanes; ++r) {
          __builtin_memcpy(to + at * kLanes + r * bytes, first + r * from.row_bytes + at,
                           static_cast<std::size_t>(bytes));
        }
      });
      if constexpr (Unpack<Block>::kFifthBitsAt != 0) {
        for (int r = 0; r < kLanes; ++r) {
          change_word(to + Unpack<Block>::kFifthBitsAt * kLanes + 4 * r, bits_by_quads);
        }
      }
      first += sizeof(Block);
      to += kLanes * sizeof(Block);
    }
  });
}

/// The block of row `lane` of kLanes blocks in kernel order.
template <class Block>
NEMO_SIMD void block_of_row(const std::byte* p, int lane, std::byte* block) {
  for_fields<Block>([&](int at, int bytes) NEMO_SIMD_LAMBDA {
    __builtin_memcpy(block + at, p + at * kLanes + lane * bytes, static_cast<std::size_t>(bytes));
  });
  if constexpr (Unpack<Block>::kFifthBitsAt != 0) {
    change_word(block + Unpack<Block>::kFifthBitsAt, bits_by_elements);
  }
}

}  // namespace
}  // namespace nemo
