// Integer products with codes that lie apart from their scales: rows are laid out in scratch as
// blocks of bytes with float scales, which then go the way of the block formats
// (q8_matmul-inl.hpp). Included after the instruction set's vector.hpp.
#pragma once

#include "planar-inl.hpp"
#include "q8_matmul-inl.hpp"

namespace nemo {
namespace {

/// 32 columns of unsigned codes up to kMax, or of signed ones where kMax is 128:
///   value = scale * code + min
template <int kMax>
struct AffineTile {
  float scale, min;
  std::uint8_t codes[32];
  static constexpr int kElements = 32;
};
/// 32 columns of E2M1 codes with a scale for each 16.
struct E2m1Tile {
  float scales[2];
  std::uint8_t codes[32];
  static constexpr int kElements = 32;
};
/// 32 columns of levels rounded to signed bytes.
struct LevelTile {
  float scale, unused;
  std::uint8_t codes[32];
  static constexpr int kElements = 32;
};

struct TileFields : WordFields {
  static constexpr int kGroup = 32;
  static constexpr int kInner = 1;
  template <class Blocks>
  NEMO_SIMD static void bytes(const Blocks& b, I (&low)[4], I (&high)[4]) {
    b.codes(8, low);
    b.codes(24, high);
  }
};
template <int kMax>
struct Unpack<AffineTile<kMax>> : TileFields {
  static constexpr int kMaxCode = kMax;
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F* min) {
    const RowWords head = b.template words<0, 2>();
    scale[0] = as_floats(head.w[0]);
    min[0] = as_floats(head.w[1]);
  }
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    bytes(b, low, high);
    if constexpr (kMax == 128) sign_codes(low, high);
  }
};
template <>
struct Unpack<E2m1Tile> : TileFields {
  static constexpr int kGroup = 16;
  static constexpr int kMaxCode = 24;
  static constexpr int kOffset = kE2m1Offset;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    const RowWords head = b.template words<0, 2>();
    scale[0] = as_floats(head.w[0]);
    scale[1] = as_floats(head.w[1]);
  }
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    bytes(b, low, high);
    table_codes(broadcast_16_bytes(kE2m1Codes.bytes), low, high);
  }
};
template <>
struct Unpack<LevelTile> : TileFields {
  static constexpr int kMaxCode = 128;
  static constexpr int kOffset = kSignedBias;
  static constexpr bool kHasMin = false;
  template <class Blocks>
  NEMO_SIMD static void scales(const Blocks& b, F* scale, F*) {
    scale[0] = as_floats(b.template words<0, 1>().w[0]);
  }
  template <int, class Blocks>
  NEMO_SIMD static void codes(const Blocks& b, int, I (&low)[4], I (&high)[4]) {
    bytes(b, low, high);
    sign_codes(low, high);
  }
};

/// A codebook rounded to bytes: level ~ unit * code.
struct LevelCodes {
  alignas(16) std::int8_t codes[16] = {};
  float unit = 0;
};
/// The unit between largest/127 and largest/96 whose rounding errors have the least mean square.
NEMO_SIMD LevelCodes round_levels(const float* levels, int count) {
  float most = 0;
  for (int i = 0; i < count; ++i) {
    const float size = levels[i] < 0 ? -levels[i] : levels[i];
    most = size > most ? size : most;
  }
  LevelCodes out;
  alignas(64) float padded[16] = {};
  for (int i = 0; i < count; ++i) padded[i] = levels[i];
  float best = 3.4e38f;
  for (float top = 127.0f; top >= 96.0f && most > 0; top -= 0.5f) {
    const float unit = most / top;
    const F inverse(1.0f / unit);
    F squares(0.0f);
    for (int i = 0; i < 16; i += kLanes) {
      const F x = load(padded + i);
      const F error = x - round_even(x * inverse) * F(unit);
      squares = fma(error, error, squares);
    }
    if (const float error = sum(squares); error < best) {
      best = error;
      out.unit = unit;
    }
  }
  for (int i = 0; i < count; ++i) {
    const float x = out.unit > 0 ? levels[i] / out.unit : 0.0f;
    out.codes[i] = static_cast<std::int8_t>(x < 0 ? x - 0.5f : x + 0.5f);
  }
  return out;
}

