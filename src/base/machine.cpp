// Timing a parallel sum over a large buffer; asking the system for memory figures.
#include <nemo/base/aligned.hpp>
#include <nemo/base/machine.hpp>
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

double seconds_to_read(int threads, std::span<const std::byte> bytes) {
  constexpr std::int64_t kItemWords = (std::int64_t{4} << 20) / 8;
  const auto* all = reinterpret_cast<const std::uint64_t*>(bytes.data());
  const auto words = static_cast<std::int64_t>(bytes.size() / 64 * 8);
  const std::int64_t items = (words + kItemWords - 1) / kItemWords;
  AlignedBuffer<std::uint64_t> sums(static_cast<std::size_t>(items * 8));
  const auto start = std::chrono::steady_clock::now();
  parallel_for(threads, items, [&](std::int64_t i) {
    std::uint64_t lanes[8] = {};
    const std::int64_t end = std::min(words, (i + 1) * kItemWords);
    for (std::int64_t w = i * kItemWords; w < end; w += 8) {
      for (int l = 0; l < 8; ++l) lanes[l] += all[w + l];
    }
    std::copy_n(lanes, 8, sums.data() + i * 8);  // keeps the reads from being dropped
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  volatile std::uint64_t sink = sums.data()[0];
  static_cast<void>(sink);
  return seconds.count();
}

ReadProbe::ReadProbe(int threads, std::size_t size) : threads_(threads), pages_(size) {
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  const auto pieces = static_cast<std::int64_t>((size + kPiece - 1) / kPiece);
  parallel_for(threads, pieces, [&](std::int64_t i) {
    const std::size_t first = static_cast<std::size_t>(i) * kPiece;
    std::fill_n(pages_.data() + first, std::min(kPiece, size - first), static_cast<std::byte>(i));
  });
}

double ReadProbe::bytes_per_second() const {
  return static_cast<double>(pages_.size()) /
         seconds_to_read(threads_, {pages_.data(), pages_.size()});
}

double measure_read_bandwidth(int threads) {
  const ReadProbe probe(threads, std::size_t{512} << 20);
  double best = 0;
  for (int pass = 0; pass < 6; ++pass) best = std::max(best, probe.bytes_per_second());
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
