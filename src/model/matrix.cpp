// Products of activations with stored matrices, split over threads by weight rows.
#include <nemo/model/matrix.hpp>

#include <algorithm>

namespace nemo {

Activations::Rows& Activations::rotated(const Rotation* rotation) {
  const auto found = std::find_if(made_.begin(), made_.end(),
                                  [&](const Rows& r) { return r.rotation == rotation; });
  if (found != made_.end()) return *found;
  if (rotation == nullptr) return made_.emplace_back(Rows{nullptr, x_, stride_, nullptr});
  const std::int64_t stride = padded(cols_);
  auto* y = compute_.arena.take<float>(rows_ * stride);
  parallel_for(rows_ >= 8 ? compute_.threads : 1, rows_, [&](std::int64_t r) {
    compute_.kernels.rotate(x_ + r * stride_, rotation->signs.data(), cols_, rotation->block,
                            y + r * stride);
  });
  return made_.emplace_back(Rows{rotation, y, stride, nullptr});
}

Activations::Form Activations::form(ActFormat format, const Rotation* rotation) {
  Rows& source = rotated(rotation);
  if (format == ActFormat::f32) {
    return {reinterpret_cast<const std::byte*>(source.x),
            source.stride * static_cast<std::int64_t>(sizeof(float))};
  }
  const int planes = compute_.fine_activations ? 2 : 1;
  const std::int64_t plane_bytes = Q8Row::bytes(cols_);
  if (source.q8 == nullptr) {
    auto* rows = compute_.arena.take<std::byte>(rows_ * planes * plane_bytes);
    auto* errors = compute_.arena.take<float>(planes > 1 ? compute_.threads * padded(cols_) : 0);
    // One row is a few microseconds: not worth a parallel region for the few rows of decoding.
    parallel_for(rows_ >= 8 ? compute_.threads : 1, rows_, [&](std::int64_t r) {
      const float* x = source.x + r * source.stride;
      std::byte* first = rows + r * planes * plane_bytes;
      compute_.kernels.quantize_q8(x, cols_, first);
      if (planes == 1) return;
      float* error = errors + omp_get_thread_num() * padded(cols_);
      const Q8Row codes = Q8Row::at(first, cols_);
      for (std::int64_t i = 0; i < cols_; ++i) {
        error[i] = x[i] - codes.scales[i / 32] * static_cast<float>(codes.codes[i]);
      }
      compute_.kernels.quantize_q8(error, cols_, first + plane_bytes);
    });
    source.q8 = rows;
  }
  return {source.q8, planes * plane_bytes, planes};
}

void run_products(Compute& compute, std::span<const Product> products) {
  Arena::Scope scope(compute.arena);
  Profile::Products timer(compute.profile);
  for (const Product& p : products) {
    if (p.tokens > 0) timer.add(p.w->rows * p.w->row_size(), p.w->rows * p.w->cols, p.tokens);
  }
  // Few tokens: 64 rows of a 4-bit matrix are ~100 KiB, some 10 us of streaming, enough to hide the
  // hand-out. Many: a call first lays out all activation scales and waits for its first weights
  // (the later ones are fetched ahead), which pays for more rows at once, for a whole expert's
  // unless two planes have to be added up in cache. Either way every thread gets many items, since
  // the last ones are waited for.
  constexpr std::int64_t kMostRows = 2048;
  constexpr std::int64_t kMostPlaneRows = 512;
  std::int64_t all_rows = 0;
  for (const Product& p : products) all_rows += p.tokens > 0 ? p.w->rows : 0;
  const auto rows_per_item = [&](const Product& p) {
    const bool few = p.tokens < 8;
    const std::int64_t items = compute.threads * (few ? 32 : 16);
    const std::int64_t step = few ? 32 : 64;  // as many rows as products of floats take at once
    const std::int64_t most = few              ? kMostPlaneRows / 4
                              : p.x.planes > 1 ? kMostPlaneRows
                                               : kMostRows;
    return std::clamp(all_rows / items / step * step, step, most);
  };
  const auto count = static_cast<std::int64_t>(products.size());
  auto* first_item = compute.arena.take<std::int64_t>(count + 1);
  first_item[0] = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const Product& p = products[static_cast<std::size_t>(i)];
    const std::int64_t step = rows_per_item(p);
    first_item[i + 1] = first_item[i] + (p.tokens > 0 ? (p.w->rows + step - 1) / step : 0);
  }
  std::int64_t plane_floats = 0;
  for (const Product& p : products) {
    if (p.x.planes > 1) plane_floats = std::max(plane_floats, 2 * p.tokens * kMostPlaneRows);
  }
  auto* plane_sums = compute.arena.take<float>(compute.threads * plane_floats);
  parallel_for(compute.threads, first_item[count], [&](std::int64_t item) {
    const std::int64_t* next = std::upper_bound(first_item, first_item + count + 1, item);
    const std::int64_t i = next - first_item - 1;
    const Product& p = products[static_cast<std::size_t>(i)];
    const std::int64_t step = rows_per_item(p);
    const std::int64_t row0 = (item - first_item[i]) * step;
    const std::int64_t rows = std::min(step, p.w->rows - row0);
    const WeightRows w = p.w->view(p.index);
    float* y = p.y + row0;
    const Matmul matmul = compute.products().format(p.w->type).product(w).matmul;
    if (p.x.planes == 1) {
      matmul(w, row0, rows, p.x.data, p.x.stride, p.tokens, y, p.ldy, compute.thread_scratch());
    } else {
      float* parts = plane_sums + omp_get_thread_num() * plane_floats;  // [tokens, planes, rows]
      matmul(w, row0, rows, p.x.data, p.x.stride / 2, 2 * p.tokens, parts, kMostPlaneRows,
             compute.thread_scratch());
      for (std::int64_t t = 0; t < p.tokens; ++t) {
        const float* part = parts + 2 * t * kMostPlaneRows;
        for (std::int64_t r = 0; r < rows; ++r)
          y[t * p.ldy + r] = part[r] + part[kMostPlaneRows + r];
      }
    }
    const float scale = p.w->scale(p.index);
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      float* row = y + t * p.ldy;
      if (scale != 1.0f) compute.kernels.scale(scale, rows, row);
      if (p.epilogue.bias != nullptr) compute.kernels.add(p.epilogue.bias + row0, rows, row);
      if (p.epilogue.relu2) compute.kernels.relu2(row, rows);
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
