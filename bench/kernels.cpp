// Micro benchmark of the kernel tables: how fast each weight format streams from memory for one
// token, and how fast it multiplies a batch of 512 tokens.
//
//   bench_kernels [--isa NAME] [--format NAME] [--threads N] [--tokens N] [--cols N] [--json]
//                 [--cpu-time]   time on a core instead of elapsed: for a machine others use too
//
// GB/s counts weight bytes (the matrix is far larger than the last cache), GOPS counts two
// operations a weight and token. The first line is the machine's plain read bandwidth.
#include <nemo/base/aligned.hpp>
#include <nemo/kernels.hpp>
#include <nemo/tensor/random_blocks.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <vector>

using namespace nemo;

namespace {

struct Options {
  std::string isa;
  std::string format;
  int threads = 2;
  std::int64_t tokens = 512;
  std::int64_t cols = 4096;
  bool json = false;
  bool cpu_time = false;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What the calling thread has spent on a core.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Runs work(thread) on all threads at once and gives the time of the slowest, in seconds.
double elapsed(const Options& options, const std::function<void(int)>& work) {
  std::atomic<int> arrived = 0;
  std::vector<double> seconds(static_cast<std::size_t>(options.threads));
  const auto timed = [&](int t) {
    for (++arrived; arrived < options.threads;) std::this_thread::yield();
    const double begin = options.cpu_time ? thread_seconds() : now();
    work(t);
    seconds[static_cast<std::size_t>(t)] = (options.cpu_time ? thread_seconds() : now()) - begin;
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < options.threads; ++t) pool.emplace_back(timed, t);
  timed(0);
  for (auto& thread : pool) thread.join();
  return *std::max_element(seconds.begin(), seconds.end());
}

/// The shortest of a few runs.
double fastest(const Options& options, const std::function<void(int)>& work) {
  constexpr double kBudgetS = 0.5;
  double best = 1e30;
  const double start = now();
  for (int run = 0; run < 3 || (now() - start < kBudgetS && run < 50); ++run) {
    best = std::min(best, elapsed(options, work));
  }
  return best;
}

/// Rows [first, last) of thread t, in multiples of 16.
std::pair<std::int64_t, std::int64_t> share(std::int64_t rows, int thread, int threads) {
  const std::int64_t groups = rows / 16;
  return {groups * thread / threads * 16, groups * (thread + 1) / threads * 16};
}

struct Matrix {
  AlignedBuffer<std::byte> bytes;
  WeightRows view;
  std::int64_t rows;
};

/// Random rows repeated until the matrix has about `bytes` bytes.
Matrix make_matrix(DType type, std::int64_t cols, std::int64_t bytes) {
  const std::int64_t row = row_bytes(type, cols);
  Matrix m;
  m.rows = std::max<std::int64_t>(bytes / row / 32 * 32, 32);
  m.bytes = AlignedBuffer<std::byte>(static_cast<std::size_t>(m.rows * row));
  constexpr std::int64_t kDistinct = 32;
  for (std::int64_t r = 0; r < kDistinct; ++r) {
    random_row(type, cols, 0.1f, static_cast<std::uint64_t>(r), m.bytes.data() + r * row);
  }
  for (std::int64_t r = kDistinct; r < m.rows; ++r) {
    std::memcpy(m.bytes.data() + r * row, m.bytes.data() + (r - kDistinct) * row,
                static_cast<std::size_t>(row));
  }
  m.view = {m.bytes.data(), row, cols};
  return m;
}

struct Activations {
  AlignedBuffer<std::byte> bytes;
  std::int64_t stride;
};

Activations make_activations(const Kernels& table, ActFormat format, std::int64_t tokens,
                             std::int64_t cols) {
  std::vector<float> x(static_cast<std::size_t>(cols));
  Activations a;
  a.stride = ((format == ActFormat::q8 ? Q8Row::bytes(cols) : cols * 4) + 63) / 64 * 64;
  a.bytes = AlignedBuffer<std::byte>(static_cast<std::size_t>(a.stride * tokens));
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t c = 0; c < cols; ++c) {
      x[static_cast<std::size_t>(c)] = static_cast<float>((c * 37 + t * 11) % 101 - 50) / 50.0f;
    }
    std::byte* row = a.bytes.data() + t * a.stride;
    if (format == ActFormat::q8) {
      table.quantize_q8(x.data(), cols, row);
    } else {
      std::memcpy(row, x.data(), x.size() * sizeof(float));
    }
  }
  return a;
}

