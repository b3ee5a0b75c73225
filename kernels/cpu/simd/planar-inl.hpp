// Codes that lie apart from their scales, expanded to floats a vector at a time; included after the
// instruction set's vector.hpp.
//
//   value = level(code) * scale + bias
#pragma once

#include <nemo/tensor/formats_planar.hpp>

namespace nemo {
namespace {

/// Where each code of a vector lies in kLanes bytes of a stream of kBits bits a code.
template <int kBits>
struct StreamPlaces {
  std::uint8_t bytes[4 * kLanes];  // for look_up: those that hold a code, 0x80 for none
  std::int32_t shifts[kLanes];     // of the code in them
  constexpr StreamPlaces() : bytes(), shifts() {
    for (int i = 0; i < kLanes; ++i) {
      const int bit = i * kBits;
      const bool crosses = bit % 8 + kBits > 8;
      bytes[4 * i] = static_cast<std::uint8_t>(bit / 8);
      bytes[4 * i + 1] = static_cast<std::uint8_t>(crosses ? bit / 8 + 1 : 0x80);
      bytes[4 * i + 2] = bytes[4 * i + 3] = 0x80;
      shifts[i] = bit % 8;
    }
  }
};

/// The first kLanes codes of a stream as words; reads kLanes bytes.
template <int kBits>
NEMO_SIMD I stream_words(const std::byte* stream) {
  static constexpr StreamPlaces<kBits> kPlaces;
  const I placed = look_up(broadcast_lanes(stream), load_bytes(kPlaces.bytes));
  return and_bits(shift_each_right(placed, load_bytes(kPlaces.shifts)),
                  all_words((1 << kBits) - 1));
}

/// How formats keep the codes from a column that is a multiple of kLanes.
template <int kBits>
struct StreamWords {
  NEMO_SIMD static I load(const std::byte* row, std::int64_t column, std::int64_t cols) {
    const std::byte* from = row + column / 8 * kBits;
    if ((cols - column) / 8 * kBits >= kLanes) return stream_words<kBits>(from);
    std::byte last[kLanes] = {};  // the row may be the last thing in memory
    __builtin_memcpy(last, from, kLanes / 8 * kBits);
    return stream_words<kBits>(last);
  }
};
template <class Codes>
struct CodeWords {};
template <int kBits, DType kType>
struct CodeWords<AffineCodes<kBits, kType>> : StreamWords<kBits> {};
template <>
struct CodeWords<E2m1Codes> : StreamWords<4> {};
template <int kBits, DType kType>
struct CodeWords<TurboCodes<kBits, kType>> : StreamWords<kBits> {
  static_assert(32 % kBits == 0, "words without a rest are a stream");
};
template <DType kType>
struct CodeWords<TurboCodes<3, kType>> {
  /// Ten codes a word: two words hold the eight that start in the first of them.
  NEMO_SIMD static std::uint64_t eight(const std::byte* row, std::int64_t column) {
    const std::int64_t word = column / 10;
    const int skipped = static_cast<int>(column - 10 * word);
    std::uint32_t first = 0;
    __builtin_memcpy(&first, row + 4 * word, 4);
    std::uint64_t bits = first & 0x3fffffffu;
    if (skipped > 2) {  // else the row may end with this word
      std::uint32_t second = 0;
      __builtin_memcpy(&second, row + 4 * word + 4, 4);
      bits |= std::uint64_t{second} << 30;
    }
    return bits >> 3 * skipped & 0xffffffu;
  }
  NEMO_SIMD static I load(const std::byte* row, std::int64_t column, std::int64_t) {
    std::uint64_t stream[kLanes / 8] = {eight(row, column)};
    if constexpr (kLanes > 8) stream[0] |= eight(row, column + 8) << 24;
    return stream_words<3>(reinterpret_cast<const std::byte*>(stream));
  }
};

/// Levels of codes in words.
template <class Codes>
struct Levels {  // a codebook of up to 16 entries
  FloatTable table;
  NEMO_SIMD explicit Levels(const float* levels) {
    alignas(64) float entries[16] = {};
    constexpr int kCodes = std::is_same_v<Codes, E2m1Codes> ? 16 : 1 << 32 / Codes::kElements;
    for (unsigned i = 0; i < static_cast<unsigned>(kCodes); ++i) {
      entries[i] = Codes::level(i, levels);
    }
    table = load_table(entries);
  }
  NEMO_SIMD F operator()(I words) const { return look_up(table, words); }
};
template <int kBits, DType kType>
struct Levels<AffineCodes<kBits, kType>> {
  NEMO_SIMD explicit Levels(const float*) {}
  NEMO_SIMD F operator()(I words) const { return to_floats(words); }
};

/// A code that is a number by itself, so rows without scales are multiplied as they lie.
struct E4m3Element {
  std::uint8_t code;
};
NEMO_SIMD F load(const E4m3Element* p) { return load_e4m3_256ths(p) * F(256.0f); }
NEMO_SIMD F load_first(const E4m3Element* p, std::int64_t n) {
  E4m3Element some[kLanes] = {};
  __builtin_memcpy(some, p, static_cast<std::size_t>(n));
  return load(some);
}
/// Levels of kLanes codes from a column on that is a multiple of kLanes.
template <class Codes>
struct CodeValues {
  using Element = void;  // or the type of elements as above
  Levels<Codes> levels;
  NEMO_SIMD explicit CodeValues(const float* codebook) : levels(codebook) {}
  NEMO_SIMD F load(const std::byte* row, std::int64_t column, std::int64_t cols) const {
    return levels(CodeWords<Codes>::load(row, column, cols));
  }
};
template <>
struct CodeValues<E4m3Codes> {
  using Element = E4m3Element;
  NEMO_SIMD explicit CodeValues(const float*) {}
  NEMO_SIMD static F load(const std::byte* row, std::int64_t column, std::int64_t) {
    return nemo::load(reinterpret_cast<const E4m3Element*>(row) + column);
  }
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

template <class Codes>
void expand_planar(const WeightRows& w, std::int64_t r, std::int64_t first, std::int64_t n,
                   float* out) noexcept {
  const MatrixBytes row = w.row(r);
  const Planes& planes = w.planes;
  const bool scaled = planes.type != ScaleType::none;
  if constexpr (requires { &CodeWords<Codes>::load; } || std::is_same_v<Codes, E4m3Codes>) {
    if (first % kLanes == 0 && (!scaled || planes.group % kLanes == 0)) {
      const CodeValues<Codes> values(planes.levels);
      const std::int64_t end = first + n;
      std::int64_t c = first;
      for (std::int64_t g = scaled ? c / planes.group : 0; c + kLanes <= end; ++g) {
        float scale = 1.0f;
        float bias = 0.0f;
        std::int64_t stop = end;
        if (scaled) {
          scale = load_scale(planes.type, row.scales, g);
          if (row.biases != nullptr) bias = load_scale(planes.type, row.biases, g);
          if ((g + 1) * planes.group < end) stop = (g + 1) * planes.group;
        }
        for (; c + kLanes <= stop; c += kLanes, out += kLanes) {
          store(fma(values.load(row.codes, c, w.cols), F(scale), F(bias)), out);
        }
      }
      decode_planar<Codes>(row, planes, c, end - c, out);
      return;
    }
  }
  decode_planar<Codes>(row, planes, first, n, out);
}

}  // namespace
}  // namespace nemo
