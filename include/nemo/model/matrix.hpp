// A stored weight matrix of any format, and the products y = W x the modules are made of.
#pragma once

#include <nemo/model/compute.hpp>
#include <nemo/tensor/dtype.hpp>
#include <nemo/tensor/side_arrays.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nemo {

/// `count` matrices [rows, cols] of one format (count > 1: stacked experts). Does not own its
/// bytes: they lie in the mapped file or in a buffer of the weights object.
struct Matrix {
  DType type = DType::f32;
  std::int64_t count = 0;  // 0: the matrix is absent
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const std::byte* data = nullptr;  // [count, rows, row_bytes(type, cols)]
  std::vector<float> scales;        // empty, or one factor for all, or [count] (NVFP4)
  SideArrays side = {};             // of planar formats, and of stacks that lie in pieces
  std::int64_t lanes = 0;           // of WeightRows; rows are a multiple of it

  [[nodiscard]] explicit operator bool() const noexcept { return count > 0; }
  /// Bytes of one row with all that belongs to it.
  [[nodiscard]] std::int64_t row_size() const noexcept {
    return row_bytes(type, cols) + side.row_bytes();
  }
  [[nodiscard]] std::int64_t bytes() const noexcept { return count * rows * row_size(); }
  /// The rows of one matrix, as kernels want them.
  [[nodiscard]] WeightRows view(std::int64_t index = 0) const noexcept {
    const std::int64_t row = row_bytes(type, cols);
    const MatrixBytes own = side.of(data, index, rows, row);
    return {own.codes, row, cols, own.scales, own.biases, side.planes, lanes, rows};
  }
  [[nodiscard]] float scale(std::int64_t index) const noexcept {
    if (scales.empty()) return 1.0f;
    return scales.size() == 1 ? scales[0] : scales[static_cast<std::size_t>(index)];
  }
};

/// Activation rows in the forms the weight formats want; a form is made once, on first use.
class Activations {
 public:
  /// x: [rows, cols], rows `stride` floats apart and 64-byte aligned; must outlive this object.
  Activations(Compute& compute, const float* x, std::int64_t rows, std::int64_t cols,
              std::int64_t stride)
      : compute_(compute), x_(x), rows_(rows), cols_(cols), stride_(stride) {}

  /// A row is `planes` consecutive kernel rows whose products add up: 2 for int8 with a second
  /// plane that holds the rounding error of the first, else 1.
  struct Form {
    const std::byte* data;
    std::int64_t stride;  // bytes from row to row
    int planes = 1;
  };
  /// The form that products with `w` read: rotated if w wants that, in its format's ActFormat.
  [[nodiscard]] Form form(const Matrix& w) {
    return form(compute_.products().format(w.type).product(w.view()).act, w.side.rotation.get());
  }
  [[nodiscard]] Form form(ActFormat format, const Rotation* rotation = nullptr);
  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }

 private:
  Compute& compute_;
  const float* x_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t stride_;
  /// The rows under one rotation (null: as they are).
  struct Rows {
    const Rotation* rotation;
    const float* x;
    std::int64_t stride;
    const std::byte* q8 = nullptr;
    const std::byte* q8_winograd = nullptr;
  };
  [[nodiscard]] Rows& rotated(const Rotation* rotation);
  std::vector<Rows> made_;
};

/// What a product does with its rows while they are in cache.
struct Epilogue {
  const float* bias = nullptr;  // [rows], added
  bool relu2 = false;           // then y = max(y, 0)^2
};
/// The biases of matrix `index` of a stack; none if there are none.
[[nodiscard]] inline Epilogue biased(const std::vector<float>& biases, const Matrix& w,
                                     std::int64_t index = 0) {
  return {biases.empty() ? nullptr : biases.data() + index * w.rows, false};
}
/// The same, then y = max(y, 0)^2.
[[nodiscard]] inline Epilogue biased_relu2(const std::vector<float>& biases, const Matrix& w,
                                           std::int64_t index = 0) {
  return {biased(biases, w, index).bias, true};
}

/// One y = W x: y[t*ldy + r] = scale * sum_c W[index][r, c] x[t, c], then the epilogue.
struct Product {
  const Matrix* w;
  std::int64_t index;  // which of w->count matrices
  Activations::Form x;
  std::int64_t tokens;
  float* y;
  std::int64_t ldy;
  Epilogue epilogue = {};
};

/// Runs products, which must not depend on each other, in one parallel region.
void run_products(Compute& compute, std::span<const Product> products);

/// y = W x for a single matrix.
void linear(Compute& compute, const Matrix& w, Activations& x, float* y, std::int64_t ldy,
            Epilogue epilogue = {});

/// out [cols] = row `token` of an embedding table.
void embed(Compute& compute, const Matrix& table, std::int32_t token, float* out);

}  // namespace nemo