/// log2 of the columns that share a scale.
NEMO_SIMD int shift_of(const Planes& planes) {
  if (planes.type == ScaleType::none) return 62;
  return __builtin_ctzll(static_cast<unsigned long long>(planes.group));
}

/// How the codes of a matrix become the bytes of a tile; groups of 2^shift columns, at least
/// kGroup.
template <class Codes>
struct Tiles {};

template <class Word>
NEMO_SIMD std::uint64_t word_at(const std::byte* p) {
  Word word;
  __builtin_memcpy(&word, p, sizeof word);
  return word;
}
/// Eight codes of kBits bits that start at a byte, a byte each. Reads kBits bytes.
template <int kBits>
NEMO_SIMD std::uint64_t eight_codes(const std::byte* row, std::int64_t column) {
  const std::byte* p = row + column / 8 * kBits;
  std::uint64_t packed = 0;
  if constexpr (kBits == 8) {
    packed = word_at<std::uint64_t>(p);
  } else {  // in registers: a copy of an odd size would be read back before it is written
    if constexpr ((kBits & 4) != 0) packed = word_at<std::uint32_t>(p);
    constexpr int kFour = kBits & 4;
    if constexpr ((kBits & 2) != 0) packed |= word_at<std::uint16_t>(p + kFour) << 8 * kFour;
    constexpr int kSix = kBits & 6;
    if constexpr ((kBits & 1) != 0) packed |= word_at<std::uint8_t>(p + kSix) << 8 * kSix;
  }
  return spread_codes<kBits>(packed);
}

template <int kBits, DType kType>
struct Tiles<AffineCodes<kBits, kType>> {
  static constexpr int kMax = kBits <= 4 ? 15 : kBits == 8 ? 128 : (1 << kBits) - 1;
  using Block = AffineTile<kMax>;
  static constexpr int kGroup = 32;
  NEMO_SIMD explicit Tiles(const Planes&) {}
  NEMO_SIMD void operator()(const std::byte* row, std::int64_t column, int shift,
                            const float* scales, const float* mins, Block& to) const {
    const std::int64_t g = column >> shift;
    to.scale = scales[g];
    // Codes of 8 bits go in as signed ones; signed_codes() puts kSignedBias of the 128 back.
    to.min = mins[g] + (kMax == 128 ? (128 - kSignedBias) * scales[g] : 0.0f);
    for (int i = 0; i < 32; i += 8) {
      std::uint64_t codes = eight_codes<kBits>(row, column + i);
      if constexpr (kMax == 128) codes ^= 0x8080808080808080;
      __builtin_memcpy(to.codes + i, &codes, 8);
    }
  }
};
template <>
struct Tiles<E2m1Codes> {
  using Block = E2m1Tile;
  static constexpr int kGroup = 16;
  NEMO_SIMD explicit Tiles(const Planes&) {}
  NEMO_SIMD void operator()(const std::byte* row, std::int64_t column, int shift,
                            const float* scales, const float*, Block& to) const {
    // Levels are doubled.
    to.scales[0] = 0.5f * scales[column >> shift];
    to.scales[1] = 0.5f * scales[(column + 16) >> shift];
    for (int i = 0; i < 32; i += 8) {
      const std::uint64_t codes = eight_codes<4>(row, column + i);
      __builtin_memcpy(to.codes + i, &codes, 8);
    }
  }
};
template <int kBits, DType kType>
struct Tiles<TurboCodes<kBits, kType>> {
  using Block = LevelTile;
  static constexpr int kGroup = 32;
  LevelCodes levels;
  NEMO_SIMD explicit Tiles(const Planes& planes)
      : levels(round_levels(planes.levels, 1 << kBits)) {}
  NEMO_SIMD void operator()(const std::byte* row, std::int64_t column, int shift,
                            const float* scales, const float*, Block& to) const {
    to.scale = levels.unit * scales[column >> shift];
    to.unused = 0;
    for (int i = 0; i < 32; i += 8) {
      std::uint64_t codes;
      if constexpr (32 % kBits == 0) {
        codes = eight_codes<kBits>(row, column + i);
      } else {
        codes = spread_codes<kBits>(CodeWords<TurboCodes<kBits, kType>>::eight(row, column + i));
      }
      __builtin_memcpy(to.codes + i, &codes, 8);
    }
  }
  /// Codes to levels, once all have been written.
  NEMO_SIMD void finish(Block& tile) const { look_up_32(levels.codes, tile.codes); }
};

