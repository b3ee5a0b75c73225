// Runs the built nemo program as a user would and returns what it printed.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace nemo_test {

struct Outcome {
  int code = -1;  // exit code; 128 + n after signal n
  std::string out;
  std::string err;
};

/// A folder of its own for a test's files, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "nemo-cli-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(file(name), std::ios::binary) << content;
    return file(name);
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// Runs `nemo ARGS...` with `input` as standard input; no terminal anywhere. `program`: a copy.
inline Outcome nemo(const std::vector<std::string>& args, const std::string& input = {},
                    const std::string& program = NEMO_PROGRAM) {
  const TemporaryFolder folder;
  const auto in = folder.write("in", input);
  std::vector<std::string> words = {program};
  words.insert(words.end(), args.begin(), args.end());
  std::string command;
  for (const auto& word : words) {
    command += '\'';
    for (const char c : word) {
      if (c == '\'') {
        command += "'\\''";
      } else {
        command += c;
      }
    }
    command += "' ";
  }
  command += "<'" + in + "' >'" + folder.file("out") + "' 2>'" + folder.file("err") + "'";
  const int status = std::system(command.c_str());
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = read_file(folder.file("out"));
  outcome.err = read_file(folder.file("err"));
  return outcome;
}

inline std::string model(const std::string& name) {
  return std::string(NEMO_SOURCE_DIR "/tests/data/gguf/") + name;
}
inline std::string tiny_model() { return NEMO_SOURCE_DIR "/models/nemo-tiny.gguf"; }

}  // namespace nemo_test
