# Toolchain file: from Debian on another architecture to AArch64 Linux, whose programs qemu-user runs.
# The packages are the group `arm64` of scripts/lib/packages.sh.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig)
# Libraries lie where the loader looks by itself.
set(CMAKE_SKIP_RPATH ON)
# "max" has every instruction set that qemu knows.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu max)
