// Formats whose codes, scales and offsets lie in separate tensors ("planes"), as MLX,
// TurboQuant-MLX and ModelOpt store them:
//
//   value(r, c) = level(code(r, c)) * scale(r, c / group) + bias(r, c / group)
//
// A codes struct is the smallest whole number of bytes that codes of its DType fill:
//   kType, kElements            as for block formats
//   code(row, i)                code of column i of a row
//   level(code, levels)         the number it stands for before the scale
// Kernel files of every instruction set include this: everything inlines, nothing is shared.
#pragma once

#include <nemo/base/half.hpp>
#include <nemo/tensor/dtype.hpp>

#include <cstddef>
#include <cstdint>

namespace nemo {

/// How the scales (and biases) of a planar matrix are stored.
enum class ScaleType : std::uint8_t {
  none,  // every scale is 1
  f32,
  f16,
  bf16,
  e8m0,  // 2^(e-127)
  e4m3,  // 0x7f means 480, as MLX reads it
};
[[nodiscard]] constexpr std::int64_t scale_bytes(ScaleType type) noexcept {
  switch (type) {
    case ScaleType::none:
      return 0;
    case ScaleType::f32:
      return 4;
    case ScaleType::f16:
    case ScaleType::bf16:
      return 2;
    case ScaleType::e8m0:
    case ScaleType::e4m3:
      return 1;
  }
  return 0;
}

/// What a planar matrix needs beside its codes, the same for all its rows.
struct Planes {
  ScaleType type = ScaleType::none;  // of scales and of biases
  std::int64_t group = 0;            // columns that share a scale; 0 without scales
  std::int64_t stride = 0;           // bytes from row to row of scales, and of biases
  const float* levels = nullptr;     // codebook of the TURBO formats, one float for each code
};

/// Where the arrays of one matrix start. Block formats have codes only.
struct MatrixBytes {
  const std::byte* codes = nullptr;
  const std::byte* scales = nullptr;  // [rows, cols/group]
  const std::byte* biases = nullptr;  // same shape, or null: no offsets
};

[[gnu::always_inline]] inline float load_scale(ScaleType type, const std::byte* plane,
                                               std::int64_t index) noexcept {
  const std::byte* p = plane + index * scale_bytes(type);
  const auto byte = [&p](int i) { return static_cast<std::uint32_t>(p[i]); };
  switch (type) {
    case ScaleType::f32:
      return std::bit_cast<float>(byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24);
    case ScaleType::f16:
      return to_float(Half{static_cast<std::uint16_t>(byte(0) | byte(1) << 8)});
    case ScaleType::bf16:
      return to_float(BFloat16{static_cast<std::uint16_t>(byte(0) | byte(1) << 8)});
    case ScaleType::e8m0:
      return 2.0f * e8m0_half(static_cast<std::uint8_t>(byte(0)));
    case ScaleType::e4m3:
      return e4m3(static_cast<std::uint8_t>(byte(0)));
    case ScaleType::none:
      break;
  }
  return 1.0f;
}

/// MLX's packing: a row is one little-endian bit string, element i in bits [i*kBits, (i+1)*kBits).
template <int kBits>
struct StreamCodes {
  std::uint8_t bytes[4 * kBits];
  static constexpr int kElements = 32;
  [[gnu::always_inline]] static unsigned code(const std::byte* row, std::int64_t i) noexcept {
    const std::int64_t bit = i * kBits;
    const int shift = static_cast<int>(bit & 7);
    unsigned word = static_cast<unsigned>(row[bit >> 3]);
    if (shift + kBits > 8) word |= static_cast<unsigned>(row[(bit >> 3) + 1]) << 8;
    return (word >> shift) & ((1u << kBits) - 1u);
  }
};

/// Unsigned integers with a scale and an offset.
template <int kBits, DType kDType>
struct AffineCodes : StreamCodes<kBits> {
  static constexpr DType kType = kDType;
  [[gnu::always_inline]] static float level(unsigned code, const float*) noexcept {
    return static_cast<float>(code);
  }
};

/// E2M1, two codes a byte, the first in the low nibble.
struct E2m1Codes {
  std::uint8_t bytes[1];
  static constexpr DType kType = DType::e2m1;
  static constexpr int kElements = 2;
  [[gnu::always_inline]] static unsigned code(const std::byte* row, std::int64_t i) noexcept {
    return StreamCodes<4>::code(row, i);
  }
  [[gnu::always_inline]] static float level(unsigned code, const float*) noexcept {
    constexpr std::uint32_t kDoubled = 0xc8643210;  // twice the magnitudes, a nibble each
    const auto doubled = static_cast<int>((kDoubled >> (4 * (code & 7u))) & 15u);
    return 0.5f * static_cast<float>((code & 8u) != 0 ? -doubled : doubled);
  }
};
struct E4m3Codes {
  std::uint8_t bytes[1];
  static constexpr DType kType = DType::e4m3;
  static constexpr int kElements = 1;
  [[gnu::always_inline]] static unsigned code(const std::byte* row, std::int64_t i) noexcept {
    return static_cast<unsigned>(row[i]);
  }
  [[gnu::always_inline]] static float level(unsigned code, const float*) noexcept {
    return e4m3(static_cast<std::uint8_t>(code));
  }
};

/// TurboQuant-MLX's packing: floor(32 / kBits) codes in each little-endian word, first lowest; the
/// last word of a row is padded. Codes index a codebook; activations come rotated.
template <int kBits, DType kDType>
struct TurboCodes {
  std::uint8_t bytes[4];
  static constexpr DType kType = kDType;
  static constexpr int kElements = 32 / kBits;
  [[gnu::always_inline]] static unsigned code(const std::byte* row, std::int64_t i) noexcept {
    const auto* word = reinterpret_cast<const std::uint8_t*>(row) + i / kElements * 4;
    const std::uint32_t bits =
        static_cast<std::uint32_t>(word[0]) | static_cast<std::uint32_t>(word[1]) << 8 |
        static_cast<std::uint32_t>(word[2]) << 16 | static_cast<std::uint32_t>(word[3]) << 24;
    return (bits >> (kBits * static_cast<int>(i % kElements))) & ((1u << kBits) - 1u);
  }
  [[gnu::always_inline]] static float level(unsigned code, const float* levels) noexcept {
    return levels[code];
  }
};

/// Twenty base-3 digits in each little-endian word, the first least significant.
struct TurboTernaryCodes {
  std::uint8_t bytes[4];
  static constexpr DType kType = DType::turbo_t;
  static constexpr int kElements = 20;
  [[gnu::always_inline]] static unsigned code(const std::byte* row, std::int64_t i) noexcept {
    constexpr std::uint32_t kPower[kElements] = {
        1u,       3u,        9u,        27u,        81u,        243u,       729u,
        2187u,    6561u,     19683u,    59049u,     177147u,    531441u,    1594323u,
        4782969u, 14348907u, 43046721u, 129140163u, 387420489u, 1162261467u};
    const auto* word = reinterpret_cast<const std::uint8_t*>(row) + i / kElements * 4;
    const std::uint32_t digits =
        static_cast<std::uint32_t>(word[0]) | static_cast<std::uint32_t>(word[1]) << 8 |
        static_cast<std::uint32_t>(word[2]) << 16 | static_cast<std::uint32_t>(word[3]) << 24;
    return digits / kPower[i % kElements] % 3u;
  }
  [[gnu::always_inline]] static float level(unsigned code, const float* levels) noexcept {
    return levels[code];
  }
};

/// Expands columns [first, first + n) of a row whose arrays start at `row`. The product is rounded
/// to float, then the sum, as MLX does; the product is formed in double, where it is exact, so that
/// contraction to FMA has nothing to change.
template <class Codes>
[[gnu::always_inline]] inline void decode_planar(const MatrixBytes& row, const Planes& planes,
                                                 std::int64_t first, std::int64_t n,
                                                 float* out) noexcept {
  const std::int64_t end = first + n;
  for (std::int64_t c = first; c < end;) {
    float scale = 1.0f;
    float bias = 0.0f;
    std::int64_t stop = end;
    if (planes.type != ScaleType::none) {
      const std::int64_t g = c / planes.group;
      scale = load_scale(planes.type, row.scales, g);
      if (row.biases != nullptr) bias = load_scale(planes.type, row.biases, g);
      stop = (g + 1) * planes.group < end ? (g + 1) * planes.group : end;
    }
    for (; c < stop; ++c) {
      const float level = Codes::level(Codes::code(row.codes, c), planes.levels);
      const double product = static_cast<double>(level) * static_cast<double>(scale);
      *out++ = static_cast<float>(product) + bias;
    }
  }
}

}  // namespace nemo
