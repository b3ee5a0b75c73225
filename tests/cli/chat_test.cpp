// nemo chat, end to end: piped input, and a terminal played by a pseudo-terminal.
#include "catch.hpp"
#include "cli/program.hpp"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <vector>

namespace {

using nemo_test::nemo;
using nemo_test::tiny_model;

std::vector<std::string> chat(const std::vector<std::string>& more = {}) {
  std::vector<std::string> args = {"chat", "-m", tiny_model(), "--temp", "0", "-t", "1"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

// The program on a terminal of its own.
class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& args) {
    master_ = posix_openpt(O_RDWR | O_NOCTTY);
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) {
      throw std::runtime_error("no pseudo-terminal");
    }
    const std::string name = ptsname(master_);
    child_ = fork();
    if (child_ == 0) {
      setsid();
      const int slave = open(name.c_str(), O_RDWR);  // becomes the controlling terminal
      // Otherwise the system throws away what the program prints at the moment of a Ctrl-C.
      termios settings{};
      tcgetattr(slave, &settings);
      settings.c_lflag |= NOFLSH;
      tcsetattr(slave, TCSANOW, &settings);
      for (const int fd : {0, 1, 2}) dup2(slave, fd);
      close(master_);
      std::vector<char*> words = {const_cast<char*>(NEMO_PROGRAM)};
      for (const auto& arg : args) words.push_back(const_cast<char*>(arg.c_str()));
      words.push_back(nullptr);
      execv(NEMO_PROGRAM, words.data());
      _exit(127);
    }
  }
  ~Terminal() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
    close(master_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(const std::string& text) const {
    REQUIRE(write(master_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }

  // Waits until the program printed `words`; returns everything since the last call.
  std::string until(const std::string& words) {
    std::string seen;
    while (seen.find(words) == std::string::npos) {
      const std::string chunk = read_some();
      if (chunk.empty()) break;
      seen += chunk;
    }
    CAPTURE(words, seen);
    CHECK(seen.find(words) != std::string::npos);
    return seen;
  }

  int exit_code() {
    int status = 0;
    while (!read_some().empty()) {  // so that it cannot block on output
    }
    waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  // Empty at the end; ends a program that is silent for as long as only one that hangs is.
  std::string read_some() const {
    pollfd poll_master = {master_, POLLIN, 0};
    if (poll(&poll_master, 1, 120000) <= 0) {
      kill(child_, SIGKILL);
      return {};
    }
    std::string chunk(4096, '\0');
    const auto got = read(master_, chunk.data(), chunk.size());
    chunk.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return chunk;
  }

  int master_ = -1;
  pid_t child_ = -1;
};

}  // namespace

TEST_CASE("chat answers each line of piped input, without reasoning or escape codes, and ends") {
  const auto one = nemo(chat(), "Solve: 17 * 23\n");
  CHECK(one.code == 0);
  CHECK(one.err.empty());
  CHECK_THAT(one.out, Contains("391"));
  CHECK_THAT(one.out, !Contains("\033") && !Contains("think"));
  CHECK(std::count(one.out.begin(), one.out.end(), '\n') == 1);

  const auto two = nemo(chat(), "Solve: 17 * 23\r\n\n   \nSolve: 17 * 23");
  CHECK(two.code == 0);
  CHECK(two.out.starts_with(one.out));
  CHECK(std::count(two.out.begin(), two.out.end(), '\n') == 2);
  CHECK(nemo(chat(), "").code == 0);

  const auto shown = nemo(chat({"--show-reasoning"}), "Solve: 17 * 23\n");
  CHECK(shown.out.size() > one.out.size() + 10);
  CHECK(shown.out.ends_with("\n\n" + one.out));
}

TEST_CASE("chat remembers the conversation until /reset") {
  const auto out = nemo(chat({"-v"}), "Solve: 17 * 23\nSolve: 17 * 23\n/reset\nSolve: 17 * 23\n");
  CHECK(out.code == 0);
  std::vector<std::string> prompts;
  for (std::size_t at = out.err.find("prompt: "); at != std::string::npos;
       at = out.err.find("prompt: ", at + 1)) {
    prompts.push_back(out.err.substr(at, out.err.find(" tokens", at) - at));
  }
  REQUIRE(prompts.size() == 3);
  CHECK(prompts[0] != prompts[1]);
  CHECK(prompts[0] == prompts[2]);
  CHECK_THAT(out.err, Contains("new conversation"));
}

TEST_CASE("chat commands are known by name and others are pointed out") {
  auto out = nemo(chat(), "/help\n/think\n/think off\n/think on\n/system Be brief.\n/quit\nno\n");
  CHECK(out.code == 0);
  CHECK(out.out.empty());
  CHECK_THAT(out.err, Contains("/reset") && Contains("thinking off") && Contains("thinking on") &&
                          Contains("system prompt set"));
  out = nemo(chat(), "/frobnicate\n/think maybe\n");
  CHECK(out.code == 1);
  CHECK(out.out.empty());
  CHECK_THAT(out.err, Contains("'/frobnicate'") && Contains("/help") && Contains("'maybe'") &&
                          Contains("2 of 2"));
}

TEST_CASE("a line that cannot be answered is reported and the next one is answered") {
  auto out = nemo(chat(), "bad \xff\nSolve: 17 * 23\n");
  CHECK(out.code == 1);
  CHECK_THAT(out.err, Contains("UTF-8") && Contains("1 of 2"));
  CHECK_THAT(out.out, Contains("391"));
  out = nemo(chat({"-c", "60", "--no-think", "-n", "4"}), std::string(400, 'x') + "\nHi\n");
  CHECK(out.code == 1);
  CHECK_THAT(out.err, Contains("context holds 60") && Contains("/reset"));
  CHECK(!out.out.empty());
}

TEST_CASE("on a terminal chat dims reasoning and leaves with /quit") {
  Terminal terminal(chat());
  const auto greeting = terminal.until("> ");
  CHECK_THAT(greeting, Contains("kv fp16") && Contains("1 threads") && Contains("/help"));
  terminal.type("Solve: 17 * 23\n");
  const auto answer = terminal.until("\n> ");
  const auto dim = answer.find("\033[2m");
  const auto bright = answer.find("\033[0m");
  REQUIRE(dim != std::string::npos);
  REQUIRE(bright != std::string::npos);
  CHECK(dim < bright);
  CHECK(answer.find("391", bright) != std::string::npos);
  terminal.type("/quit\n");
  CHECK(terminal.exit_code() == 0);
}

TEST_CASE("--hide-reasoning shows the answer alone on a terminal") {
  Terminal terminal(chat({"--hide-reasoning"}));
  (void)terminal.until("> ");
  terminal.type("Solve: 17 * 23\n");
  const auto answer = terminal.until("\n> ");
  CHECK_THAT(answer, !Contains("\033[2m") && Contains("391"));
  terminal.type("\004");  // Ctrl-D
  CHECK(terminal.exit_code() == 0);
}

TEST_CASE("Ctrl-C stops an answer and not the program, twice at the prompt leaves") {
  // An answer that does not end by itself, nor within seconds because its context is full.
  Terminal terminal(chat({"--min-tokens", "1000000", "-c", "100000"}));
  (void)terminal.until("> ");
  terminal.type("Solve: 17 * 23\n");
  (void)terminal.until("\033[2m");
  terminal.type("\003");
  (void)terminal.until("[stopped]");
  terminal.type("/think off\n");
  (void)terminal.until("thinking off");
  terminal.type("\003");
  (void)terminal.until("Ctrl-C again");
  terminal.type("\003");
  CHECK(terminal.exit_code() == 0);
}
