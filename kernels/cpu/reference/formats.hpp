// What the files of the reference table share.
#pragma once

#include <nemo/kernels.hpp>

#include <cstdint>

namespace nemo::reference {

/// One entry a DType, in its order.
struct FormatTable {
  FormatKernels formats[kDTypeCount];
};
extern const FormatTable kFormatTable;

/// sum_i a_i * b_i. A product of two floats is exact in double, so the result is within a few ulp
/// of double of the true sum, and rounding it to float gives the reference's value. Four partial
/// sums let the compiler keep several additions in flight; their order is fixed.
template <class B>
[[gnu::always_inline]] inline float dot(const float* a, const B* b, std::int64_t n) noexcept {
  double sums[4] = {0, 0, 0, 0};
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int j = 0; j < 4; ++j) {
      sums[j] += static_cast<double>(a[i + j]) * static_cast<double>(to_float(b[i + j]));
    }
  }
  for (; i < n; ++i) sums[0] += static_cast<double>(a[i]) * static_cast<double>(to_float(b[i]));
  return static_cast<float>((sums[0] + sums[2]) + (sums[1] + sums[3]));
}

}  // namespace nemo::reference
