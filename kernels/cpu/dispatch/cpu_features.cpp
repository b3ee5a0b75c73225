// Asks the CPU which instruction sets it has, and who made it.
#include <string>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <nemo/kernels.hpp>

namespace nemo {
namespace {

std::vector<std::string_view> ask() {
  std::vector<std::string_view> found;
  [[maybe_unused]] const auto add = [&found](std::string_view name, bool present) {
    if (present) found.push_back(name);
  };
#if defined(__x86_64__) || defined(__i386__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  const auto bit = [](unsigned word, int index) { return (word >> index & 1u) != 0; };
  if (__get_cpuid(1, &a, &b, &c, &d) != 0) {
    add("fma", bit(c, 12));
    add("f16c", bit(c, 29));
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
    add("avx2", bit(b, 5));
    add("bmi2", bit(b, 8));
    add("avx512f", bit(b, 16));
    add("avx512bw", bit(b, 30));
    add("avx512vbmi", bit(c, 1));
    add("avx512vnni", bit(c, 11));
    add("amx-bf16", bit(d, 22));
    add("amx-tile", bit(d, 24));
    add("amx-int8", bit(d, 25));
  }
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) {
    add("avxvnni", bit(a, 4));
    add("avx512bf16", bit(a, 5));
  }
#elif defined(__aarch64__) && defined(__linux__)
  const unsigned long first = getauxval(AT_HWCAP);
  const unsigned long second = getauxval(AT_HWCAP2);
  add("asimd", (first & HWCAP_ASIMD) != 0);
  add("asimddp", (first & HWCAP_ASIMDDP) != 0);
  add("sve", (first & HWCAP_SVE) != 0);
  add("i8mm", (second & HWCAP2_I8MM) != 0);
  add("bf16", (second & HWCAP2_BF16) != 0);
#elif defined(__aarch64__) && defined(__APPLE__)
  const auto has = [](const char* name) {
    int value = 0;
    std::size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
  };
  add("asimd", true);  // part of the architecture
  add("asimddp", has("hw.optional.arm.FEAT_DotProd"));
  add("i8mm", has("hw.optional.arm.FEAT_I8MM"));
  add("bf16", has("hw.optional.arm.FEAT_BF16"));
#endif
  return found;
}

/// As CPUID spells it; empty on other architectures.
std::string maker() {
  std::string name;
#if defined(__x86_64__) || defined(__i386__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) != 0) {
    for (const unsigned word : {b, d, c}) {
      name.append(reinterpret_cast<const char*>(&word), sizeof word);
    }
  }
#endif
  return name;
}

}  // namespace

std::span<const std::string_view> cpu_features() noexcept {
  static const std::vector<std::string_view> features = ask();
  return features;
}

bool fetches_streams() noexcept {
  static const bool fetches = maker() == "GenuineIntel";
  return fetches;
}

bool adds_beside_products() noexcept {
  static const bool adds = maker() == "AuthenticAMD";
  return adds;
}

}  // namespace nemo
