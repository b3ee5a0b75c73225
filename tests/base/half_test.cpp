// Small float formats against their definition, for every bit pattern.
#include "catch.hpp"

#include <nemo/base/half.hpp>

#include <cmath>
#include <limits>

using nemo::BFloat16;
using nemo::Half;

namespace {

/// The value of a finite IEEE half, from its definition.
float half_value(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return static_cast<float>((bits & 0x8000) != 0 ? -magnitude : magnitude);
}

std::uint16_t negated(std::uint16_t bits) { return static_cast<std::uint16_t>(bits | 0x8000u); }

}  // namespace

TEST_CASE("all 65536 halves convert to float exactly and back to themselves") {
  int wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float x = nemo::to_float(Half{bits});
    if ((bits & 0x7c00u) == 0x7c00u && (bits & 0x3ffu) != 0) {
      wrong += std::isnan(x) && std::isnan(nemo::to_float(nemo::to_half(x))) ? 0 : 1;
    } else if ((bits & 0x7c00u) == 0x7c00u) {
      wrong += std::isinf(x) && std::signbit(x) == (bits >= 0x8000u) ? 0 : 1;
      wrong += nemo::to_half(x).bits == bits ? 0 : 1;
    } else {
      wrong += x == half_value(bits) && std::signbit(x) == (bits >= 0x8000u) ? 0 : 1;
      wrong += nemo::to_half(x).bits == bits ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("float to half rounds to nearest, ties to even, between every two neighbours") {
  int wrong = 0;
  const float infinity = std::numeric_limits<float>::infinity();
  for (std::uint32_t i = 0; i < 0x7c00u; ++i) {
    const auto low = static_cast<std::uint16_t>(i);
    const auto high = static_cast<std::uint16_t>(i + 1);
    // Above the largest half the next would be 65536, so overflow starts at 65520.
    const float above = high == 0x7c00u ? 65536.0f : half_value(high);
    const float middle = (half_value(low) + above) / 2;  // exact: one bit more than a half has
    const std::uint16_t even = low % 2 == 0 ? low : high;
    wrong += nemo::to_half(middle).bits == even ? 0 : 1;
    wrong += nemo::to_half(std::nextafter(middle, -infinity)).bits == low ? 0 : 1;
    wrong += nemo::to_half(std::nextafter(middle, infinity)).bits == high ? 0 : 1;
    wrong += nemo::to_half(-middle).bits == negated(even) ? 0 : 1;
    wrong += nemo::to_half(-std::nextafter(middle, infinity)).bits == negated(high) ? 0 : 1;
  }
  CHECK(wrong == 0);
  CHECK(nemo::to_half(1e30f).bits == 0x7c00);
  CHECK(nemo::to_half(-infinity).bits == 0xfc00);
  CHECK(nemo::to_half(1e-30f).bits == 0);
  CHECK(nemo::to_half(-1e-30f).bits == 0x8000);
  CHECK(nemo::to_half(std::numeric_limits<float>::denorm_min()).bits == 0);
}

TEST_CASE("bfloat16 is the upper half of a float, rounded to nearest even") {
  int wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float x = nemo::to_float(BFloat16{bits});
    wrong += std::bit_cast<std::uint32_t>(x) == i << 16 ? 0 : 1;
    if (std::isnan(x)) {
      wrong += std::isnan(nemo::to_float(nemo::to_bfloat16(x))) ? 0 : 1;
      continue;
    }
    wrong += nemo::to_bfloat16(x).bits == bits ? 0 : 1;
    if (std::isinf(x)) continue;
    const auto with_tail = [&](std::uint32_t tail) {
      return nemo::to_bfloat16(std::bit_cast<float>((i << 16) | tail)).bits;
    };
    const auto next = static_cast<std::uint16_t>(i + 1);
    wrong += with_tail(0x7fff) == bits ? 0 : 1;
    wrong += with_tail(0x8000) == (i % 2 == 0 ? bits : next) ? 0 : 1;
    wrong += with_tail(0x8001) == next ? 0 : 1;
  }
  CHECK(wrong == 0);
  // The payload of this NaN lies in the bits cut off.
  CHECK(std::isnan(nemo::to_float(nemo::to_bfloat16(std::bit_cast<float>(0x7f800001u)))));
}

TEST_CASE("block scale formats read as defined for every byte") {
  for (int e = 0; e < 256; ++e) {
    CHECK(nemo::e8m0_half(static_cast<std::uint8_t>(e)) ==
          static_cast<float>(std::ldexp(1.0, e - 128)));
  }
  for (int x = 0; x < 128; ++x) {
    const int exponent = x >> 3;
    const double expected =
        x == 127 ? 0.0
                 : (exponent == 0 ? std::ldexp(x & 7, -9) : std::ldexp(8 + (x & 7), exponent - 10));
    CHECK(nemo::ue4m3(static_cast<std::uint8_t>(x)) == static_cast<float>(expected));
  }
}
