// Integer arithmetic on sizes that come from outside: overflow is an error, never a small number.
#pragma once

#include <nemo/base/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace nemo {

/// a * b; throws bad_file naming `what` when the product does not fit.
[[nodiscard]] inline std::uint64_t checked_mul(std::uint64_t a, std::uint64_t b,
                                               std::string_view what) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    throw Error(ErrorCode::bad_file, std::string(what) + ": size overflows 64 bits");
  }
  return product;
}

/// a + b; throws bad_file naming `what` when the sum does not fit.
[[nodiscard]] inline std::uint64_t checked_add(std::uint64_t a, std::uint64_t b,
                                               std::string_view what) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) {
    throw Error(ErrorCode::bad_file, std::string(what) + ": size overflows 64 bits");
  }
  return sum;
}

}  // namespace nemo
