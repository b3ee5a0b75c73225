// Rows read as long streams; included after the instruction set's vector.hpp.
#pragma once

#include "lanes-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kStreams = 4;  // places that a few tokens' rows are read from at once

/// fn(at) for `rows` rows, kStreams at a time. Those lie kStreams-ths of the stretch apart:
/// hardware follows each place as one long stream, where neighbouring rows would be many short ones
/// (BF16, Zen 4: 99 % of reading instead of 79). Where streams have ended, `at` has the last row
/// once more.
template <class Fn>
NEMO_SIMD void for_streams(std::int64_t rows, Fn fn) {
  const std::int64_t length = (rows + kStreams - 1) / kStreams;
  for (std::int64_t r = 0; r < length; ++r) {
    std::int64_t at[kStreams];
    for (std::int64_t i = 0; i < kStreams; ++i) {
      at[i] = i * length + r < rows ? i * length + r : rows - 1;
    }
    fn(at);
  }
}

}  // namespace
}  // namespace nemo
