#!/usr/bin/env bash
# Object files compiled for a newer CPU must not define inline functions that other files share: the
# linker keeps one copy of each, and baseline code would then run instructions its CPU may lack.
#
#   isolation_test.sh NM OBJECT...
set -euo pipefail
nm=$1
shift
# W, V and u are the symbols of which the linker keeps one. Those whose name carries the instruction
# set (its namespace, or xsimd's architecture tag) exist only for it.
if shared=$("$nm" --demangle --defined-only --format=posix "$@" | grep -E ' [WVu] ' |
  grep -viE 'avx2|avx512|fma3|neon'); then
  echo "inline functions that baseline code may get from these kernels:"
  sed -E 's/ [WVu] [0-9a-f ]*$//' <<<"$shared" | sort -u
  echo "put them into a namespace of the instruction set, or make them always_inline"
  exit 1
fi
