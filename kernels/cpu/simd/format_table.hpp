// What an instruction set's formats.cpp hands to its kernels.cpp.
#pragma once

#include <nemo/kernels.hpp>

namespace nemo {

/// One entry a DType, in its order.
struct FormatTable {
  FormatKernels formats[kDTypeCount];
};

}  // namespace nemo
