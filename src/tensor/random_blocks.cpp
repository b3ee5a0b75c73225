// Random rows: every byte from a counter-based generator, then each block's scale fields are set so
// that the decoded values have the wanted spread:  value = d * unit,  d = stddev / rms(unit),
// where `unit` is what random codes decode to with d = 1 (measured once per format).
//
// Codes are uniform. Where their levels are not symmetric about zero, d gets a random sign, or the
// offset is chosen to cancel the mean.
#include <nemo/base/error.hpp>
#include <nemo/tensor/formats.hpp>
#include <nemo/tensor/random_blocks.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

namespace nemo {
namespace {

/// Finaliser of the splitmix64 generator: a bijection of 64 bits with good avalanche.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio, odd

}  // namespace

void random_bytes(std::uint64_t seed, std::byte* out, std::size_t bytes) {
  // Hashing the seed first keeps the streams of neighbouring seeds apart.
  std::uint64_t counter = mix(seed + kStep);
  const auto next = [&counter] {
    const std::uint64_t word = mix(counter += kStep);
    std::array<std::uint8_t, 8> le{};
    for (std::size_t i = 0; i < 8; ++i) le[i] = static_cast<std::uint8_t>(word >> (8 * i));
    return le;
  };
  std::size_t at = 0;
  for (; at + 8 <= bytes; at += 8) {
    const auto word = next();
    std::memcpy(out + at, word.data(), 8);
  }
  if (at < bytes) {
    const auto word = next();
    std::memcpy(out + at, word.data(), bytes - at);
  }
}

namespace {

/// A scale in every way that formats store one. Byte scales are too coarse for one value: `low` is
/// used and, where a random byte is below `odds`, the next higher one.
struct Scale {
  float value;
  Half half;
  struct Byte {
    std::uint8_t low;
    int odds;  // of 256
    [[nodiscard]] std::uint8_t pick(std::uint8_t random) const {
      return static_cast<std::uint8_t>(low + (random < odds ? 1 : 0));
    }
  };
  Byte e8m0_half;
  Byte ue4m3;
};

/// The mixture of low and high whose mean square is that of `value`. Squares of floats are exact in
/// double, so every platform finds the same odds.
int odds_of_high(double value, double low, double high) {
  const double odds = (value * value - low * low) / (high * high - low * low);
  return static_cast<int>(256.0 * (odds < 0.0 ? 0.0 : odds > 1.0 ? 1.0 : odds));
}

/// The highest byte below `last` that decodes to at most `value`, and the odds of its successor.
Scale::Byte byte_scale(float (*read)(std::uint8_t), float value, std::uint8_t last) {
  std::uint8_t low = 0;
  while (low + 1 < last && read(static_cast<std::uint8_t>(low + 1)) <= value) ++low;
  return {low, odds_of_high(static_cast<double>(value), static_cast<double>(read(low)),
                            static_cast<double>(read(static_cast<std::uint8_t>(low + 1))))};
}

Scale make_scale(float value) {
  // 0xff of E8M0 and 0x7f of E4M3 are not numbers.
  return {value, to_half(value),
          byte_scale([](std::uint8_t e) { return e8m0_half(e); }, value, 0xfe),
          byte_scale([](std::uint8_t x) { return ue4m3(x); }, value, 0x7e)};
}

/// The scale with the sign of what the field holds (random at this point).
Half random_sign(Half field, Half scale) {
  return {static_cast<std::uint16_t>((field.bits & 0x8000u) | scale.bits)};
}
Half times(Half d, float factor) { return to_half(to_float(d) * factor); }

// finish(block, scale): turns random bytes into a block of the wanted spread.

void finish(PlainF32& b, const Scale& s) {
  // 24 of the random bits as an odd integer: symmetric, and never beyond float's precision.
  std::uint32_t bits = 0;
  std::memcpy(&bits, &b, sizeof(bits));
  b.value = static_cast<float>(static_cast<std::int32_t>(bits) >> 8) * 0x1p-23f * s.value;
}
void finish(PlainF16& b, const Scale& s) {
  const auto random = static_cast<std::int16_t>(b.value.bits);
  b.value = to_half(static_cast<float>(2 * random + 1) * 0x1p-16f * s.value);
}
void finish(PlainBF16& b, const Scale& s) {
  const auto random = static_cast<std::int16_t>(b.value.bits);
  b.value = to_bfloat16(static_cast<float>(2 * random + 1) * 0x1p-16f * s.value);
}

/// Formats with a single half scale and codes that may be anything.
template <class Block>
void finish(Block& b, const Scale& s) {
  b.d = random_sign(b.d, s.half);
}

void finish(BlockQ4_1& b, const Scale& s) {
  b.d = random_sign(b.d, s.half);
  b.m = times(b.d, -7.5f);
}
void finish(BlockQ5_1& b, const Scale& s) {
  b.d = random_sign(b.d, s.half);
  b.m = times(b.d, -15.5f);
}
void finish(BlockQ8_0& b, const Scale& s) {
  // No encoder writes -128.
  for (auto& q : b.qs) q = static_cast<std::int8_t>(q == -128 ? -127 : q);
  b.d = random_sign(b.d, s.half);
}
void finish(BlockQ2_K& b, const Scale& s) {
  for (auto& scale : b.scales) scale = static_cast<std::uint8_t>(((scale & 7) + 8) * 0x11);
  b.d = s.half;
  b.dmin = times(b.d, 1.5f);
}
void finish(BlockQ3_K& b, const Scale& s) {
  // High bits 01 or 10: signed scales of -16..15.
  for (int i = 8; i < 12; ++i) {
    const int low = b.scales[i] & 0x55;
    b.scales[i] = static_cast<std::uint8_t>(low | (low ^ 0x55) << 1);
  }
  b.d = random_sign(b.d, s.half);
}
/// Q4_K and Q5_K: scale and min are the same number of 32..63 in every group.
template <class Block>
void finish_k(Block& b, const Scale& s, float mean_code) {
  for (int i = 0; i < 4; ++i) {
    const int low = 32 | (b.scales[i] & 31);
    const int high = 32 | (b.scales[i + 4] & 31);
    b.scales[i] = static_cast<std::uint8_t>(low | (high >> 4) << 6);
    b.scales[i + 4] = b.scales[i];
    b.scales[i + 8] = static_cast<std::uint8_t>((high & 15) * 0x11);
  }
  b.d = s.half;
  b.dmin = times(b.d, mean_code);
}
void finish(BlockQ4_K& b, const Scale& s) { finish_k(b, s, 7.5f); }
void finish(BlockQ5_K& b, const Scale& s) { finish_k(b, s, 15.5f); }
void finish(BlockQ6_K& b, const Scale& s) {
  for (auto& scale : b.scales) {
    const int magnitude = 8 + (scale & 7);
    scale = static_cast<std::int8_t>(scale < 0 ? -magnitude : magnitude);
  }
  b.d = s.half;
}
void finish(BlockIQ4_XS& b, const Scale& s) {
  for (auto& high : b.scales_h) {  // as in Q3_K
    const int low = high & 0x55;
    high = static_cast<std::uint8_t>(low | (low ^ 0x55) << 1);
  }
  b.d = random_sign(b.d, s.half);
}
/// Ternary codes: 3 is not canonical and becomes 1, so that -1, 0, 0, 1 are equally likely.
template <class Bytes>
void drop_code_3(Bytes& qs) {
  for (auto& q : qs) q = static_cast<std::uint8_t>(q ^ ((q & (q >> 1) & 0x55) << 1));
}
void finish(BlockTQ2_0& b, const Scale& s) {
  drop_code_3(b.qs);
  b.d = s.half;
}
void finish(BlockQ2_0& b, const Scale& s) {
  drop_code_3(b.qs);
  b.d = s.half;
}
void finish(BlockIQ1_M& b, const Scale& s) {
  const Half d = random_sign({static_cast<std::uint16_t>(b.scales[7] << 8)}, s.half);
  for (int i = 0; i < 4; ++i) {
    const int nibble = (d.bits >> (4 * i)) & 15;
    b.scales[2 * i + 1] = static_cast<std::uint8_t>((b.scales[2 * i + 1] & 15) | nibble << 4);
  }
}
void finish(BlockMXFP4& b, const Scale& s) { b.e = s.e8m0_half.pick(b.e); }
void finish(BlockNVFP4& b, const Scale& s) {
  for (auto& d : b.d) d = s.ue4m3.pick(d);
}

template <class Block>
void fill_row(std::int64_t cols, const Scale& scale, std::uint64_t seed, std::byte* out) {
  const std::int64_t count = cols / Block::kElements;
  random_bytes(seed, out, static_cast<std::size_t>(count) * sizeof(Block));
  auto* blocks = reinterpret_cast<Block*>(out);
  for (std::int64_t i = 0; i < count; ++i) finish(blocks[i], scale);
}

/// Root mean square of 2^16 random elements with d = 1; double sums of squares of floats have the
/// same bits on every platform.
template <class Block>
float unit_rms() {
  constexpr std::int64_t kCols = 65536;
  std::vector<Block> blocks(kCols / Block::kElements);
  std::vector<float> values(kCols);
  auto* row = reinterpret_cast<std::byte*>(blocks.data());
  fill_row<Block>(kCols, make_scale(1.0f), 1, row);
  decode_row<Block>(row, kCols, values.data());
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x) * static_cast<double>(x);
  return static_cast<float>(std::sqrt(sum / static_cast<double>(kCols)));
}

struct Generator {
  void (*fill)(std::int64_t cols, const Scale& scale, std::uint64_t seed, std::byte* out);
  float unit;
};
using Generators = std::array<Generator, kDTypeCount>;

template <class... Blocks>
Generators make_generators(BlockList<Blocks...>) {
  Generators all{};
  ((all[static_cast<std::size_t>(Blocks::kType)] = {fill_row<Blocks>, unit_rms<Blocks>()}), ...);
  return all;
}

}  // namespace

void random_row(DType type, std::int64_t cols, float stddev, std::uint64_t seed, std::byte* out) {
  static const Generators generators = make_generators(WeightBlocks{});
  const Generator& generator = generators[static_cast<std::size_t>(type)];
  if (generator.fill == nullptr) {
    throw Error(ErrorCode::unsupported,
                "random weights: " + std::string(info(type).name) + " is not a weight type");
  }
  generator.fill(cols, make_scale(stddev / generator.unit), seed, out);
}

}  // namespace nemo
