// Integer products of few tokens with codes that lie apart from their scales: they are multiplied
// as they lie in their rows. Included after the instruction set's vector.hpp.
//
// Nibbles of 16 bytes are the even and the odd elements of 32; instead of them the activations are
// put in that order, once for all rows. Codes of other widths are brought into bytes by windows.
#pragma once

#include "ahead-inl.hpp"
#include "code_levels-inl.hpp"
#include "code_windows-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kLaidOutBytes = std::int64_t{kMatmulScratchBytes} - kQ8ScratchBytes;

/// Codes of a tile from kLanes rows at p, as load_rows, each in a byte.
template <class Codes>
struct RowTiles {};

template <int kBits, DType kType>
struct RowTiles<AffineCodes<kBits, kType>> {
  static constexpr int kBytes = 4 * kBits;  // of a tile
  static constexpr int kEvensFirst = 0;     // in so many columns; 0: columns in order
  NEMO_SIMD static void load(const std::byte* p, std::int64_t tile, std::int64_t stride,
                             I (&low)[4], I (&high)[4]) {
    kStreamWindows<kBits>.load_tile(p, tile, stride, low, high);
  }
};
struct NibbleTiles {
  static constexpr int kBytes = 16;
  static constexpr int kEvensFirst = 32;
  NEMO_SIMD static void load(const std::byte* p, std::int64_t tile, std::int64_t stride,
                             I (&low)[4], I (&high)[4]) {
    nibble_codes(FileBlocks<kBytes>{p + tile * kBytes, stride}, 0, low, high);
  }
};
template <>
struct RowTiles<AffineCodes<4, DType::affine4>> : NibbleTiles {};
template <DType kType>
struct RowTiles<TurboCodes<4, kType>> : NibbleTiles {};
template <>
struct RowTiles<AffineCodes<8, DType::affine8>> {
  static constexpr int kBytes = 32;
  static constexpr int kEvensFirst = 0;
  NEMO_SIMD static void load(const std::byte* p, std::int64_t tile, std::int64_t stride,
                             I (&low)[4], I (&high)[4]) {
    load_rows(p + tile * kBytes, stride, low);
    load_rows(p + tile * kBytes + 16, stride, high);
  }
};
template <>
struct RowTiles<E2m1Codes> {
  static constexpr int kBytes = 16;
  static constexpr int kEvensFirst = 16;
  NEMO_SIMD static void load(const std::byte* p, std::int64_t tile, std::int64_t stride,
                             I (&low)[4], I (&high)[4]) {
    NibbleTiles::load(p, tile, stride, low, high);
    nibbles_of_halves(low, high);
  }
};
template <int kBits, DType kType>
struct RowTiles<TurboCodes<kBits, kType>> : RowTiles<AffineCodes<kBits, kType>> {};
template <DType kType>
struct RowTiles<TurboCodes<3, kType>> {
  static constexpr int kBytes = 16;
  static constexpr int kEvensFirst = 0;
  NEMO_SIMD static void load(const std::byte* p, std::int64_t tile, std::int64_t stride,
                             I (&low)[4], I (&high)[4]) {
    kTripletWindows.load_tile(p, tile, stride, low, high);
  }
};

/// Scales or biases of kLanes rows from row r on: out[group, lane].
NEMO_SIMD void gather_scales(const WeightRows& w, const std::byte* plane, std::int64_t r,
                             std::int64_t groups, float* out) {
  constexpr std::int64_t kSome = 64;
  alignas(64) float pieces[kLanes * kSome] = {};
  for (std::int64_t first = 0; first < groups; first += kSome) {
    const std::int64_t count = groups - first < kSome ? groups - first : kSome;
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::byte* row = plane + (r + lane) * w.planes.stride;
      load_scales(w.planes.type, row, first, count, pieces + lane * kSome);
    }
    for (std::int64_t g = 0; g < count; g += 4) {
      const RowWords four = row_words(reinterpret_cast<const std::byte*>(pieces + g), 4 * kSome);
      for (std::int64_t i = 0; i < 4 && g + i < count; ++i) {
        store_bytes(four.w[i], out + (first + g + i) * kLanes);
      }
    }
  }
}

/// A token's codes of a tile with the even elements of every kColumns in front; 0: in order.
template <int kColumns>
NEMO_SIMD void evens_first(const std::byte* from, std::byte* to) {
  if constexpr (kColumns == 0) __builtin_memcpy(to, from, 32);
  for (int c = 0; c < 32 && kColumns != 0; c += kColumns) {
    for (int i = 0; i < kColumns; i += 8) {
      const std::uint64_t eight = word_at<std::uint64_t>(from + c + i);
      const std::uint32_t even = even_bytes(eight), odd = even_bytes(eight >> 8);
      __builtin_memcpy(to + c + i / 2, &even, 4);
      __builtin_memcpy(to + c + kColumns / 2 + i / 2, &odd, 4);
    }
  }
}

