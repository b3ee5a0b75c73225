// What the tests of the fast kernel tables share: the tables, random data, the int8 model.
#pragma once

#include <nemo/base/aligned.hpp>
#include <nemo/kernels.hpp>
#include <nemo/tensor/random_blocks.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace nemo::test {

/// The tables to test against `reference`.
inline std::vector<const Kernels*> fast_tables() {
  const auto all = available_kernels();
  return {all.begin() + 1, all.end()};
}

/// The table of this name, or null where this CPU or build lacks it.
inline const Kernels* find_table(std::string_view name) {
  for (const Kernels* table : available_kernels()) {
    if (table->name == name) return table;
  }
  return nullptr;
}

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

inline std::vector<float> random_floats(std::int64_t n, float stddev, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> x(at(n));
  for (float& v : x) {
    // A sum of uniforms: normal enough, and the same on every standard library.
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(random()) / 4294967296.0;
    v = static_cast<float>(sum) * stddev;
  }
  return x;
}

inline std::vector<Half> random_halves(std::int64_t n, unsigned seed) {
  std::vector<Half> x;
  for (const float v : random_floats(n, 1.0f, seed)) x.push_back(to_half(v));
  return x;
}

/// Rows of activations as a matmul wants them: float or Q8Row, each row 64-byte aligned.
struct Activations {
  AlignedBuffer<std::byte> bytes;
  std::int64_t stride;
  std::vector<float> values;  // [tokens, cols]: what the arithmetic sees
};

inline Activations pack_activations(const Kernels& table, ActFormat format,
                                    const std::vector<float>& x, std::int64_t cols) {
  const std::int64_t tokens = static_cast<std::int64_t>(x.size()) / cols;
  Activations a;
  const std::int64_t bytes = format == ActFormat::f32 ? cols * 4 : Q8Row::bytes(cols);
  a.stride = (bytes + 63) / 64 * 64;
  a.bytes = AlignedBuffer<std::byte>(at(a.stride * tokens));
  a.values = x;
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::byte* row = a.bytes.data() + t * a.stride;
    if (format == ActFormat::f32) {
      std::memcpy(row, x.data() + t * cols, at(cols * 4));
      continue;
    }
    if (format == ActFormat::q8) {
      table.quantize_q8(x.data() + t * cols, cols, row, nullptr);
    } else {
      table.quantize_q8_winograd(x.data() + t * cols, cols, row);
    }
    const Q8Row q = Q8Row::at(row, cols);
    for (std::int64_t c = 0; c < cols; ++c) {
      a.values[at(t * cols + c)] = q.scales[c / 32] * static_cast<float>(q.codes[c]);
    }
  }
  return a;
}

/// A stored matrix whose last byte is the last byte of its allocation, so that the address
/// sanitizer sees any read behind it.
struct StoredMatrix {
  std::vector<std::byte> bytes;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t row_bytes;
  std::int64_t lanes = 0;
  // Planar formats only.
  std::vector<std::byte> scales = {}, biases = {};
  Planes planes = {};
  std::vector<float> levels = {};
  [[nodiscard]] WeightRows view() const {
    const auto plane = [](const auto& array) { return array.empty() ? nullptr : array.data(); };
    WeightRows w{bytes.data(), row_bytes, cols, plane(scales), plane(biases), planes, lanes, rows};
    w.planes.levels = plane(levels);
    return w;
  }
};

/// The first rows of a matrix, a multiple of format.lanes, in that format's kernel order.
inline StoredMatrix in_kernel_order(const FormatKernels& format, const StoredMatrix& m) {
  StoredMatrix ordered = m;
  ordered.lanes = format.lanes;
  ordered.rows = m.rows / format.lanes * format.lanes;
  ordered.bytes.assign(at(ordered.rows * m.row_bytes), std::byte{});
  ordered.scales.assign(m.scales.empty() ? 0 : at(ordered.rows * m.planes.stride), std::byte{});
  ordered.biases.assign(m.biases.empty() ? 0 : ordered.scales.size(), std::byte{});
  format.to_kernel_order(m.view(), 0, ordered.rows,
                         {ordered.bytes.data(), ordered.scales.data(), ordered.biases.data()});
  return ordered;
}

inline StoredMatrix random_matrix(DType type, std::int64_t rows, std::int64_t cols,
                                  std::uint64_t seed) {
  StoredMatrix m{{}, rows, cols, row_bytes(type, cols)};
  m.bytes.resize(at(rows * m.row_bytes));
  for (std::int64_t r = 0; r < rows; ++r) {
    random_row(type, cols, 0.5f, seed * 1000 + static_cast<std::uint64_t>(r),
               m.bytes.data() + r * m.row_bytes);
  }
  return m;
}

