// Carriage return, one line, erased at the end.
#include "src/cli/progress_bar.hpp"

#include <nemo/checkpoint/memory_plan.hpp>

#include <cstdio>
#include <unistd.h>
#include <utility>

namespace nemo::cli {

ProgressBar::ProgressBar(std::string label, std::string unit)
    : label_(std::move(label)), unit_(std::move(unit)), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

std::string ProgressBar::amount(double value) const {
  if (unit_ == "bytes") return human_bytes(static_cast<std::int64_t>(value));
  char text[32];
  std::snprintf(text, sizeof text, value < 100 ? "%.1f " : "%.0f ", value);
  return text + unit_;
}

void ProgressBar::update(std::uint64_t done, std::uint64_t total) {
  if (!terminal_) return;
  const auto now = Clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(100) && done < total) return;
  last_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const double share =
      total > 0 ? 100.0 * static_cast<double>(done) / static_cast<double>(total) : 100.0;
  std::string line = "\r" + label_ + "  " + amount(static_cast<double>(done)) + " of " +
                     amount(static_cast<double>(total));
  char tail[96];
  const double left = rate > 0 ? static_cast<double>(total - done) / rate : 0;
  std::snprintf(tail, sizeof tail, "  %.0f%%  %s/s  %d:%02d left", share, amount(rate).c_str(),
                static_cast<int>(left) / 60, static_cast<int>(left) % 60);
  std::fprintf(stderr, "%s%s\x1b[K", line.c_str(), tail);
  std::fflush(stderr);
}

}  // namespace nemo::cli