/// Scales [first, first + count) of a row as floats.
NEMO_SIMD void load_scales(ScaleType type, const std::byte* plane, std::int64_t first,
                           std::int64_t count, float* out) {
  const auto all = [&](const auto* from) NEMO_SIMD_LAMBDA {
    for_lanes(count, [&](auto at) NEMO_SIMD_LAMBDA { at.store(at.load(from + first), out); });
  };
  const auto bytes = [&](auto decode) NEMO_SIMD_LAMBDA {
    for (std::int64_t g = 0; g < count; ++g) {
      out[g] = decode(static_cast<std::uint8_t>(plane[first + g]));
    }
  };
  switch (type) {
    case ScaleType::f32:
      return all(reinterpret_cast<const float*>(plane));
    case ScaleType::f16:
      return all(reinterpret_cast<const Half*>(plane));
    case ScaleType::bf16:
      return all(reinterpret_cast<const BFloat16*>(plane));
    case ScaleType::e8m0:
      return bytes([](std::uint8_t e) NEMO_SIMD_LAMBDA { return 2.0f * e8m0_half(e); });
    case ScaleType::e4m3:
      return bytes([](std::uint8_t x) NEMO_SIMD_LAMBDA { return e4m3(x); });
    case ScaleType::none:
      for (std::int64_t g = 0; g < count; ++g) out[g] = 1.0f;
  }
}

/// Lays out row r; what lies `ahead` bytes further is fetched, since it is next.
template <class Codes>
NEMO_SIMD void lay_out_row(const Tiles<Codes>& tiles, const WeightRows& w, std::int64_t r,
                           std::int64_t ahead, typename Tiles<Codes>::Block* out) {
  constexpr std::int64_t kPieceCols = 4096;
  constexpr std::int64_t kMostScales = kPieceCols / Tiles<Codes>::kGroup + 1;
  const MatrixBytes row = w.row(r);
  const int shift = shift_of(w.planes);
  for (std::int64_t i = 0; i < w.row_bytes; i += 64) {
    __builtin_prefetch(row.codes + ahead + i, 0, 2);
  }
  for (std::int64_t c = 0; c < w.cols; c += kPieceCols) {
    const std::int64_t end = w.cols - c < kPieceCols ? w.cols : c + kPieceCols;
    const std::int64_t first = c >> shift;
    const std::int64_t count = ((end - 1) >> shift) - first + 1;
    float scales[kMostScales];
    float mins[kMostScales];
    load_scales(w.planes.type, row.scales, first, count, scales);
    if (row.biases != nullptr) {
      load_scales(w.planes.type, row.biases, first, count, mins);
    } else {
      for (std::int64_t g = 0; g < count; ++g) mins[g] = 0.0f;
    }
    auto* const from = out;
    for (std::int64_t column = c; column < end; column += 32) {
      tiles(row.codes, column, shift, scales - first, mins - first, *out++);
    }
    if constexpr (requires { tiles.finish(*out); }) {
      for (auto* tile = from; tile < out; ++tile) tiles.finish(*tile);
    }
  }
}

constexpr std::int64_t kLaidOutBytes = std::int64_t{kMatmulScratchBytes} - kQ8ScratchBytes;

