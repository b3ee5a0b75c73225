// The one exception type of the library: a code to branch on and a message to show.
#pragma once

#include <stdexcept>
#include <string>

namespace nemo {

/// What kind of thing went wrong; the program maps `usage` to exit code 2, all others to 1.
enum class ErrorCode {
  usage,        // a flag or argument is wrong
  io,           // a file cannot be opened, read or written
  bad_file,     // a file's content breaks its format or contradicts itself
  unsupported,  // well-formed, but nothing this build can run
  bad_input,    // text, request or token ids that cannot be used
  capacity,     // a context, memory or size limit is reached
  cancelled,    // the caller's callback asked to stop
  internal,     // a bug of ours
};

/// Thrown by every fallible call. The message says what, where and what to do, in one line.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace nemo
