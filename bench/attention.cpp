// Time of attention by KV cache policy at the geometry of Nemotron-3-Nano-30B-A3B: 32 query heads,
// 2 kv heads of 128 channels; one layer.
//
//   bench_attention [threads [kernels [policies [depths]]]]     lists by semicolons and commas
//   bench_attention 2 avx2 "fp16;turbo:8,4;rotor:4,64" 4096,16384,65536
//
// One JSON line per policy and depth:
//   us_per_token_layer   one decode step, per cached token
//   gb_per_s, bandwidth  the rate at which the step reads the cache, and as a part of the measured
//                        read bandwidth
//   speedup              against the first policy at the same depth
//   rotation             the part of the step that takes keys, values, queries and results to the
//                        policy's domain and back; timed many times in one parallel region, since
//                        in a step it shares the region of the attention
//   prefill_us           a chunk of 64 tokens behind that depth, per token of the chunk
// Policies take turns, and the fastest of many runs counts: others may use the machine.
#include <nemo/base/error.hpp>
#include <nemo/base/machine.hpp>
#include <nemo/cache/dense_cache.hpp>
#include <nemo/cache/kv_spec.hpp>
#include <nemo/cache/packed_cache.hpp>
#include <nemo/model/attention.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kQueryHeads = 32;
constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kDim = 128;
constexpr std::int64_t kWidth = kKvHeads * kDim;
constexpr std::int64_t kQueryWidth = kQueryHeads * kDim;
constexpr std::int64_t kChunk = 64;
constexpr int kRounds = 10;
constexpr double kSeconds = 0.06;  // of decoding per policy and round
constexpr int kRotations = 64;

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

/// A cache of some depth, and what it does in one layer.
struct Policy {
  std::string name;
  std::size_t bytes = 0;
  std::function<void(std::int64_t tokens)> attend;
  std::function<void()> rotate;  // the rotations of kRotations decode steps; empty: none
  double decode = 1e9, rotation = 0, prefill = 1e9;  // seconds, the fastest so far
};

double seconds_of(const std::function<void()>& fn) {
  const double start = now();
  fn();
  return now() - start;
}

template <nemo::KvCache Cache>
Policy policy_of(const std::string& name, const nemo::Kernels& kernels, int threads,
                 std::shared_ptr<Cache> cache, std::int64_t depth) {
  const std::vector<float> keys = normal_rows(512 * kWidth, 1);
  const std::vector<float> values = normal_rows(512 * kWidth, 2);
  for (std::int64_t t = 0; t < depth; t += 512) {
    cache->append(kernels, 0, t, keys.data(), values.data(), kWidth,
                  std::min<std::int64_t>(512, depth - t));
  }
  nemo::AttentionWeights w;
  w.q_heads = kQueryHeads;
  w.kv_heads = kKvHeads;
  w.head_dim = kDim;
  w.scale = 1.0f / std::sqrt(static_cast<float>(kDim));
  auto compute = std::make_shared<nemo::Compute>(kernels, threads);
  Policy policy;
  policy.name = name;
  policy.bytes = cache->bytes(depth);
  policy.attend = [=, q = normal_rows(kChunk * kQueryWidth, 3),
                   out = std::vector<float>(kChunk * kQueryWidth),
                   k = std::vector<float>(keys.begin(), keys.begin() + kChunk * kWidth),
                   v = std::vector<float>(values.begin(), values.begin() + kChunk * kWidth)](
                      std::int64_t tokens) mutable {
    compute->fine_activations = tokens == 1;  // as in decoding, else as in a long prompt's step
    nemo::detail::Chunk chunk;
    if constexpr (Cache::kExactChunk) {
      cache->rotate(kernels, 0, k.data(), v.data(), kWidth, tokens);
      chunk = {k.data(), v.data(), kWidth};
    }
    nemo::detail::attend(*compute, *cache, w, 0, Cache::kExactChunk ? depth : depth - tokens,
                         tokens, q.data(), kQueryWidth, out.data(), kQueryWidth, chunk);
  };
  if constexpr (Cache::kExactChunk) {
    policy.rotate = [=, rows = normal_rows(2 * kQueryWidth, 4)]() mutable {
      constexpr std::int64_t kGroup = kQueryHeads / kKvHeads;
      for (int i = 0; i < kRotations; ++i) {
        cache->rotate(kernels, 0, rows.data(), rows.data() + kWidth, 2 * kWidth, 1);
      }
      nemo::parallel_for(threads, kKvHeads, [&](std::int64_t head) {
        float* q = rows.data() + head * kGroup * kDim;
        for (int i = 0; i < kRotations; ++i) {
          kernels.kv->rotate(cache->transform(0, head, false), false, q, kDim, kGroup);
          kernels.kv->rotate(cache->transform(0, head, true), true, q, kDim, kGroup);
        }
      });
    };
  }
  return policy;
}

void measure(std::vector<Policy>& policies) {
  for (int round = 0; round < kRounds; ++round) {
    for (Policy& p : policies) {
      for (const double end = now() + kSeconds; now() < end;) {
        p.decode = std::min(p.decode, seconds_of([&] { p.attend(1); }));
      }
      if (p.rotate) {
        const double time = seconds_of(p.rotate) / kRotations;
        p.rotation = round == 0 ? time : std::min(p.rotation, time);
      }
      if (round % 3 == 0) p.prefill = std::min(p.prefill, seconds_of([&] { p.attend(kChunk); }));
    }
  }
}

std::vector<std::string> list(const std::string& text, char separator) {
  std::vector<std::string> items;
  std::istringstream in(text);
  for (std::string item; std::getline(in, item, separator);) items.push_back(item);
  return items;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
    const nemo::Kernels& kernels = nemo::select_kernels(argc > 2 ? argv[2] : "");
    const auto names = list(
        argc > 3 ? argv[3] : "fp16;turbo:8,4;turbo:8,3;rotor:4,64;rotor:8,64;affine:8,64", ';');
    const auto depths = list(argc > 4 ? argv[4] : "4096,16384,65536", ',');
    const double bandwidth = nemo::measure_read_bandwidth(threads);
    for (const std::string& depth_text : depths) {
      const std::int64_t depth = std::max(1LL, std::atoll(depth_text.c_str()));
      const nemo::KvShape shape{{{kKvHeads, kDim}}, depth};
      std::vector<Policy> policies;
      for (const std::string& name : names) {
        policies.push_back(
            name == "fp16"
                ? policy_of(name, kernels, threads, std::make_shared<nemo::Fp16Cache>(shape), depth)
                : policy_of(name, kernels, threads,
                            std::make_shared<nemo::PackedCache>(shape, nemo::parse_kv_format(name)),
                            depth));
      }
      measure(policies);
      for (const Policy& p : policies) {
        const double rate = static_cast<double>(p.bytes) / p.decode;
        std::printf(
            "{\"kv\": \"%s\", \"kernels\": \"%s\", \"threads\": %d, \"depth\": %lld, "
            "\"us_per_token_layer\": %.4f, \"gb_per_s\": %.2f, \"bandwidth\": %.3f, "
            "\"speedup\": %.2f, \"rotation\": %.4f, \"prefill_us\": %.1f}\n",
            p.name.c_str(), std::string(kernels.name).c_str(), threads,
            static_cast<long long>(depth), p.decode * 1e6 / static_cast<double>(depth), rate / 1e9,
            rate / bandwidth, policies.front().decode / p.decode, p.rotation / p.decode,
            p.prefill * 1e6 / static_cast<double>(kChunk));
      }
      std::fflush(stdout);
    }
  } catch (const nemo::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