/// Writes `value` as a float type; for the types of one byte `byte` is written.
inline void put_scale(ScaleType type, float value, std::uint32_t byte, std::byte* to) {
  const auto put = [to](auto bits) { std::memcpy(to, &bits, sizeof bits); };
  switch (type) {
    case ScaleType::f32:
      return put(value);
    case ScaleType::f16:
      return put(to_half(value).bits);
    case ScaleType::bf16:
      return put(to_bfloat16(value).bits);
    case ScaleType::e8m0:
    case ScaleType::e4m3:
      return put(static_cast<std::uint8_t>(byte));
    case ScaleType::none:
      return;
  }
}

/// Random codes; scales and biases around 1 and -7.5, or no scales; levels that int8 holds exactly.
inline StoredMatrix random_planar(DType type, std::int64_t rows, std::int64_t cols,
                                  std::int64_t group, ScaleType scale_type, unsigned seed) {
  std::mt19937 random(seed);
  StoredMatrix m{{}, rows, cols, row_bytes(type, cols)};
  m.bytes.resize(at(rows * m.row_bytes));
  for (std::byte& b : m.bytes) b = static_cast<std::byte>(random());
  if (type == DType::e4m3) {
    for (std::byte& b : m.bytes) b &= static_cast<std::byte>(0xbf);  // exponents that stay small
  }
  if (scale_type != ScaleType::none) {
    const std::int64_t size = scale_bytes(scale_type);
    m.planes = {scale_type, group, cols / group * size, nullptr};
    const auto fill = [&](std::vector<std::byte>& plane, float low) {
      plane.resize(at(rows * m.planes.stride));
      for (std::int64_t i = 0; i < rows * m.planes.stride; i += size) {
        const float value = low + static_cast<float>(random() % 1000) / 1000.0f;
        const auto byte = static_cast<std::uint32_t>(
            scale_type == ScaleType::e8m0 ? 120 + random() % 10 : 0x28 + random() % 32);
        put_scale(scale_type, value, byte, plane.data() + i);
      }
    };
    fill(m.scales, 0.5f);
    if (type <= DType::affine8) fill(m.biases, -8.0f);
  }
  for (int i = 0; i < 16; ++i) m.levels.push_back(static_cast<float>(i) * 0.3f - 2.1f);
  return m;
}

/// Weight types whose rows are complete in themselves, or those that need planes beside them, in
/// the order of DType.
inline std::vector<DType> weight_types(bool planar = false) {
  std::vector<DType> types;
  for (const DTypeInfo& i : all_dtypes()) {
    if (is_planar(i.type) != planar) continue;
    if (select_kernels("reference").format(i.type).matmul != nullptr) types.push_back(i.type);
  }
  return types;
}

/// The exact products of a matrix and activations.
class ExactProducts {
 public:
  /// A code and its bias may nearly cancel: beside biases the largest code counts in magnitudes.
  ExactProducts(DType type, const StoredMatrix& m, const std::vector<float>& x) : rows_(m.rows) {
    const FormatKernels& reference = select_kernels("reference").format(type);
    const std::int64_t tokens = static_cast<std::int64_t>(x.size()) / m.cols;
    sums_.resize(at(tokens * rows_));
    magnitudes_.resize(sums_.size());
    StoredMatrix largest = m;
    std::fill(largest.bytes.begin(), largest.bytes.end(), std::byte{0xff});
    largest.biases.clear();
    std::vector<float> row(at(m.cols)), extra(at(m.cols));
    for (std::int64_t r = 0; r < rows_; ++r) {
      reference.decode_row(m.view(), r, row.data());
      if (!m.biases.empty()) reference.decode_row(largest.view(), r, extra.data());
      for (std::int64_t t = 0; t < tokens; ++t) {
        double sum = 0;
        double magnitude = 0;
        for (std::int64_t c = 0; c < m.cols; ++c) {
          const double term =
              static_cast<double>(row[at(c)]) * static_cast<double>(x[at(t * m.cols + c)]);
          sum += term;
          magnitude += std::abs(term) + std::abs(static_cast<double>(extra[at(c)]) *
                                                 static_cast<double>(x[at(t * m.cols + c)]));
        }
        sums_[at(t * rows_ + r)] = sum;
        magnitudes_[at(t * rows_ + r)] = magnitude;
      }
    }
  }

  /// How many of y[tokens, rows] (rows from row0 on) are further than tolerance * sum |w x| away.
  [[nodiscard]] int wrong(const std::vector<float>& y, std::int64_t ldy, std::int64_t row0,
                          std::int64_t rows, std::int64_t tokens, double tolerance) const {
    int count = 0;
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::size_t i = at(t * rows_ + row0 + r);
        const double error = std::abs(static_cast<double>(y[at(t * ldy + r)]) - sums_[i]);
        if (!(error <= tolerance * magnitudes_[i] + 1e-37)) ++count;
      }
    }
    return count;
  }
  [[nodiscard]] int wrong(const std::vector<float>& y, double tolerance) const {
    return wrong(y, rows_, 0, rows_, static_cast<std::int64_t>(y.size()) / rows_, tolerance);
  }

 private:
  std::int64_t rows_;
  std::vector<double> sums_;
  std::vector<double> magnitudes_;
};

}  // namespace nemo::test
