// Kernel order: matrices arranged as the products of a kernel table read them, groups of rows
// interleaved (kernels.hpp). Same values, same bytes in number, and every product has the same
// bits.
//
// Either the copy is made while a model loads, or it lies in a file: a pack (checkpoint/pack.hpp).
#pragma once

#include <nemo/base/page_buffer.hpp>
#include <nemo/base/progress.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/kernels.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace nemo {

/// "rows8", "rows16": what files call an order with groups of this many rows; "file" for 0.
[[nodiscard]] std::string order_name(std::int64_t lanes);

/// The order of a kernel table; 0: it has none.
[[nodiscard]] std::int64_t kernel_order(const Kernels& kernels) noexcept;

/// One matrix of a tensor.
[[nodiscard]] WeightRows rows_of(const TensorRef& tensor, std::int64_t index) noexcept;

/// Calls fn(index of the matrix, its first row, rows, done) for rows [first, first + rows) of a
/// stack of matrices of `matrix_rows` rows, taken as one; `done` counts the rows before.
template <class Fn>
void for_stack(std::int64_t matrix_rows, std::int64_t first, std::int64_t rows, Fn fn) {
  for (std::int64_t done = 0; done < rows;) {
    const std::int64_t index = (first + done) / matrix_rows;
    const std::int64_t row = first + done - index * matrix_rows;
    const std::int64_t count = std::min(rows - done, matrix_rows - row);
    fn(index, row, count, done);
    done += count;
  }
}

/// The same for the matrices of a tensor, as rows: fn(matrix, its first row, rows, done).
template <class Fn>
void for_matrices(const TensorRef& tensor, std::int64_t first, std::int64_t rows, Fn fn) {
  for_stack(tensor.rows(), first, rows,
            [&](std::int64_t index, std::int64_t row, std::int64_t count, std::int64_t done) {
              fn(rows_of(tensor, index), row, count, done);
            });
}

/// Rows of all matrices of a stack, taken as one, that are put in order together: slabs or whole
/// matrices, and a multiple of 16.
[[nodiscard]] std::int64_t order_unit(std::int64_t lanes, std::int64_t rows, std::int64_t cols,
                                      std::int64_t count) noexcept;

/// Writes rows [first, first + rows) of all matrices of a tensor, taken as one, to `to` in kernel
/// order; they are multiples of order_unit(), or `rows` all that is left.
void order_rows(const Kernels& kernels, const TensorRef& tensor, std::int64_t first,
                std::int64_t rows, const RowsOut& to);

/// Whether a matrix of `checkpoint` may lie in kernel order at all: it is read by products only,
/// and its rows (of each expert, of each part of a fused one) come in whole groups.
[[nodiscard]] bool fits_kernel_order(const Checkpoint& checkpoint, const TensorRef& tensor,
                                     std::int64_t lanes);

/// The matrices of a checkpoint in file order that this table has a kernel order for.
[[nodiscard]] std::vector<const TensorRef*> kernel_order_tensors(const Checkpoint& checkpoint,
                                                                 const Kernels& kernels);

[[nodiscard]] std::int64_t bytes_of(std::span<const TensorRef* const> tensors) noexcept;

/// Whether a copy of this many bytes is quick to make and leaves room: at most 8 GiB and a third
/// of the memory. Larger models start sooner from the file as it is, and as a pack they need no
/// copy.
[[nodiscard]] bool worth_repacking(std::int64_t bytes);

/// Matrices of a checkpoint in kernel order, in memory of their own.
struct Repacked {
  struct Place {
    MatrixBytes arrays;  // matrices of a stack follow each other
    std::int64_t lanes;
  };
  PageBuffer bytes;
  std::unordered_map<const TensorRef*, Place> places;
};

/// Copies `tensors` (of kernel_order_tensors) in parallel; `progress` hears (bytes done, bytes in
/// all) from any thread, one call at a time. Throws std::bad_alloc, Error{cancelled}.
[[nodiscard]] Repacked repack(const Checkpoint& checkpoint,
                              std::span<const TensorRef* const> tensors, const Kernels& kernels,
                              int threads, const ProgressCallback& progress);

/// Throws Error{unsupported}, saying what to do, when `checkpoint` is a pack that these kernels
/// cannot read.
void require_readable(const Checkpoint& checkpoint, const Kernels& kernels);

/// Throws Error{unsupported} when `checkpoint` is a pack: other containers hold file order.
void require_file_order(const Checkpoint& checkpoint);

}  // namespace nemo