/// acc[t] += (kLanes rows from row r on) . (token t).
template <class Codes, int kTokens>
[[gnu::noinline]] void multiply_row_tiles(const CodeLevels<Codes>& levels, const WeightRows& w,
                                          std::int64_t r, std::int64_t ahead, const float* scales,
                                          const float* mins, const std::byte* acts, F* sums) {
  using Layout = LayoutOf<typename Tiles<Codes>::Block>;
  constexpr int kBytes = RowTiles<Codes>::kBytes;
  const TokenTiles<Layout, kTokens> x{acts};
  const int shift = shift_of(w.planes);
  const std::byte* p = w.data + r * w.row_bytes;
  const std::byte* next = p + ahead;
  F acc[kTokens];
  for (int t = 0; t < kTokens; ++t) acc[t] = sums[t];
  for (std::int64_t b = 0; b < w.cols / 32; ++b) {
    fetch_lines(next, kLanes * kBytes);
    next += kLanes * kBytes;
    F scale[Layout::kGroups];
    F min[Layout::kGroups];
    for (int g = 0; g < Layout::kGroups; ++g) {
      const std::int64_t at = (32 * b + 16 * g) >> shift;
      scale[g] = load(scales + at * kLanes);
      min[g] = Layout::kHasMin ? load(mins + at * kLanes) : F(0.0f);
      levels.scale(scale[g], min[g]);
    }
    I low[4];
    I high[4];
    RowTiles<Codes>::load(p, b, w.row_bytes, low, high);
    levels.codes(low, high);
    add_tile<Layout, FileBlocks<16>>(low, high, scale, min, x, b, acc);
  }
  for (int t = 0; t < kTokens; ++t) sums[t] = acc[t];
}

template <class Codes, int kTokens = kDirectTokens>
NEMO_SIMD void multiply_row_tiles_any(std::int64_t tokens, const CodeLevels<Codes>& levels,
                                      const WeightRows& w, std::int64_t r, std::int64_t ahead,
                                      const float* scales, const float* mins, const std::byte* acts,
                                      F* sums) {
  if (tokens == kTokens) {
    multiply_row_tiles<Codes, kTokens>(levels, w, r, ahead, scales, mins, acts, sums);
  } else if constexpr (kTokens > 1) {
    multiply_row_tiles_any<Codes, kTokens - 1>(tokens, levels, w, r, ahead, scales, mins, acts,
                                               sums);
  }
}

// So that the scratch for laid-out rows holds scales and biases of kLanes rows, one for 16 columns
// at least; the activations' tiles need less.
constexpr std::int64_t kRowTilesCols = kLaidOutBytes / kLanes;

/// Up to kDirectTokens tokens and kRowTilesCols columns; rows is a multiple of kLanes.
template <class Codes>
void multiply_in_place(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                       const std::byte* acts, std::int64_t act_stride, std::int64_t tokens,
                       float* y, std::int64_t ldy, std::byte* scratch) noexcept {
  using Block = typename Tiles<Codes>::Block;
  using Layout = LayoutOf<Block>;
  prepare_tiles<Layout, Unpack<Block>::kOffset>(acts, act_stride, w.cols, 0, w.cols / 32, tokens,
                                                scratch, evens_first<RowTiles<Codes>::kEvensFirst>);
  static_assert(kRowTilesCols / 32 * TokenTiles<Layout, kDirectTokens>::kBytes <= kQ8ScratchBytes);
  const std::int64_t groups = ((w.cols - 1) >> shift_of(w.planes)) + 1;
  auto* scales = reinterpret_cast<float*>(scratch + kQ8ScratchBytes);
  float* mins = scales + groups * kLanes;
  const CodeLevels<Codes> levels{Tiles<Codes>(w.planes)};
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    gather_scales(w, w.scales, row0 + r, groups, scales);
    if (Layout::kHasMin && w.biases != nullptr) {
      gather_scales(w, w.biases, row0 + r, groups, mins);
    } else if (Layout::kHasMin) {
      for (std::int64_t i = 0; i < groups * kLanes; ++i) mins[i] = 0.0f;
    }
    F acc[kDirectTokens];
    for (std::int64_t t = 0; t < tokens; ++t) acc[t] = F(0.0f);
    multiply_row_tiles_any<Codes>(tokens, levels, w, row0 + r,
                                  r + kLanes < rows ? kLanes * w.row_bytes : 0, scales, mins,
                                  scratch, acc);
    for (std::int64_t t = 0; t < tokens; ++t) store(acc[t], y + t * ldy + r);
  }
}

}  // namespace
}  // namespace nemo