/// multiply(rows as blocks, row0 = 0, rows, y) for as many rows at a time as fit.
template <class Codes, class Multiply>
NEMO_SIMD void for_laid_out_rows(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                                 std::int64_t tokens, std::byte* scratch, Multiply multiply) {
  using Block = typename Tiles<Codes>::Block;
  if (rows == 0) return;  // Tiles may round a codebook
  const std::int64_t row_bytes = bytes_of<Block>(w.cols);
  // Few tokens: what is laid out stays in L1 or L2 and the next rows come meanwhile. Many: each
  // call first prepares its activations.
  const std::int64_t wanted = tokens <= kDirectTokens ? 16 : 256;
  const std::int64_t fitting = kLaidOutBytes / row_bytes / kLanes * kLanes;
  static_assert(bytes_of<Block>(FormatKernels::kMostQ8Cols) <= kLaidOutBytes);
  const std::int64_t step = wanted < fitting ? wanted : fitting > 0 ? fitting : 1;
  auto* laid_out = reinterpret_cast<Block*>(scratch + kQ8ScratchBytes);
  const Tiles<Codes> tiles(w.planes);
  for (std::int64_t r = 0; r < rows; r += step) {
    const std::int64_t count = rows - r < step ? rows - r : step;
    for (std::int64_t i = 0; i < count; ++i) {
      lay_out_row<Codes>(tiles, w, row0 + r + i, r + i + step < rows ? step * w.row_bytes : 0,
                         laid_out + i * (w.cols / 32));
    }
    multiply(WeightRows{reinterpret_cast<const std::byte*>(laid_out), row_bytes, w.cols}, count, r);
  }
}

// --- few tokens: codes are multiplied as they lie in their rows ---------------------------------
//
// Nibbles of 16 bytes are the even and the odd elements of 32; instead of them the activations are
// put in that order, once for all rows. Codes of other widths are brought into bytes by windows.

/// How 16 codes lie in 16 bytes of a row: `order` brings the bytes with codes 2j and 2j + 1 into
/// short j, where the product with `factors` moves them to a bit that is the same for all.
struct Window {
  std::int64_t at = 0;  // bytes from where it is counted from to the 16 bytes
  alignas(16) std::uint8_t order[16] = {};
  alignas(16) std::uint16_t factors[8] = {};
};
/// Bit of a row where code `index` starts. A word of 32 bits holds as many codes as fit.
template <int kBits>
constexpr std::int64_t bit_in_words(std::int64_t index) {
  return index / (32 / kBits) * 32 + index % (32 / kBits) * kBits;
}
template <int kBits>
constexpr std::int64_t bit_in_stream(std::int64_t index) {
  return index * kBits;
}
/// Windows of a row: of the first halves of tiles, one by one, while they lie at its start, then
/// of kPeriod halves, again and again; those end where their codes end, so nothing behind a row of
/// at least 16 bytes is read.
template <int kBits, int kFirst, int kPeriod, std::int64_t (*kBit)(std::int64_t)>
struct Windows {
  static constexpr int kTop = kBits % 2 == 1 ? 6 : 4;  // the highest bit of a byte a pair starts at
  static constexpr std::int64_t kPeriodBytes = kBit(16 * kPeriod) / 8;
  Window halves[kFirst + kPeriod];

  constexpr Windows() {
    for (int h = 0; h < kFirst + kPeriod; ++h) {
      const std::int64_t end = (kBit(16 * h + 15) + kBits + 7) / 8;
      // The end of its words, where codes come in words.
      const std::int64_t last = kBit == bit_in_words<kBits> ? (end + 3) / 4 * 4 : end;
      halves[h].at = h < kFirst ? 0 : last - 16;
      for (int j = 0; j < 8; ++j) {
        const std::int64_t bit = kBit(16 * h + 2 * j) - 8 * halves[h].at;
        const auto byte = static_cast<std::uint8_t>(bit / 8);
        const bool one = bit % 8 + 2 * kBits <= 8;
        halves[h].order[2 * j] = byte;
        halves[h].order[2 * j + 1] = one ? std::uint8_t{0x80} : static_cast<std::uint8_t>(byte + 1);
        halves[h].factors[j] = static_cast<std::uint16_t>(1 << (kTop - bit % 8));
      }
    }
  }

  /// Codes of half `half` of the tiles of kLanes rows, as load_rows.
  NEMO_SIMD void load(const std::byte* p, std::int64_t half, std::int64_t stride,
                      I (&codes)[4]) const {
    std::int64_t turns = 0;
    if (half >= kFirst) {
      turns = (half - kFirst) / kPeriod;
      half -= turns * kPeriod;
    }
    const Window& w = halves[half];
    const I order = broadcast_16_bytes(w.order);
    const I factors = broadcast_16_bytes(w.factors);
    constexpr int kMask = (1 << kBits) - 1;
    constexpr int kUp = 8 - kTop - kBits;  // of the odd code to the upper byte
    load_rows(p + turns * kPeriodBytes + w.at, stride, codes);
    for (I& v : codes) {
      const I pair = multiply_shorts(look_up(v, order), factors);
      const I odd = [&]() NEMO_SIMD_LAMBDA {
        if constexpr (kUp > 0) return shift_left<kUp>(pair);
        if constexpr (kUp < 0) return shift_right<-kUp>(pair);
        return pair;
      }();
      v = or_bits(and_bits(shift_right<kTop>(pair), all_words(kMask * 0x10001)),
                  and_bits(odd, all_words(kMask * 0x1000100)));
    }
  }
};
template <int kBits>
constexpr Windows<kBits, (16 + 2 * kBits - 1) / (2 * kBits) - 1, 1, bit_in_stream<kBits>>
    kStreamWindows{};
