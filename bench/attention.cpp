// Time of decode attention per cached token and layer, by KV cache policy, at the geometry of
// Nemotron-3-Nano-30B-A3B: 32 query heads, 2 kv heads of 128 channels.
//
//   bench_attention [threads] [kernels]
//
// One JSON line per policy and depth: microseconds per cached token and layer, and the rate at
// which the cache's bytes are read.
#include <nemo/base/error.hpp>
#include <nemo/cache/dense_cache.hpp>
#include <nemo/cache/kv_spec.hpp>
#include <nemo/cache/packed_cache.hpp>
#include <nemo/model/attention.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kQueryHeads = 32;
constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kDim = 128;
constexpr std::int64_t kWidth = kKvHeads * kDim;
constexpr double kSeconds = 0.7;  // of timing per case

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<float> normal_rows(std::int64_t count, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(static_cast<std::size_t>(count));
  for (float& x : rows) x = normal(rng);
  return rows;
}

/// Seconds of one decode step's attention, the fastest of many (others may use the machine), over
/// `depth` cached tokens.
template <nemo::KvCache Cache>
double step_seconds(const nemo::Kernels& kernels, int threads, Cache& cache, std::int64_t depth) {
  constexpr std::int64_t kRows = 512;
  const std::vector<float> keys = normal_rows(kRows * kWidth, 1);
  const std::vector<float> values = normal_rows(kRows * kWidth, 2);
  for (std::int64_t t = 0; t < depth; t += kRows) {
    cache.append(kernels, 0, t, keys.data(), values.data(), kWidth, std::min(kRows, depth - t));
  }
  nemo::AttentionWeights w;
  w.q_heads = kQueryHeads;
  w.kv_heads = kKvHeads;
  w.head_dim = kDim;
  w.scale = 1.0f / std::sqrt(static_cast<float>(kDim));
  nemo::Compute compute(kernels, threads);
  const std::vector<float> q = normal_rows(kQueryHeads * kDim, 3);
  std::vector<float> out(q.size()), k(keys.begin(), keys.begin() + kWidth),
      v(values.begin(), values.begin() + kWidth);
  std::vector<double> times;
  for (const double end = now() + kSeconds; now() < end || times.size() < 5;) {
    const double start = now();
    nemo::detail::Chunk chunk;
    if constexpr (Cache::kExactChunk) {
      cache.rotate(kernels, 0, k.data(), v.data(), kWidth, 1);
      chunk = {k.data(), v.data(), kWidth};
    }
    const std::int64_t past = Cache::kExactChunk ? depth : depth - 1;
    nemo::detail::attend(compute, cache, w, 0, past, 1, q.data(), kQueryHeads * kDim, out.data(),
                         kQueryHeads * kDim, chunk);
    times.push_back(now() - start);
  }
  return *std::min_element(times.begin(), times.end());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
    const nemo::Kernels& kernels = nemo::select_kernels(argc > 2 ? argv[2] : "");
    for (const std::int64_t depth :
         {std::int64_t{4096}, std::int64_t{16384}, std::int64_t{65536}}) {
      for (const char* policy : {"fp16", "turbo:8,4,sink=128", "turbo:8,3,sink=128", "rotor:4,64",
                                 "rotor:8,64", "affine:8,64"}) {
        const nemo::KvShape shape{{{kKvHeads, kDim}}, depth};
        double seconds = 0;
        std::size_t bytes = 0;
        if (std::string(policy) == "fp16") {
          nemo::Fp16Cache cache(shape);
          seconds = step_seconds(kernels, threads, cache, depth);
          bytes = cache.bytes(depth);
        } else {
          nemo::PackedCache cache(shape, nemo::parse_kv_format(policy));
          seconds = step_seconds(kernels, threads, cache, depth);
          bytes = cache.bytes(depth);
        }
        std::printf(
            "{\"kv\": \"%s\", \"kernels\": \"%s\", \"threads\": %d, \"depth\": %lld, "
            "\"us_per_token_layer\": %.4f, \"gb_per_s\": %.2f}\n",
            policy, std::string(kernels.name).c_str(), threads, static_cast<long long>(depth),
            seconds * 1e6 / static_cast<double>(depth), static_cast<double>(bytes) / seconds / 1e9);
      }
    }
  } catch (const nemo::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
