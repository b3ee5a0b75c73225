// Codes of 1, 2, 3, 5 and 6 bits brought into bytes, 16 codes of kLanes rows at a time; included
// after the instruction set's vector.hpp.
#pragma once

#include "lanes-inl.hpp"

namespace nemo {
namespace {

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

  /// Codes of a tile.
  NEMO_SIMD void load_tile(const std::byte* p, std::int64_t tile, std::int64_t stride, I (&low)[4],
                           I (&high)[4]) const {
    load(p, 2 * tile, stride, low);
    load(p, 2 * tile + 1, stride, high);
  }
};
template <int kBits>
constexpr Windows<kBits, (16 + 2 * kBits - 1) / (2 * kBits) - 1, 1, bit_in_stream<kBits>>
    kStreamWindows{};
constexpr Windows<3, 1, 5, bit_in_words<3>> kTripletWindows{};

}  // namespace
}  // namespace nemo