constexpr Windows<3, 1, 5, bit_in_words<3>> kTripletWindows{};

/// Codes of a tile from kLanes rows at p, as load_rows; `Codes` without them are laid out first.
template <class Codes>
struct RowTiles {};

template <int kBits, DType kType>
requires(kBits == 2 || kBits == 3 || kBits == 5 ||
         kBits == 6) struct RowTiles<AffineCodes<kBits, kType>> {
  static constexpr int kBytes = 4 * kBits;  // of a tile
  static constexpr int kEvensFirst = 0;     // in so many columns; 0: columns in order
  NEMO_SIMD explicit RowTiles(const Tiles<AffineCodes<kBits, kType>>&) {}
  NEMO_SIMD void operator()(const std::byte* p, std::int64_t tile, std::int64_t stride, I (&low)[4],
                            I (&high)[4]) const {
    kStreamWindows<kBits>.load(p, 2 * tile, stride, low);
    kStreamWindows<kBits>.load(p, 2 * tile + 1, stride, high);
  }
  NEMO_SIMD static void scale(F& scale, F& min) { (void)scale, (void)min; }
};

template <>
struct RowTiles<AffineCodes<4, DType::affine4>> {
  static constexpr int kBytes = 16;
  static constexpr int kEvensFirst = 32;
  NEMO_SIMD explicit RowTiles(const Tiles<AffineCodes<4, DType::affine4>>&) {}
  NEMO_SIMD void operator()(const std::byte* p, std::int64_t tile, std::int64_t stride, I (&low)[4],
                            I (&high)[4]) const {
    nibble_codes(FileBlocks<kBytes>{p + tile * kBytes, stride}, 0, low, high);
  }
  NEMO_SIMD static void scale(F& scale, F& min) { (void)scale, (void)min; }
};
template <>
struct RowTiles<AffineCodes<8, DType::affine8>> {
  static constexpr int kBytes = 32;
  static constexpr int kEvensFirst = 0;
  NEMO_SIMD explicit RowTiles(const Tiles<AffineCodes<8, DType::affine8>>&) {}
  NEMO_SIMD void operator()(const std::byte* p, std::int64_t tile, std::int64_t stride, I (&low)[4],
                            I (&high)[4]) const {
    load_rows(p + tile * kBytes, stride, low);
    load_rows(p + tile * kBytes + 16, stride, high);
    const I sign = all_bytes(0x80);
    for (int g = 0; g < 4; ++g) {
      low[g] = signed_codes(xor_bits(low[g], sign));
      high[g] = signed_codes(xor_bits(high[g], sign));
    }
  }
  NEMO_SIMD static void scale(F& scale, F& min) { min = min + scale * F(128.0f - kSignedBias); }
};
template <>
struct RowTiles<E2m1Codes> {
  static constexpr int kBytes = 16;
  static constexpr int kEvensFirst = 16;
  NEMO_SIMD explicit RowTiles(const Tiles<E2m1Codes>&) {}
  NEMO_SIMD void operator()(const std::byte* p, std::int64_t tile, std::int64_t stride, I (&low)[4],
                            I (&high)[4]) const {
    nibble_codes(FileBlocks<kBytes>{p + tile * kBytes, stride}, 0, low, high);
    table_codes(broadcast_16_bytes(kE2m1Codes.bytes), low, high);
    nibbles_of_halves(low, high);
  }
  NEMO_SIMD static void scale(F& scale, F&) { scale = scale * F(0.5f); }
};
template <int kBits, DType kType>
requires(kBits > 1) struct RowTiles<TurboCodes<kBits, kType>> {
  static constexpr int kBytes = (32 + 32 / kBits - 1) / (32 / kBits) * 4;
  static constexpr int kEvensFirst = kBits == 4 ? 32 : 0;
  I table;
  F unit;
  NEMO_SIMD explicit RowTiles(const Tiles<TurboCodes<kBits, kType>>& tiles)
      : table(signed_codes(broadcast_16_bytes(tiles.levels.codes))), unit(tiles.levels.unit) {}
  NEMO_SIMD void operator()(const std::byte* p, std::int64_t tile, std::int64_t stride, I (&low)[4],
                            I (&high)[4]) const {
    if constexpr (kBits == 4) {
      nibble_codes(FileBlocks<kBytes>{p + tile * kBytes, stride}, 0, low, high);
    } else if constexpr (kBits == 3) {
      kTripletWindows.load(p, 2 * tile, stride, low);
      kTripletWindows.load(p, 2 * tile + 1, stride, high);
    } else {
      kStreamWindows<kBits>.load(p, 2 * tile, stride, low);
      kStreamWindows<kBits>.load(p, 2 * tile + 1, stride, high);
    }
    table_codes(table, low, high);
  }
  NEMO_SIMD void scale(F& scale, F&) const { scale = scale * unit; }
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

/// Codes of a token with the even elements of every kColumns in front.
template <int kColumns>
NEMO_SIMD void evens_first(const std::byte* from, std::int64_t cols, std::byte* to) {
  for (std::int64_t c = 0; c < cols; c += kColumns) {
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
[[gnu::noinline]] void multiply_row_tiles(const RowTiles<Codes>& codes, const WeightRows& w,
                                          std::int64_t r, std::int64_t ahead, const float* scales,
                                          const float* mins, const TokenSpan& span, F* sums) {
  using Layout = LayoutOf<typename Tiles<Codes>::Block>;
  constexpr int kBytes = RowTiles<Codes>::kBytes;
  const TokenSpan x = span;
  const int shift = shift_of(w.planes);
  const std::byte* p = w.data + r * w.row_bytes;
  const std::byte* next = p + ahead;
  F acc[kTokens];
  for (int t = 0; t < kTokens; ++t) acc[t] = sums[t];
  for (std::int64_t b = 0; b < w.cols / 32; ++b) {
    for (int line = 0; line < kLanes * kBytes; line += 64) __builtin_prefetch(next + line, 0, 2);
    next += kLanes * kBytes;
    F scale[Layout::kGroups];
    F min[Layout::kGroups];
    for (int g = 0; g < Layout::kGroups; ++g) {
      const std::int64_t at = (32 * b + 16 * g) >> shift;
      scale[g] = load(scales + at * kLanes);
      min[g] = Layout::kHasMin ? load(mins + at * kLanes) : F(0.0f);
      codes.scale(scale[g], min[g]);
    }
    I low[4];
    I high[4];
    codes(p, b, w.row_bytes, low, high);
    add_tile<Layout, FileBlocks<16>>(low, high, scale, min, x, b, acc);
  }
  for (int t = 0; t < kTokens; ++t) sums[t] = acc[t];
}

template <class Codes, int kTokens = kDirectGroup>
NEMO_SIMD void multiply_row_tiles_any(std::int64_t tokens, const RowTiles<Codes>& codes,
                                      const WeightRows& w, std::int64_t r, std::int64_t ahead,
                                      const float* scales, const float* mins, const TokenSpan& x,
                                      F* sums) {
  if (tokens == kTokens) {
    multiply_row_tiles<Codes, kTokens>(codes, w, r, ahead, scales, mins, x, sums);
  } else if constexpr (kTokens > 1) {
    multiply_row_tiles_any<Codes, kTokens - 1>(tokens, codes, w, r, ahead, scales, mins, x, sums);
  }
}

// What few tokens need of the second half of the scratch: codes in their new order, then scales and
// biases of kLanes rows.
constexpr std::int64_t kRowTilesCols = kLaidOutBytes / (kDirectTokens + kLanes);

/// Up to kDirectTokens tokens and kRowTilesCols columns; rows is a multiple of kLanes.
template <class Codes>
void multiply_in_place(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                       const std::byte* acts, std::int64_t act_stride, std::int64_t tokens,
                       float* y, std::int64_t ldy, std::byte* scratch) noexcept {
  using Block = typename Tiles<Codes>::Block;
  using Layout = LayoutOf<Block>;
  auto* aux = reinterpret_cast<float*>(scratch);
  const std::int64_t aux_stride = w.cols / 32 * Layout::kAux;
  prepare_aux<Layout, Unpack<Block>::kOffset>(acts, act_stride, w.cols, 0, w.cols / 32, tokens,
                                              aux);
  std::byte* sorted = scratch + kQ8ScratchBytes;
  TokenSpan x{acts, act_stride, aux, aux_stride};
  if constexpr (RowTiles<Codes>::kEvensFirst != 0) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      evens_first<RowTiles<Codes>::kEvensFirst>(acts + t * act_stride, w.cols, sorted + t * w.cols);
    }
    x.codes = sorted;
    x.stride = w.cols;
  }
  const std::int64_t groups = ((w.cols - 1) >> shift_of(w.planes)) + 1;
  auto* scales = reinterpret_cast<float*>(sorted + kDirectTokens * w.cols);
  float* mins = scales + groups * kLanes;
  const RowTiles<Codes> codes{Tiles<Codes>(w.planes)};
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    gather_scales(w, w.scales, row0 + r, groups, scales);
    if (Layout::kHasMin && w.biases != nullptr) {
      gather_scales(w, w.biases, row0 + r, groups, mins);
    } else if (Layout::kHasMin) {
      for (std::int64_t i = 0; i < groups * kLanes; ++i) mins[i] = 0.0f;
    }
    F acc[kDirectTokens];
    for (std::int64_t t = 0; t < tokens; ++t) acc[t] = F(0.0f);
    for (std::int64_t t = 0; t < tokens; t += kDirectGroup) {
      const TokenSpan some{x.codes + t * x.stride, x.stride, aux + t * aux_stride, aux_stride};
      multiply_row_tiles_any<Codes>(
          tokens - t < kDirectGroup ? tokens - t : kDirectGroup, codes, w, row0 + r,
          t == 0 && r + kLanes < rows ? kLanes * w.row_bytes : 0, scales, mins, some, acc + t);
    }
    for (std::int64_t t = 0; t < tokens; ++t) store(acc[t], y + t * ldy + r);
  }
}

