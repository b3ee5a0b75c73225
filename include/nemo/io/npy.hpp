// Writer of NumPy .npy files: a text header with the shape, then row-major little-endian floats.
#pragma once

#include <nemo/io/atomic_file.hpp>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace nemo {

/// Streams a float32 matrix [rows, cols] row by row; the file appears when finish() returns.
class NpyWriter {
 public:
  /// Throws Error{io} when the file cannot be created.
  NpyWriter(const std::filesystem::path& path, std::int64_t rows, std::int64_t cols);

  /// Any number of whole rows. Throws Error{internal} when their size does not fit the shape.
  void append(std::span<const float> values);
  /// Throws Error{internal} when rows are missing, {io} when the disk refuses.
  void finish();

 private:
  AtomicFile file_;
  std::int64_t cols_;
  std::int64_t missing_;  // values still to come
};

}  // namespace nemo
