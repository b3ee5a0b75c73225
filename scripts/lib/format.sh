# Which files clang-format rules, and which clang-format. Sourced by the scripts, never run.

# shellcheck shell=bash

# nemo_clang_format: prints the clang-format to use. Other versions than 14 lay lines out differently.
nemo_clang_format() {
  local program
  for program in clang-format-14 clang-format; do
    if command -v "$program" >/dev/null && "$program" --version | grep -q 'version 14\.'; then
      echo "$program"
      return
    fi
  done
  echo "clang-format 14 is needed (Debian 12: apt-get install clang-format)" >&2
  return 1
}

# nemo_cpp_files: this repository's C++ files, each ended by a zero byte.
nemo_cpp_files() { git ls-files -z -- '*.cpp' '*.hpp' '*.h'; }