template <class Codes>
void planar_q8_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                      const std::byte* acts, std::int64_t act_stride, std::int64_t tokens, float* y,
                      std::int64_t ldy, std::byte* scratch) noexcept {
  std::int64_t done = 0;
  if constexpr (requires { RowTiles<Codes>::kBytes; }) {
    if (tokens <= kDirectTokens && w.cols <= kRowTilesCols && w.row_bytes >= 16) {
      done = rows / kLanes * kLanes;
      if (done > 0)
        multiply_in_place<Codes>(w, row0, done, acts, act_stride, tokens, y, ldy, scratch);
    }
  }
  for_laid_out_rows<Codes>(
      w, row0 + done, rows - done, tokens, scratch,
      [&](const WeightRows& blocks, std::int64_t count, std::int64_t r) NEMO_SIMD_LAMBDA {
        q8_matmul_ordered<typename Tiles<Codes>::Block, false>(blocks, 0, count, acts, act_stride,
                                                               tokens, y + done + r, ldy, scratch);
      });
}

/// The products of the integer formats alone.
template <class... Weights, class... Codes>
constexpr FormatTable integer_products(BlockList<Weights...>, BlockList<Codes...>) {
  FormatTable table{};
  const auto add = [&table]<class Block>(Block*) {
    if constexpr (requires { Unpack<Block>::kGroup; }) {
      table.formats[static_cast<int>(Block::kType)].matmul = q8_matmul<Block>;
    }
  };
  (add(static_cast<Weights*>(nullptr)), ...);
  const auto add_planar = [&table]<class C>(C*) {
    if constexpr (requires { Tiles<C>::kGroup; }) {
      table.formats[static_cast<int>(C::kType)].matmul_q8 = planar_q8_matmul<C>;
    }
  };
  (add_planar(static_cast<Codes*>(nullptr)), ...);
  return table;
}

}  // namespace
}  // namespace nemo
