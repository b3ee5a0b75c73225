// What this machine can do at most, and how near each weight format's product comes to it.
#pragma once

#include <nemo/kernels.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace nemo {

/// The limits, for one kernel table and number of threads.
struct MachineLimits {
  double read_bytes_per_second = 0;
  double f32_ops_per_second = 0;
  double bf16_ops_per_second = 0;  // 0: no product here takes bf16
  double dot4_ops_per_second = 0;  // 4-bit codes times int8
  double dot8_ops_per_second = 0;  // int8 times int8
};
[[nodiscard]] MachineLimits measure_limits(const Kernels& kernels, int threads);

struct RooflineOptions {
  std::int64_t cols = 4096;   // of the matrices, rounded down to whole blocks
  std::int64_t tokens = 512;  // of the batch
  /// Of the one-token matrix, and at most of the batch's; far more than the last cache holds.
  std::int64_t matrix_bytes = std::int64_t{256} << 20;
};

/// A product with one token waits for memory, with many for arithmetic.
struct ProductSpeed {
  double bytes_per_second = 0;       // weights read, one token, a matrix far larger than the caches
  double read_bytes_per_second = 0;  // by plain reading, in turns with it
  double bandwidth_fraction = 0;     // bytes_per_second as a part of that
  double ops_per_second = 0;         // a batch of tokens
  double peak_fraction = 0;  // of dot4_ops, or of f32_ops or bf16_ops for products of floats
};
/// One format's, with the rows as they lie in a file and in the kernel table's order.
struct FormatSpeed {
  DType type = DType::f32;
  std::string name;  // as stored_form: planar formats come with groups and scales of several sizes
  ProductSpeed file;
  std::optional<ProductSpeed> kernel;  // where the table has an order for the format
};

/// Measures every format in turn that matrices have, planar ones with the planes usual in folders,
/// about a second each and order; `report` sees each result as it is made.
void measure_formats(const Kernels& kernels, int threads, std::span<const DType> types,
                     const MachineLimits& limits, const RooflineOptions& options,
                     const std::function<void(const FormatSpeed&)>& report);

}  // namespace nemo
