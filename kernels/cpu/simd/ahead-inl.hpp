// Reading memory into cache before its use; included after the instruction set's vector.hpp.
#pragma once

#include "lanes-inl.hpp"

namespace nemo {
namespace {

/// Asks for the lines of `bytes` bytes to be read into L2.
NEMO_SIMD void fetch_lines(const std::byte* from, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

/// Memory that will be needed next, read into L2 a few lines in every step of a product. Asked for
/// all at once it would hold up the product's own reads; and into L1 it does not come in time on
/// Zen 4, which drops such requests while many are under way. Products work on a copy, so that it
/// stays in registers.
class Ahead {
 public:
  Ahead() = default;
  /// `count` bytes in `steps` steps.
  NEMO_SIMD Ahead(const std::byte* from, std::int64_t count, std::int64_t steps)
      : Ahead(from, count, count, 0, steps) {}
  /// The same in runs of `run` bytes, of which the last may be shorter, `gap` bytes apart.
  NEMO_SIMD Ahead(const std::byte* from, std::int64_t count, std::int64_t run, std::int64_t gap,
                  std::int64_t steps)
      : at_(from),
        line_bytes_((count / 64 + steps - 1) / steps * 64),
        left_(run < count ? run : count),
        rest_(count - left_),
        run_(run),
        gap_(gap) {}
  NEMO_SIMD void step() {
    fetch_lines(at_, line_bytes_);
    at_ += line_bytes_;
    left_ -= line_bytes_;
    if (left_ <= 0) next_run();
  }

 private:
  NEMO_SIMD void next_run() {
    if (rest_ == 0) {
      *this = {};
      return;
    }
    at_ += left_ + gap_;
    left_ = run_ < rest_ ? run_ : rest_;
    rest_ -= left_;
  }

  const std::byte* at_ = nullptr;
  std::int64_t line_bytes_ = 0;                // of a step
  std::int64_t left_ = std::int64_t{1} << 62;  // of this run
  std::int64_t rest_ = 0;                      // of the runs behind it
  std::int64_t run_ = 0;
  std::int64_t gap_ = 0;
};

// Hardware does not foresee well what is read sixteen rows at a time: fetched this many rows ahead.
// Behind the last row nothing happens.
constexpr std::int64_t kRowsAhead = 64;

/// `count` rows behind those, to be read during a product of `steps` steps, if any.
NEMO_SIMD Ahead rows_ahead(const Half* row, std::int64_t ld, std::int64_t count,
                           std::int64_t steps) {
  if (steps == 0) return {};
  return {reinterpret_cast<const std::byte*>(row + kRowsAhead * ld), 2 * count * ld, steps};
}

}  // namespace
}  // namespace nemo
