// Products of activations with stored matrices, split over threads by weight rows.
#include <nemo/model/matrix.hpp>

#include <algorithm>

namespace nemo {

Activations::Form Activations::form(ActFormat format) {
  if (format == ActFormat::f32) {
    return {reinterpret_cast<const std::byte*>(x_),
            stride_ * static_cast<std::int64_t>(sizeof(float))};
  }
  const std::int64_t bytes = Q8Row::bytes(cols_);
  if (q8_ == nullptr) {
    auto* rows = compute_.arena.take<std::byte>(rows_ * bytes);
    // One row is a few microseconds: not worth a parallel region for the few rows of decoding.
    parallel_for(rows_ >= 8 ? compute_.threads : 1, rows_, [&](std::int64_t r) {
      compute_.kernels.quantize_q8(x_ + r * stride_, cols_, rows + r * bytes);
    });
    q8_ = rows;
  }
  return {q8_, bytes};
}

void run_products(Compute& compute, std::span<const Product> products) {
  Arena::Scope scope(compute.arena);
  // 64 rows of a 4-bit matrix are ~100 KiB, some 5 us of streaming: small enough to balance, large
  // enough to hide the hand-out. With many tokens the same rows cost far more, so items shrink.
  const auto rows_per_item = [](const Product& p) -> std::int64_t {
    return p.tokens >= 32 ? 32 : 64;
  };
  const auto count = static_cast<std::int64_t>(products.size());
  auto* first_item = compute.arena.take<std::int64_t>(count + 1);
  first_item[0] = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const Product& p = products[static_cast<std::size_t>(i)];
    const std::int64_t step = rows_per_item(p);
    first_item[i + 1] = first_item[i] + (p.tokens > 0 ? (p.w->rows + step - 1) / step : 0);
  }
  parallel_for(compute.threads, first_item[count], [&](std::int64_t item) {
    const std::int64_t* next = std::upper_bound(first_item, first_item + count + 1, item);
    const std::int64_t i = next - first_item - 1;
    const Product& p = products[static_cast<std::size_t>(i)];
    const std::int64_t step = rows_per_item(p);
    const std::int64_t row0 = (item - first_item[i]) * step;
    const std::int64_t rows = std::min(step, p.w->rows - row0);
    const WeightRows w{p.w->data + p.index * p.w->rows * p.w->row_size(), p.w->row_size(),
                       p.w->cols};
    float* y = p.y + row0;
    compute.kernels.format(p.w->type).matmul(w, row0, rows, p.x.data, p.x.stride, p.tokens, y,
                                             p.ldy, compute.thread_scratch());
    const float scale = p.w->scale(p.index);
    if (scale != 1.0f) {
      for (std::int64_t t = 0; t < p.tokens; ++t) compute.kernels.scale(scale, rows, y + t * p.ldy);
    }
  });
}

void linear(Compute& compute, const Matrix& w, Activations& x, float* y, std::int64_t ldy) {
  const Product product{&w, 0, x.form(act_format(compute, w)), x.rows(), y, ldy};
  run_products(compute, {&product, 1});
}

void add_bias(Compute& compute, const std::vector<float>& bias, std::int64_t tokens, float* y,
              std::int64_t ldy) {
  if (bias.empty()) return;
  for (std::int64_t t = 0; t < tokens; ++t) {
    compute.kernels.add(bias.data(), static_cast<std::int64_t>(bias.size()), y + t * ldy);
  }
}

}  // namespace nemo
