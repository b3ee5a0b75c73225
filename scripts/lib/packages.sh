# The packages libnemo builds with, and how to install the ones this machine lacks.
# Sourced by the scripts, never run; the one list of packages in the repository.

# shellcheck shell=bash

# nemo_packages KIND GROUP: the packages of one group, one a line. KIND is debian or brew.
nemo_packages() {
  case "$1:$2" in
    debian:program)
      printf '%s\n' g++ cmake ninja-build pkgconf libpcre2-dev nlohmann-json3-dev libxsimd-dev \
        libcli11-dev ;;
    debian:tests) printf '%s\n' catch2 libeigen3-dev ;;
    debian:format) printf '%s\n' clang-format git ;;
    debian:clang) printf '%s\n' clang libomp-dev libclang-rt-14-dev ;;
    debian:tidy) printf '%s\n' clang-tidy ;;
    debian:arm64)  # the cross compiler, the emulator, and the libraries of programs that it runs
      printf '%s\n' g++-aarch64-linux-gnu qemu-user libpcre2-dev:arm64 libgomp1:arm64 \
        libstdc++6:arm64 ;;
    brew:program) printf '%s\n' cmake ninja pkgconf pcre2 nlohmann-json xsimd cli11 libomp ;;
    brew:tests) printf '%s\n' catch2 eigen ;;
    brew:format) printf '%s\n' clang-format ;;
    brew:clang) ;;  # the system compiler
    brew:tidy) printf '%s\n' llvm ;;
    *) echo "nemo_packages: no list for $1:$2" >&2; return 1 ;;
  esac
}

# nemo_say TEXT...: a message for the person at the terminal; standard output belongs to the program.
nemo_say() { printf '%s\n' "$*" >&2; }

# nemo_quietly COMMAND...: runs it with its output kept back; shows the end of that when it fails.
nemo_quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    nemo_say "failed: $*"
    tail -n 20 "$log" >&2
  fi
  rm -f "$log"
  return "$status"
}

# nemo_missing_debian PACKAGE...: those of them that are not installed, one a line.
nemo_missing_debian() {
  local installed package native
  native=$(dpkg --print-architecture)
  # dpkg-query exits 1 when it does not know one of the names: that one is then missing.
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}:${Architecture}\n' "$@" 2>/dev/null) ||
    true
  for package in "$@"; do
    grep -qxF -e "installed $package" -e "installed $package:$native" -e "installed $package:all" \
      <<<"$installed" || printf '%s\n' "$package"
  done
}

# nemo_apt PREFIX... -- PACKAGE...: installs with apt-get, refreshing its lists only when needed.
nemo_apt() {
  local prefix=()
  while [ "$1" != -- ]; do prefix+=("$1"); shift; done
  shift
  local apt=(${prefix[@]+"${prefix[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  local install=("${apt[@]}" install -y --no-install-recommends "$@")
  # A machine that never ran `apt-get update` has no lists, and old lists name files that are gone.
  if "${install[@]}" >/dev/null 2>&1 </dev/null; then return 0; fi
  nemo_quietly "${apt[@]}" update && nemo_quietly "${install[@]}"
}

# nemo_install_packages GROUP...: makes sure that every package of these groups is installed, or
# says which are missing and exits. Does nothing, and starts no package manager, when all are there.
nemo_install_packages() {
  if [ -n "${NEMO_SKIP_PACKAGES:-}" ]; then return 0; fi
  local group package wanted=() missing=()
  if [ "$(uname -s)" = Darwin ]; then
    for group in "$@"; do
      while IFS= read -r package; do wanted+=("$package"); done < <(nemo_packages brew "$group")
    done
    if ! command -v brew >/dev/null; then
      nemo_say "These packages are needed, and Homebrew is not installed:"
      nemo_say "  ${wanted[*]}"
      nemo_say "Install them, then run this again with NEMO_SKIP_PACKAGES=1."
      exit 1
    fi
    local installed
    installed=$(brew list --formula -1 </dev/null)
    for package in "${wanted[@]}"; do
      grep -qxF "$package" <<<"$installed" || missing+=("$package")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
      nemo_say "Installing with Homebrew: ${missing[*]}"
      if ! nemo_quietly brew install "${missing[@]}"; then
        nemo_say "Could not install them. Is this machine online? By hand: brew install ${missing[*]}"
        exit 1
      fi
    fi
    # Apple's clang finds OpenMP only when told where it is.
    OpenMP_ROOT=$(brew --prefix libomp)
    export OpenMP_ROOT
    return 0
  fi

  for group in "$@"; do
    while IFS= read -r package; do wanted+=("$package"); done < <(nemo_packages debian "$group")
  done
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    nemo_say "This system has no apt. libnemo needs what Debian calls:"
    nemo_say "  ${wanted[*]}"
    nemo_say "Install your system's packages of these, then run this again with NEMO_SKIP_PACKAGES=1."
    exit 1
  fi
  while IFS= read -r package; do missing+=("$package"); done < <(nemo_missing_debian "${wanted[@]}")
  if [ "${#missing[@]}" -eq 0 ]; then return 0; fi

  local prefix=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null </dev/null; then
      prefix=(sudo -n)
    elif command -v sudo >/dev/null && [ -t 0 ] && [ -t 2 ]; then
      nemo_say "Missing packages: ${missing[*]}"
      sudo -v || { nemo_say "By hand, as root: apt-get install ${missing[*]}"; exit 1; }
      prefix=(sudo -n)
    else
      nemo_say "Missing packages, and this user may not install any. As root:"
      nemo_say "  apt-get install ${missing[*]}"
      exit 1
    fi
  fi
  nemo_say "Installing: ${missing[*]}"
  # Packages of another architecture (NAME:arm64) are unknown until dpkg is told of it.
  local architecture architectures
  architectures=$(printf '%s\n' "${missing[@]}" | sed -n 's/.*://p' | sort -u)
  for architecture in $architectures; do
    ${prefix[@]+"${prefix[@]}"} dpkg --add-architecture "$architecture"
  done
  if ! nemo_apt ${prefix[@]+"${prefix[@]}"} -- "${missing[@]}"; then
    nemo_say "Could not install these packages. Is this machine online? By hand, as root:"
    nemo_say "  apt-get install ${missing[*]}"
    exit 1
  fi
}
