// Products of activations with stored matrices, split over threads by weight rows.
#include "row_queue.hpp"

#include <nemo/model/matrix.hpp>

#include <algorithm>

namespace nemo {

Activations::Rows& Activations::rotated(const Rotation* rotation) {
  const auto found = std::find_if(made_.begin(), made_.end(),
                                  [&](const Rows& r) { return r.rotation == rotation; });
  if (found != made_.end()) return *found;
  if (rotation == nullptr) return made_.emplace_back(Rows{nullptr, x_, stride_});
  const std::int64_t stride = padded(cols_);
  auto* y = compute_.arena.take<float>(rows_ * stride);
  parallel_for(rows_ >= 8 ? compute_.threads : 1, rows_, [&](std::int64_t r) {
    compute_.kernels.rotate(x_ + r * stride_, rotation->signs.data(), cols_, rotation->block,
                            y + r * stride);
  });
  return made_.emplace_back(Rows{rotation, y, stride});
}

Activations::Form Activations::form(ActFormat format, const Rotation* rotation) {
  Rows& source = rotated(rotation);
  if (format == ActFormat::f32) {
    return {reinterpret_cast<const std::byte*>(source.x),
            source.stride * static_cast<std::int64_t>(sizeof(float))};
  }
  const int planes = compute_.fine_activations ? 2 : 1;
  const std::int64_t plane_bytes = Q8Row::bytes(cols_);
  const bool winograd = format == ActFormat::q8_winograd;
  const std::byte*& made = winograd ? source.q8_winograd : source.q8;
  if (made == nullptr) {
    auto* rows = compute_.arena.take<std::byte>(rows_ * planes * plane_bytes);
    auto* errors = compute_.arena.take<float>(planes > 1 ? compute_.threads * padded(cols_) : 0);
    // One row takes a microsecond or two, as long as a parallel region.
    parallel_for(rows_ >= 4 ? compute_.threads : 1, rows_, [&](std::int64_t r) {
      const float* x = source.x + r * source.stride;
      std::byte* first = rows + r * planes * plane_bytes;
      float* error = planes > 1 ? errors + omp_get_thread_num() * padded(cols_) : nullptr;
      if (winograd) return compute_.products().quantize_q8_winograd(x, cols_, first);
      compute_.kernels.quantize_q8(x, cols_, first, error);
      if (planes > 1) compute_.kernels.quantize_q8(error, cols_, first + plane_bytes, nullptr);
    });
    made = rows;
  }
  return {made, planes * plane_bytes, planes};
}

namespace {

/// `rows` rows of a product from row0 on. sums: room for those of both planes.
void multiply_rows(Compute& compute, const Product& p, std::int64_t row0, std::int64_t rows,
                   float* sums) {
  const WeightRows w = p.w->view(p.index);
  float* y = p.y + row0;
  const Matmul matmul = compute.products().format(p.w->type).product(w).matmul;
  if (p.x.planes == 1) {
    matmul(w, row0, rows, p.x.data, p.x.stride, p.tokens, y, p.ldy, compute.thread_scratch());
  } else {
    matmul(w, row0, rows, p.x.data, p.x.stride / 2, 2 * p.tokens, sums, rows,
           compute.thread_scratch());
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      const float* part = sums + 2 * t * rows;
      for (std::int64_t r = 0; r < rows; ++r) y[t * p.ldy + r] = part[r] + part[rows + r];
    }
  }
  const float scale = p.w->scale(p.index);
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    float* row = y + t * p.ldy;
    if (scale != 1.0f) compute.kernels.scale(scale, rows, row);
    if (p.epilogue.bias != nullptr) compute.kernels.add(p.epilogue.bias + row0, rows, row);
    if (p.epilogue.relu2) compute.kernels.relu2(row, rows);
  }
}

}  // namespace

void run_products(Compute& compute, std::span<const Product> products) {
  Arena::Scope scope(compute.arena);
  Profile::Products timer(compute.profile);
  for (const Product& p : products) {
    if (p.tokens > 0) timer.add(p.w->rows * p.w->row_size(), p.w->rows * p.w->cols, p.tokens);
  }
  RowQueue queue(products, compute.threads, compute.arena);
  // Both planes' sums of a call: [tokens, planes, rows], 256 KiB unless tokens are many.
  constexpr std::int64_t kLeastRows = 128;  // whole slabs
  std::int64_t plane_floats = 0;
  for (const Product& p : products) {
    if (p.x.planes == 1) continue;
    plane_floats = std::max({plane_floats, std::int64_t{1} << 16, 2 * p.tokens * kLeastRows});
  }
  auto* plane_sums = compute.arena.take<float>(compute.threads * plane_floats);
  parallel_for(compute.threads, compute.threads, [&](std::int64_t) {
    float* sums = plane_sums + omp_get_thread_num() * plane_floats;
    const auto multiply = [&](const RowQueue::Rows& all) {
      const Product& p = *all.product;
      // What a call leaves is to be in cache still for the epilogue, and one with many tokens is to
      // pay for first laying out their scales.
      const std::int64_t most =
          p.x.planes > 1 ? plane_floats / (2 * p.tokens) / kLeastRows * kLeastRows : 2048;
      for (std::int64_t r = all.begin; r < all.end; r += most) {
        multiply_rows(compute, p, r, std::min(most, all.end - r), sums);
      }
    };
    while (queue.take(multiply)) {
    }
  });
}

void linear(Compute& compute, const Matrix& w, Activations& x, float* y, std::int64_t ldy,
            Epilogue epilogue) {
  const Product product{&w, 0, x.form(w), x.rows(), y, ldy, epilogue};
  run_products(compute, {&product, 1});
}

void embed(Compute& compute, const Matrix& table, std::int32_t token, float* out) {
  compute.kernels.format(table.type).decode_row(table.view(), token, out);
  if (table.scale(0) != 1.0f) compute.kernels.scale(table.scale(0), table.cols, out);
}

}  // namespace nemo
