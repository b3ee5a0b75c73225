# Configures and builds the release preset, saying nothing when there is nothing to do.
# Sourced by the scripts, never run. Expects `root`, the repository's folder.

# shellcheck shell=bash disable=SC2154

# nemo_jobs: how many compilers at once. The largest files take about 1.5 GB each.
nemo_jobs() {
  local cores memory_kb=0 limit_bytes jobs
  cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
  if [ -r /proc/meminfo ]; then
    memory_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  else
    memory_kb=$(($(sysctl -n hw.memsize 2>/dev/null || echo 0) / 1024))
  fi
  # A container may be allowed less than the machine has.
  if [ -r /sys/fs/cgroup/memory.max ]; then
    limit_bytes=$(cat /sys/fs/cgroup/memory.max)
    if [ "$limit_bytes" != max ] && [ $((limit_bytes / 1024)) -lt "$memory_kb" ]; then
      memory_kb=$((limit_bytes / 1024))
    fi
  fi
  jobs=$((memory_kb / 1500000))
  if [ "$jobs" -gt "$cores" ]; then jobs=$cores; fi
  if [ "$jobs" -lt 1 ]; then jobs=1; fi
  echo "$jobs"
}

# nemo_configure_release WITH_TESTS(ON|OFF): configures build/release where that is still to be done.
# Tests once asked for stay: a later OFF keeps them, so that the two commands never undo each other.
nemo_configure_release() {
  local build="$root/build/release" fresh=()
  if [ -f "$build/CMakeCache.txt" ]; then
    # A copied or moved clone: its build folder still means the old place.
    if ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt"; then
      fresh=(--fresh)
    elif [ -f "$build/build.ninja" ]; then
      if [ "$1" = OFF ] || grep -qx 'NEMO_BUILD_TESTS:BOOL=ON' "$build/CMakeCache.txt"; then
        return 0
      fi
    fi
  fi
  (cd "$root" && nemo_quietly cmake --preset release ${fresh[@]+"${fresh[@]}"} \
    -DNEMO_BUILD_TESTS="$1")
}

# nemo_build_release [TARGET]: brings the target (default: all) up to date.
nemo_build_release() {
  local line
  (cd "$root" && cmake --build --preset release --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nemo_jobs)}" \
    ${1:+--target "$1"} 2>&1 </dev/null) | while IFS= read -r line; do
    case "$line" in
      *"no work to do."* | *"Re-checking globbed directories"*) ;;
      *) printf '%s\n' "$line" >&2 ;;
    esac
  done
}
