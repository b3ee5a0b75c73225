// Sizes of stretches, by an estimate of what rows cost.
#include "row_queue.hpp"

#include <algorithm>

namespace nemo {

RowQueue::RowQueue(std::span<const Product> products, int threads, Arena& arena)
    : products_(products),
      parts_(threads + 1),
      starts_(arena.take<Start>(static_cast<std::int64_t>(products.size()) + 1)) {
  std::int64_t most_tokens = 0;
  for (const Product& p : products) most_tokens = std::max(most_tokens, p.tokens);
  const bool few = most_tokens < 8;
  step_ = few ? 32 : 64;  // at least as many rows as products of floats take at once
  Start at{0, 0};
  for (std::size_t i = 0; i < products.size(); ++i) {
    starts_[i] = at;
    const std::int64_t rows = products[i].tokens > 0 ? products[i].w->rows : 0;
    const std::int64_t step = step_of(products[i]);
    const std::int64_t pieces = (rows + step - 1) / step;
    at.piece += pieces;
    at.cost += pieces * cost_of_piece(i);
  }
  starts_[products.size()] = at;
  // Short enough that waiting for the last one does not show, long enough to hide the hand-out.
  constexpr std::int64_t kMostOfFew = std::int64_t{8} << 20;  // 512 KiB of weights
  least_cost_ = few ? std::min(at.cost / (threads * 32), kMostOfFew) : at.cost / (threads * 64);
}

std::int64_t RowQueue::cost_of_piece(std::size_t product) const {
  // A byte takes about as long to read as 16 multiplications to make.
  const Product& p = products_[product];
  return step_of(p) * (16 * p.w->row_size() + p.w->cols * p.tokens);
}

std::size_t RowQueue::product_of(std::int64_t piece) const {
  const Start* after =
      std::upper_bound(starts_, starts_ + products_.size() + 1, piece,
                       [](std::int64_t at, const Start& s) { return at < s.piece; });
  return static_cast<std::size_t>(after - starts_ - 1);
}

std::int64_t RowQueue::end_of(std::int64_t begin) const {
  const Start& all = starts_[products_.size()];
  std::size_t i = product_of(begin);
  const std::int64_t cost = starts_[i].cost + (begin - starts_[i].piece) * cost_of_piece(i);
  const std::int64_t until = cost + std::max((all.cost - cost) / parts_, least_cost_);
  if (until >= all.cost) return all.piece;
  while (starts_[i + 1].cost < until) ++i;
  const std::int64_t a_piece = cost_of_piece(i);
  const std::int64_t end = starts_[i].piece + (until - starts_[i].cost + a_piece - 1) / a_piece;
  return std::max(end, begin + 1);
}

}  // namespace nemo
