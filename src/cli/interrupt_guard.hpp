// Ctrl-C as a question: a job that writes a file stops by itself and removes what is unfinished.
#pragma once

#include <atomic>
#include <csignal>

namespace nemo::cli {

/// While it lives, Ctrl-C only sets asked().
class InterruptGuard {
 public:
  InterruptGuard() : before_(std::signal(SIGINT, [](int) { asked_ = true; })) {}
  ~InterruptGuard() { std::signal(SIGINT, before_); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  [[nodiscard]] static bool asked() noexcept { return asked_; }

 private:
  static inline std::atomic<bool> asked_{false};
  void (*before_)(int);
};

}  // namespace nemo::cli
