// A line on a terminal that says how far a long job is, how fast it goes and when it will end.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace nemo::cli {

/// Draws on standard error, only when that is a terminal; use as (or inside) a ProgressCallback.
class ProgressBar {
 public:
  /// `unit`: "bytes" prints as B, kB, MB, ..; any other word as it is ("tokens").
  ProgressBar(std::string label, std::string unit);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Redraws at most ten times a second.
  void update(std::uint64_t done, std::uint64_t total);

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] std::string amount(double value) const;

  std::string label_;
  std::string unit_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_{};
};

}  // namespace nemo::cli
