// What a command needs to know about the terminal: is there one, dimmed text, lines of input,
// Ctrl-C.
#pragma once

#include <nemo/engine/generator.hpp>

#include <atomic>
#include <optional>
#include <string>
#include <string_view>

namespace nemo::cli {

[[nodiscard]] bool stdin_is_terminal();
[[nodiscard]] bool stdout_is_terminal();
[[nodiscard]] bool stderr_is_terminal();

/// Prints text to standard output piece by piece. On a terminal, dimmed text is set apart by an
/// escape code (unless NO_COLOR is set) and control characters that a model might write are shown
/// as
/// '?', so that they cannot drive the terminal; elsewhere every byte goes out as it is.
class Printer {
 public:
  Printer();
  ~Printer();
  Printer(const Printer&) = delete;
  Printer& operator=(const Printer&) = delete;

  void print(std::string_view text, bool dim = false);
  /// Ends the line unless it just ended.
  void end_line();
  /// Forgets where the line was, after somebody else (a user typing) ended it.
  void at_line_start() { line_open_ = false; }

 private:
  void set_dim(bool dim);

  bool terminal_;
  bool colors_;
  bool dim_ = false;
  bool line_open_ = false;
};

/// One line on standard error: tokens and tokens/s of prompt and answer, seed, why it ended.
void print_timings(const GenerateResult& result);

/// Turns Ctrl-C into a flag for as long as it lives; a second Ctrl-C while the flag is up ends the
/// program as usual, so that nothing can hang.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  [[nodiscard]] const std::atomic<bool>& flag() const;
  void clear();
};

/// Reads lines from standard input without a limit on their length; a read that Ctrl-C interrupts
/// comes back as such.
class LineReader {
 public:
  enum class Event { line, end, interrupted };

  /// The next line without its end ("\n" or "\r\n") in `line`.
  Event next(std::string& line);

 private:
  std::string buffer_;
  std::size_t begin_ = 0;  // of what is not yet handed out
  bool ended_ = false;
};

}  // namespace nemo::cli
