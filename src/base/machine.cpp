// Timing a parallel sum over a large buffer; asking the system for memory figures.
#include <nemo/base/aligned.hpp>
#include <nemo/base/machine.hpp>
#include <nemo/base/page_buffer.hpp>
#include <nemo/base/parallel.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <sys/resource.h>

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

namespace nemo {

double measure_read_bandwidth(int threads) {
  constexpr std::int64_t kBytes = std::int64_t{512} << 20;
  constexpr std::int64_t kItemWords = (std::int64_t{4} << 20) / 8;
  constexpr std::int64_t kItems = kBytes / 8 / kItemWords;
  PageBuffer pages(static_cast<std::size_t>(kBytes));  // as weights are held
  auto* buffer = reinterpret_cast<std::uint64_t*>(pages.data());
  AlignedBuffer<std::uint64_t> sums(kItems * 8);
  parallel_for(threads, kItems, [&](std::int64_t i) {
    std::fill_n(buffer + i * kItemWords, kItemWords, static_cast<std::uint64_t>(i));
  });
  double best = 0;
  for (int pass = 0; pass < 6; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    parallel_for(threads, kItems, [&](std::int64_t i) {
      const std::uint64_t* p = buffer + i * kItemWords;
      std::uint64_t lanes[8] = {};
      for (std::int64_t w = 0; w < kItemWords; w += 8) {
        for (int l = 0; l < 8; ++l) lanes[l] += p[w + l];
      }
      std::copy_n(lanes, 8, sums.data() + i * 8);  // keeps the reads from being dropped
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kBytes) / seconds.count());
  }
  volatile std::uint64_t sink = sums[0];
  static_cast<void>(sink);
  return best;
}

std::string cpu_name() {
#ifdef __APPLE__
  char text[128] = {};
  std::size_t size = sizeof text - 1;
  if (sysctlbyname("machdep.cpu.brand_string", text, &size, nullptr, 0) == 0) return text;
#else
  // x86 says "model name"; ARM kernels only the numbers of implementer and part.
  std::ifstream file("/proc/cpuinfo");
  std::string implementer;
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) return line.substr(colon + 2);
    if (line.starts_with("CPU implementer")) implementer = line.substr(colon + 2);
    if (line.starts_with("CPU part")) {
      return "ARM implementer " + implementer + " part " + line.substr(colon + 2);
    }
  }
#endif
  return "unknown CPU";
}

std::int64_t peak_resident_bytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
  return usage.ru_maxrss;
#else
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
#endif
}

}  // namespace nemo
