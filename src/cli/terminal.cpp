// The terminal through POSIX calls.
#include "src/cli/terminal.hpp"

#include "src/cli/options.hpp"

#include <nemo/base/error.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace nemo::cli {
namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");
// A Ctrl-C also writes a byte here, so that one which comes just before a wait for input ends that
// wait. -1: nobody turns Ctrl-C into a flag.
int wake[2] = {-1, -1};

void on_interrupt(int) {
  const int kept = errno;
  (void)!::write(wake[1], "!", 1);
  errno = kept;
  if (interrupted.exchange(true)) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
}

}  // namespace

bool stdin_is_terminal() { return isatty(STDIN_FILENO) == 1; }
bool stdout_is_terminal() { return isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

Printer::Printer()
    : terminal_(stdout_is_terminal()), colors_(terminal_ && std::getenv("NO_COLOR") == nullptr) {}

Printer::~Printer() { set_dim(false); }

void Printer::set_dim(bool dim) {
  if (dim == dim_ || !colors_) return;
  dim_ = dim;
  std::fputs(dim ? "\033[2m" : "\033[0m", stdout);
  std::fflush(stdout);
}

void Printer::print(std::string_view text, bool dim) {
  if (text.empty()) return;
  set_dim(dim);
  line_open_ = text.back() != '\n';
  std::string shown(text);
  if (terminal_) {
    for (char& c : shown) {
      const auto byte = static_cast<unsigned char>(c);
      if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) c = '?';
    }
  }
  if (std::fwrite(shown.data(), 1, shown.size(), stdout) != shown.size() ||
      std::fflush(stdout) != 0) {
    throw Error(ErrorCode::io,
                std::string("cannot write to standard output: ") + std::strerror(errno));
  }
}

void Printer::end_line() {
  set_dim(false);
  if (line_open_) print("\n");
}

void print_timings(const GenerateResult& result) {
  const auto speed = [](std::int64_t tokens, double seconds) {
    return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  const auto computed = result.prompt_tokens - result.reused_tokens;
  const auto generated = static_cast<std::int64_t>(result.tokens.size());
  std::fprintf(stderr,
               "prompt: %lld tokens (%lld reused), %.2f s, %.1f tokens/s; answer: %lld tokens, "
               "%.2f s, %.1f tokens/s; seed %llu; finish: %.*s\n",
               static_cast<long long>(result.prompt_tokens),
               static_cast<long long>(result.reused_tokens), result.prefill_seconds,
               speed(computed, result.prefill_seconds), static_cast<long long>(generated),
               result.decode_seconds, speed(generated, result.decode_seconds),
               static_cast<unsigned long long>(result.seed),
               static_cast<int>(name(result.finish).size()), name(result.finish).data());
  if (result.drafts.passes > 0) {
    std::fprintf(stderr, "%s\n", drafts_text(result.drafts).c_str());
  }
}

Interrupt::Interrupt() {
  if (::pipe(wake) != 0) {
    throw Error(ErrorCode::io, std::string("cannot make a pipe: ") + std::strerror(errno));
  }
  for (const int end : wake) {
    ::fcntl(end, F_SETFD, FD_CLOEXEC);
    ::fcntl(end, F_SETFL, O_NONBLOCK);
  }
  interrupted = false;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
}

Interrupt::~Interrupt() {
  std::signal(SIGINT, SIG_DFL);
  for (int& end : wake) {
    ::close(end);
    end = -1;
  }
}

const std::atomic<bool>& Interrupt::flag() const { return interrupted; }

void Interrupt::clear() {
  char bytes[64];
  while (::read(wake[0], bytes, sizeof bytes) > 0) {
  }
  interrupted = false;
}

LineReader::Event LineReader::next(std::string& line) {
  for (std::size_t searched = begin_;;) {
    const auto end = buffer_.find('\n', searched);
    if (end != std::string::npos || (ended_ && begin_ < buffer_.size())) {
      line = buffer_.substr(begin_, end - begin_);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      begin_ = end == std::string::npos ? buffer_.size() : end + 1;
      return Event::line;
    }
    if (ended_) return Event::end;
    buffer_.erase(0, begin_);
    begin_ = 0;
    searched = buffer_.size();
    pollfd waited[2] = {{STDIN_FILENO, POLLIN, 0}, {wake[0], POLLIN, 0}};
    if (::poll(waited, 2, -1) < 0 && errno == EINTR) continue;
    if (waited[1].revents != 0) return Event::interrupted;
    char chunk[4096];
    const ssize_t got = ::read(STDIN_FILENO, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw Error(ErrorCode::io,
                  std::string("cannot read standard input: ") + std::strerror(errno));
    }
    ended_ = got == 0;
    buffer_.append(chunk, static_cast<std::size_t>(got));
  }
}

}  // namespace nemo::cli
