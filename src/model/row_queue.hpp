// Hands out the rows of several products to threads: long stretches first, so that each thread
// reads one stream of weights, then ever shorter ones, so that all end together.
#pragma once

#include <nemo/base/arena.hpp>
#include <nemo/model/matrix.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>

namespace nemo {

class RowQueue {
 public:
  /// Rows of one product.
  struct Rows {
    const Product* product;
    std::int64_t begin;
    std::int64_t end;
  };

  RowQueue(std::span<const Product> products, int threads, Arena& arena);

  /// Calls body(Rows) for all rows of the next stretch, product by product; false: none is left.
  template <class Body>
  bool take(Body&& body) {
    std::int64_t begin = next_.load(std::memory_order_relaxed);
    std::int64_t end;
    do {
      if (begin == starts_[products_.size()].piece) return false;
      end = end_of(begin);
    } while (!next_.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    for (std::size_t i = product_of(begin); begin < end; ++i) {
      const std::int64_t first = starts_[i].piece;
      const std::int64_t last = std::min(starts_[i + 1].piece, end);
      if (begin == last) continue;  // without tokens
      const Product& p = products_[i];
      const std::int64_t step = step_of(p);
      body(Rows{&p, (begin - first) * step, std::min((last - first) * step, p.w->rows)});
      begin = last;
    }
    return true;
  }

 private:
  /// Rows of a piece: at least a slab of those in kernel order, which lies together.
  [[nodiscard]] std::int64_t step_of(const Product& p) const {
    return std::max(step_, KernelOrder::slab_rows(p.w->lanes, p.w->cols));
  }
  /// Where a product's pieces of rows start among all, and their cost among all costs.
  struct Start {
    std::int64_t piece;
    std::int64_t cost;
  };
  [[nodiscard]] std::size_t product_of(std::int64_t piece) const;
  [[nodiscard]] std::int64_t end_of(std::int64_t begin) const;
  [[nodiscard]] std::int64_t cost_of_piece(std::size_t product) const;

  std::span<const Product> products_;
  std::int64_t parts_;  // of what is left in the next stretch
  std::int64_t step_;
  std::int64_t least_cost_;
  Start* starts_;  // [products + 1]
  std::atomic<std::int64_t> next_ = 0;
};

}  // namespace nemo