/// Seconds of one product of the whole matrix.
double time_product(const Kernels& table, DType type, const Matrix& m, std::int64_t tokens,
                    const Options& options) {
  const int threads = options.threads;
  const FormatKernels& format = table.format(type);
  const Activations a = make_activations(table, format.act, tokens, m.view.cols);
  std::vector<float> y(static_cast<std::size_t>(tokens * m.rows));
  std::vector<AlignedBuffer<std::byte>> scratch;
  for (int t = 0; t < threads; ++t) scratch.emplace_back(kMatmulScratchBytes);
  return fastest(options, [&](int t) {
    const auto [first, last] = share(m.rows, t, threads);
    format.matmul(m.view, first, last - first, a.bytes.data(), a.stride, tokens, y.data() + first,
                  m.rows, scratch[static_cast<std::size_t>(t)].data());
  });
}

double read_bandwidth(const Options& options) {
  const int threads = options.threads;
  const std::size_t words = std::size_t{64} << 20;
  AlignedBuffer<std::uint64_t> data(words);
  std::fill_n(data.data(), words, std::uint64_t{1});
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(threads) * 8);
  const double seconds = fastest(options, [&](int t) {
    const std::size_t part = words / static_cast<std::size_t>(threads);
    const std::uint64_t* p = data.data() + part * static_cast<std::size_t>(t);
    std::uint64_t s[8] = {};
    for (std::size_t i = 0; i + 8 <= part; i += 8) {
      for (std::size_t j = 0; j < 8; ++j) s[j] += p[i + j];
    }
    for (std::size_t j = 1; j < 8; ++j) s[0] += s[j];
    sums[static_cast<std::size_t>(t) * 8] = s[0];
  });
  return static_cast<double>(words * 8) / seconds / 1e9;
}

void run(const Options& options) {
  const double bandwidth = read_bandwidth(options);
  if (options.json) {
    std::printf("{\"bench\":\"read\",\"threads\":%d,\"gb_s\":%.1f}\n", options.threads, bandwidth);
  } else {
    std::printf("read bandwidth, %d threads: %.1f GB/s\n", options.threads, bandwidth);
    std::printf("%-12s %-8s %14s %8s %16s\n", "table", "format", "1 token GB/s", "of read",
                "batch GOPS");
  }
  for (const Kernels* table : available_kernels()) {
    if (options.isa.empty() ? table->name == "reference" : table->name != options.isa) continue;
    for (const DTypeInfo& type : all_dtypes()) {
      if (table->format(type.type).matmul == nullptr || is_planar(type.type)) continue;
      if (!options.format.empty() && dtype_from_name(options.format) != type.type) continue;
      const std::int64_t cols = options.cols / type.block_elements * type.block_elements;
      const Matrix large = make_matrix(type.type, cols, std::int64_t{256} << 20);
      const double one = time_product(*table, type.type, large, 1, options);
      const double gb_s = static_cast<double>(large.rows * large.view.row_bytes) / one / 1e9;
      // About 4 GOP: small batches get a matrix that comes from memory, like the experts of a MoE.
      const std::int64_t rows = std::max<std::int64_t>(2'000'000'000 / cols / options.tokens, 1024);
      const Matrix small = make_matrix(type.type, cols, row_bytes(type.type, cols) * rows);
      const double many = time_product(*table, type.type, small, options.tokens, options);
      const double gops =
          2.0 * static_cast<double>(small.rows * cols * options.tokens) / many / 1e9;
      if (options.json) {
        std::printf(
            "{\"bench\":\"matmul\",\"table\":\"%s\",\"format\":\"%s\",\"threads\":%d,\"cols\":%lld,"
            "\"gb_s\":%.2f,\"tokens\":%lld,\"gops\":%.1f}\n",
            std::string(table->name).c_str(), std::string(type.name).c_str(), options.threads,
            static_cast<long long>(cols), gb_s, static_cast<long long>(options.tokens), gops);
      } else {
        std::printf("%-12s %-8s %14.1f %7.0f%% %16.1f\n", std::string(table->name).c_str(),
                    std::string(type.name).c_str(), gb_s, 100 * gb_s / bandwidth, gops);
      }
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (flag == "--json") {
      options.json = true;
      continue;
    }
    if (flag == "--cpu-time") {
      options.cpu_time = true;
      continue;
    }
    if (flag == "--isa") options.isa = value;
    if (flag == "--format") options.format = value;
    if (flag == "--threads") options.threads = std::max(1, std::atoi(value.c_str()));
    if (flag == "--tokens") options.tokens = std::max(1, std::atoi(value.c_str()));
    if (flag == "--cols") options.cols = std::max(256, std::atoi(value.c_str()));
    ++i;
  }
  run(options);
}
