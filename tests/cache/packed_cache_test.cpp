// The quantized cache as attention uses it: every size, every way tokens arrive, every way back.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/cache/dense_cache.hpp>
#include <nemo/cache/policies.hpp>
#include <nemo/model/attention.hpp>
#include <nemo/tensor/lloyd_max.hpp>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

using nemo::KvFormat;
using nemo::PackedCache;

struct Rows {
  std::int64_t heads, dim, tokens;
  std::vector<float> keys, values;  // [tokens, heads*dim]
  Rows(std::int64_t h, std::int64_t d, std::int64_t n, unsigned seed)
      : heads(h), dim(d), tokens(n) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    keys.resize(static_cast<std::size_t>(n * h * d));
    values.resize(keys.size());
    for (float& x : keys) x = normal(rng);
    for (float& x : values) x = normal(rng);
  }
  /// Rotates and appends [first, first + count) as attention does.
  template <class Cache>
  void feed(const nemo::Kernels& kernels, Cache& cache, std::int64_t first,
            std::int64_t count) const {
    const std::int64_t width = heads * dim;
    std::vector<float> k(keys.begin() + first * width, keys.begin() + (first + count) * width);
    std::vector<float> v(values.begin() + first * width, values.begin() + (first + count) * width);
    cache.rotate(kernels, 0, k.data(), v.data(), width, count);
    cache.append(kernels, 0, first, k.data(), v.data(), width, count);
  }
};

template <class Cache>
std::vector<std::byte> saved(const Cache& cache) {
  std::vector<std::byte> bytes;
  cache.save([&](const void* data, std::size_t n) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), from, from + n);
  });
  return bytes;
}

template <class Cache>
void load(Cache& cache, const std::vector<std::byte>& bytes) {
  std::size_t at = 0;
  cache.load([&](void* data, std::size_t n) {
    if (n > bytes.size() - at) throw nemo::Error(nemo::ErrorCode::bad_file, "ends early");
    if (n > 0) std::memcpy(data, bytes.data() + at, n);
    at += n;
  });
}

nemo::KvShape shape_of(const Rows& rows, std::int64_t capacity) {
  return {{{rows.heads, rows.dim}}, capacity};
}

const KvFormat kFormats[] = {KvFormat::turbo(8, 4, 4),
                             KvFormat::turbo(8, 3, 128),
                             KvFormat::turbo(4, 2, 0),
                             KvFormat::turbo(6, 7, 4),
                             KvFormat::turbo(5, 8, 4),
                             KvFormat::rotor(4, 64),
                             KvFormat::rotor(3, 32, 3, 4),
                             KvFormat::rotor(2, 64, 8, 0),
                             KvFormat::affine(4, 64),
                             KvFormat::affine(8, 32),
                             KvFormat::fp16()};

// What the fast kernels round, and what that may do to their results. The reference computes with
// decoded rows in float: only the order of its sums differs.
//
// Levels of a codebook are whole multiples of 1/127 of the largest, of 1/1023 for 6 and 7 bits. The
// error of an element is d(code) times its scale; for rotated, normally distributed rows
//   level_noise^2 = sum over codes of P(code) d(code)^2                    in units of the scale
// Queries and weights are rounded to integers of at most T = 32512 (8191 for 6 and 7 bits), by
// 1/sqrt(12) units RMS, a unit being the largest of them over T.

double operand_top(int bits, bool affine) {
  return !affine && (bits == 6 || bits == 7) ? 8191 : 32512;
}

/// That, and by how much the scale that keeps products unbiased exceeds the rows' deviation:
/// 1 / (1 - error of the codebook).
struct LevelNoise {
  double noise = 0, unbiased = 1;
};

template <int kBits>
LevelNoise noise_of_levels() {
  const auto& c = nemo::kLloydMax<kBits>;
  const double largest = double(c.back()), top = kBits >= 6 ? 1023 : 127;
  const auto below = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  double sum = 0, kept = 0;
  for (std::size_t k = 0; k < c.size(); ++k) {
    const double a = k == 0 ? -40 : (double(c[k - 1]) + double(c[k])) / 2;
    const double b = k + 1 == c.size() ? 40 : (double(c[k]) + double(c[k + 1])) / 2;
    const double d = std::round(double(c[k]) / largest * top) / top * largest - double(c[k]);
    sum += (below(b) - below(a)) * d * d;
    kept += (below(b) - below(a)) * double(c[k]) * double(c[k]);
  }
  return {std::sqrt(sum), 1 / kept};
}

LevelNoise level_noise(const KvFormat& format, int bits) {
  if (format.scheme == nemo::KvScheme::affine || format.scheme == nemo::KvScheme::fp16) return {};
  switch (bits) {
    case 2:
      return noise_of_levels<2>();
    case 3:
      return noise_of_levels<3>();
    case 4:
      return noise_of_levels<4>();
    case 5:
      return noise_of_levels<5>();
    case 6:
      return noise_of_levels<6>();
    case 7:
      return noise_of_levels<7>();
    default:
      return {};
  }
}

constexpr double kFloatNoise = 2e-6;  // 128 or a few hundred terms, rounded 2^-24 each

/// RMS error of scores in units of |q||k|/sqrt(dim). Queries of 128 normal numbers reach 3.5
/// standard deviations at most; codes of an affine group stand for what they decode to.
double score_noise(const nemo::Kernels& kernels, const KvFormat& format) {
  if (kernels.name == "reference") return kFloatNoise;
  const bool affine = format.scheme == nemo::KvScheme::affine;
  const double query = 3.5 / operand_top(format.key_bits, affine) / std::sqrt(12.0);
  const LevelNoise levels = level_noise(format, format.key_bits);
  return std::hypot(levels.noise * levels.unbiased, query) + kFloatNoise;
}

/// RMS error of sum_t p_t v_t over the channels of one row. Scales of normal rows differ by up to
/// 1.5 around their mean, and with them the weights p * scale that are rounded; an affine code
/// stands for up to the group's whole range, 3 standard deviations RMS, since its bias is added
/// apart.
double mix_noise(const nemo::Kernels& kernels, const KvFormat& format, const float* p,
                 std::int64_t count) {
  double squares = 0, largest = 0, size = 0;
  for (std::int64_t t = 0; t < count; ++t) {
    squares += double(p[t]) * double(p[t]);
    largest = std::max(largest, double(p[t]));
    size += double(p[t]);
  }
  if (kernels.name == "reference") return kFloatNoise * (size + 0.5);
  const bool affine = format.scheme == nemo::KvScheme::affine;
  const double unit = 1.5 * largest / operand_top(format.value_bits, affine);
  const double rounded = unit * std::sqrt(double(count) / 12.0) * (affine ? 3.0 : 1.0);
  return std::hypot(level_noise(format, format.value_bits).noise * std::sqrt(squares), rounded) +
         kFloatNoise * (size + 0.5);
}

}  // namespace

TEST_CASE("scores and mixes of packed tiles are those of the decoded rows, for every range") {
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    for (const KvFormat& format : kFormats) {
      const Rows rows(2, 128, 301, 1);
      PackedCache cache(shape_of(rows, 512), format);
      rows.feed(*kernels, cache, 0, 290);
      rows.feed(*kernels, cache, 290, 11);
      std::vector<float> k(301 * 128), v(301 * 128);
      cache.decode(*kernels, {0, 1, 0, 301}, k.data(), v.data());
      for (const auto& [first, count] :
           {std::pair{0, 301}, std::pair{0, 128}, std::pair{128, 128}, std::pair{3, 7},
            std::pair{131, 97}, std::pair{299, 2}, std::pair{250, 51}}) {
        for (const std::int64_t n_rows : {1, 5, 16, 33}) {
          INFO(kernels->name << " " << format.name() << " [" << first << ", +" << count << ") rows "
                             << n_rows);
          const Rows q(1, 128, n_rows, 2);
          std::vector<float> queries = q.keys;
          std::vector<std::byte> packed(static_cast<std::size_t>(cache.packed_bytes(0, n_rows)) +
                                        64);
          cache.prepare(*kernels, 0, 1, queries.data(), n_rows, packed.data());
          std::vector<float> s(static_cast<std::size_t>(n_rows * 320), -7.0f);
          cache.scores(*kernels, {0, 1, first, count}, {queries.data(), packed.data()}, n_rows,
                       s.data(), 320);
          double error = 0;
          for (std::int64_t r = 0; r < n_rows; ++r) {
            for (std::int64_t t = 0; t < count; ++t) {
              double dot = 0;
              for (std::int64_t c = 0; c < 128; ++c) {
                dot += double(queries[std::size_t(r * 128 + c)]) *
                       double(k[std::size_t((first + t) * 128 + c)]);
              }
              const double e = dot - double(s[std::size_t(r * 320 + t)]);
              error += e * e / 128.0;  // |q|^2 |k|^2 / dim is 128 on average
            }
            if (count < 320) CHECK(s[std::size_t(r * 320 + count)] == -7.0f);
          }
          // The mean over n products of few keys scatters around the expectation: by 15 % for many,
          // and a handful reaches twice of it in one of a thousand cases.
          const double slack = n_rows * count < 200 ? 2.0 : 1.15;
          CHECK(std::sqrt(error / double(n_rows * count)) < slack * score_noise(*kernels, format));

          // Weights as softmax makes them: a few large ones among many small ones.
          std::vector<float> p(s.size()), out(static_cast<std::size_t>(n_rows * 128), 0.5f);
          for (std::size_t i = 0; i < p.size(); ++i) {
            p[i] = std::exp(3.0f * q.values[i % q.values.size()] - 9.0f);
          }
          cache.mix(*kernels, {0, 1, first, count}, p.data(), 320, n_rows, out.data(), 128);
          double difference = 0, expected = 0;
          for (std::int64_t r = 0; r < n_rows; ++r) {
            expected += std::pow(mix_noise(*kernels, format, &p[std::size_t(r * 320)], count), 2);
            for (std::int64_t c = 0; c < 128; ++c) {
              double sum = 0.5;
              for (std::int64_t t = 0; t < count; ++t) {
                sum += double(p[std::size_t(r * 320 + t)]) *
                       double(v[std::size_t((first + t) * 128 + c)]);
              }
              const double e = sum - double(out[std::size_t(r * 128 + c)]);
              difference += e * e / 128;
            }
          }
          CHECK(std::sqrt(difference / expected) < (n_rows * count < 200 ? 2.0 : 1.15));
        }
      }
    }
  }
}

TEST_CASE("products on packed tiles stay below the noise of 8 bit queries") {
  // Spec 10.5: 8e-5 |q|^2 |k|^2 / dim.
  for (const KvFormat& format : kFormats) {
    INFO(format.name());
    CHECK(score_noise(*nemo::available_kernels().back(), format) < std::sqrt(8e-5));
  }
  // And rounded levels below 1 % of the error of 4-bit codes (10.4), of which wide ones take less.
  const KvFormat f = KvFormat::turbo(4, 4, 0);
  for (const int bits : {4, 5, 6, 7})
    CHECK(std::pow(level_noise(f, bits).noise, 2) < 0.0095 * 0.01);
  CHECK(std::pow(level_noise(f, 7).noise, 2) < 0.01 * 1.63e-4);
}

TEST_CASE("a step of attention equals softmax over the decoded rows, for every geometry") {
  for (const nemo::Kernels* kernels : nemo::available_kernels()) {
    const bool slow = kernels->name == "reference";
    for (const std::int64_t kv_heads : {1, 2, 8}) {
      for (const std::int64_t group : {1, 5, 16}) {
        for (const std::int64_t past : {1, 15, 16, 17, 127, 128, 129, 4095, 4097}) {
          for (const int sink : {0, 4, 128}) {
            // Long ones take a second each: with 16 query heads per kv head, and every sink for the
            // usual two kv heads.
            const bool usual = group == 16 && (sink == 4 || (kv_heads == 2 && !slow));
            if (past > 200 && !(usual && (kv_heads == 2 || !slow))) continue;
            INFO(kernels->name << " kv heads " << kv_heads << " group " << group << " past " << past
                               << " sink " << sink);
            const Rows rows(kv_heads, 128, past + 1, unsigned(past));
            const Rows q(kv_heads * group, 128, 1, 5);
            PackedCache cache(shape_of(rows, past + 1), KvFormat::turbo(8, 4, sink));
            rows.feed(*kernels, cache, 0, past);

            nemo::AttentionWeights w;
            w.q_heads = kv_heads * group;
            w.kv_heads = kv_heads;
            w.head_dim = 128;
            w.scale = 1.0f / std::sqrt(128.0f);
            nemo::Compute compute(*kernels, 2);
            const std::int64_t width = kv_heads * 128;
            std::vector<float> k(rows.keys.end() - width, rows.keys.end());
            std::vector<float> v(rows.values.end() - width, rows.values.end());
            cache.rotate(*kernels, 0, k.data(), v.data(), width, 1);
            std::vector<float> out(q.keys.size());
            nemo::detail::attend(compute, cache, w, 0, past, 1, q.keys.data(), group * width,
                                 out.data(), group * width, {k.data(), v.data(), width});

            double worst = 0, largest_scale = 0;
            for (std::int64_t h = 0; h < kv_heads; ++h) {
              std::vector<float> dk(std::size_t((past + 1) * 128)), dv(dk.size());
              cache.decode(*kernels, {0, h, 0, past}, dk.data(), dv.data());
              // Least squares: the scale is the RMS of what it decodes to over that of its levels,
              // which is at least 0.9 for 128 normal numbers.
              for (std::int64_t t = 0; t < past; ++t) {
                double sum = 0;
                for (int c = 0; c < 128; ++c)
                  sum += std::pow(double(dv[std::size_t(t * 128 + c)]), 2);
                largest_scale = std::max(largest_scale, std::sqrt(sum / 128) / 0.9);
              }
              std::copy_n(k.begin() + h * 128, 128, dk.end() - 128);
              std::copy_n(v.begin() + h * 128, 128, dv.end() - 128);
              // Back to the model's domain, where the queries are.
              kernels->kv->rotate(cache.transform(0, h, false), true, dk.data(), 128, past + 1);
              kernels->kv->rotate(cache.transform(0, h, true), true, dv.data(), 128, past + 1);
              for (std::int64_t r = 0; r < group; ++r) {
                const float* query = &q.keys[std::size_t((h * group + r) * 128)];
                std::vector<double> s(std::size_t(past + 1)), expected(128);
                double sum = 0;
                for (std::int64_t t = 0; t <= past; ++t) {
                  double dot = 0;
                  for (int c = 0; c < 128; ++c)
                    dot += double(query[c]) * double(dk[std::size_t(t * 128 + c)]);
                  sum += s[std::size_t(t)] = std::exp(dot / std::sqrt(128.0));
                }
                for (std::int64_t t = 0; t <= past; ++t) {
                  for (std::size_t c = 0; c < 128; ++c) {
                    expected[c] += s[std::size_t(t)] / sum * double(dv[std::size_t(t * 128) + c]);
                  }
                }
                for (std::size_t c = 0; c < 128; ++c) {
                  worst = std::max(
                      worst,
                      std::abs(expected[c] - double(out[std::size_t((h * group + r) * 128) + c])));
                }
              }
            }
            // The 8 bit keys are exact up to 16 bit queries, which moves weights by 1e-4. Values of
            // 4 bits are off by at most half a step of their byte levels times the scale.
            const double step = double(nemo::kLloydMax<4>.back()) / 127;
            CHECK(worst < (slow ? 2e-6 : step / 2 * largest_scale + 1e-3));
          }
        }
      }
    }
  }
}

TEST_CASE("codes do not depend on how tokens arrive") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  for (const KvFormat& format : kFormats) {
    INFO(format.name());
    const Rows rows(2, 128, 333, 4);
    PackedCache whole(shape_of(rows, 400), format);
    rows.feed(kernels, whole, 0, 333);
    for (const std::int64_t chunk : {1, 7, 16, 100}) {
      PackedCache parts(shape_of(rows, 400), format);
      for (std::int64_t t = 0; t < 333; t += chunk) {
        rows.feed(kernels, parts, t, std::min(chunk, 333 - t));
      }
      INFO("chunk " << chunk);
      CHECK((saved(parts) == saved(whole)));
    }
  }
}

TEST_CASE("rewinding to a mark, saving and loading bring back every bit") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  for (const KvFormat& format : kFormats) {
    for (const std::int64_t at : {0, 1, 3, 4, 20, 128, 131, 143, 144, 290}) {
      INFO(format.name() << " at " << at);
      const Rows rows(2, 64, 333, 4), other(2, 64, 333, 5);
      PackedCache cache(shape_of(rows, 400), format);
      rows.feed(kernels, cache, 0, at);
      const auto before = saved(cache);
      const auto mark = cache.mark();
      other.feed(kernels, cache, at, 333 - at);
      cache.rewind(mark);
      CHECK((saved(cache) == before));

      PackedCache copy(shape_of(rows, 400), format);
      other.feed(kernels, copy, 0, 50);
      load(copy, before);
      CHECK((saved(copy) == before));
      rows.feed(kernels, cache, at, 333 - at);
      rows.feed(kernels, copy, at, 333 - at);
      CHECK((saved(copy) == saved(cache)));
    }
  }
}

TEST_CASE("forks share their past and diverge without seeing each other") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  const auto check = [&](auto make) {
    const Rows rows(2, 64, 333, 4), other(2, 64, 333, 5);
    auto cache = make(rows);
    rows.feed(kernels, cache, 0, 150);
    const auto before = saved(cache);
    auto fork = cache.fork();
    CHECK((saved(fork) == before));
    other.feed(kernels, fork, 150, 100);
    CHECK((saved(cache) == before));
    const auto diverged = saved(fork);
    rows.feed(kernels, cache, 150, 100);
    CHECK((saved(fork) == diverged));
    CHECK((saved(cache) != diverged));
  };
  for (const KvFormat& format : kFormats) {
    INFO(format.name());
    check([&](const Rows& rows) { return PackedCache(shape_of(rows, 400), format); });
  }
  check([&](const Rows& rows) { return nemo::Fp16Cache(shape_of(rows, 400)); });
  check([&](const Rows& rows) { return nemo::TurboCache<8, 4>(shape_of(rows, 400)); });
}

TEST_CASE("forks share blocks until one of them writes there") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  const Rows rows(2, 64, 600, 4);
  PackedCache cache(shape_of(rows, 600), KvFormat::turbo(8, 4, 0));
  rows.feed(kernels, cache, 0, 512);
  CHECK(cache.shared_bytes() == 0);
  PackedCache fork = cache.fork();
  CHECK(fork.shared_bytes() == fork.bytes(512));
  rows.feed(kernels, fork, 512, 1);  // a block of its own
  CHECK(fork.shared_bytes() == fork.bytes(512));
  fork.truncate(300);
  CHECK(fork.shared_bytes() == fork.bytes(512));
  rows.feed(kernels, fork, 300, 1);  // in the second block of 256 tokens
  CHECK(fork.shared_bytes() == fork.bytes(256));
  CHECK(cache.shared_bytes() == cache.bytes(256));
}

TEST_CASE("trimming keeps the codes of what stays") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  const Rows rows(1, 128, 333, 4);
  for (const KvFormat& format : kFormats) {
    PackedCache cache(shape_of(rows, 400), format);
    rows.feed(kernels, cache, 0, 333);
    for (const std::int64_t tokens : {331, 320, 300, 299, 290, 150, 128, 100, 3, 0}) {
      INFO(format.name() << " to " << tokens);
      PackedCache fresh(shape_of(rows, 400), format);
      rows.feed(kernels, fresh, 0, tokens);
      cache.truncate(tokens);
      // Half precision rows of the trimmed tile are gone, its codes are not: after completing the
      // tile both caches hold the same.
      PackedCache trimmed = cache.fork();
      rows.feed(kernels, trimmed, tokens, 320 - std::min<std::int64_t>(tokens, 320));
      rows.feed(kernels, fresh, tokens, 320 - std::min<std::int64_t>(tokens, 320));
      if (tokens <= 320 && format.sink % 16 == 0) CHECK((saved(trimmed) == saved(fresh)));
      std::vector<float> k(400 * 128), v(400 * 128);
      cache.decode(kernels, {0, 0, 0, tokens}, k.data(), v.data());
    }
  }
}

TEST_CASE("attention over a quantized cache has the same bits for every number of threads") {
  const Rows rows(2, 128, 700, 6);
  const Rows q(32, 128, 700, 7);
  nemo::AttentionWeights w;
  w.q_heads = 32;
  w.kv_heads = 2;
  w.head_dim = 128;
  w.scale = 1.0f / std::sqrt(128.0f);
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  const auto run = [&](int threads) {
    nemo::Compute compute(kernels, threads);
    nemo::RotorCache<4, 64> cache(shape_of(rows, 700));
    std::vector<float> out(q.keys.size());
    std::int64_t past = 0;
    for (const std::int64_t n : {300, 1, 200, 1, 1, 197}) {
      std::vector<float> k(rows.keys.begin() + past * 256, rows.keys.begin() + (past + n) * 256);
      std::vector<float> v(rows.values.begin() + past * 256,
                           rows.values.begin() + (past + n) * 256);
      cache.rotate(kernels, 0, k.data(), v.data(), 256, n);
      nemo::detail::attend(compute, cache, w, 0, past, n, q.keys.data() + past * 4096, 4096,
                           out.data() + past * 4096, 4096, {k.data(), v.data(), 256});
      cache.append(kernels, 0, past, k.data(), v.data(), 256, n);
      past += n;
    }
    return out;
  };
  const auto one = run(1);
  CHECK(run(2) == one);
  CHECK(run(3) == one);
}

TEST_CASE("bytes per token are the published table, in real allocations") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  // Spec section 9: bytes per token and layer with 2 kv heads of 128 channels. turbo has one value
  // scale per head and token, which takes 4 bytes less than the table's groups of 64.
  const std::pair<KvFormat, std::size_t> table[] = {{KvFormat::fp16(), 1024},
                                                    {KvFormat::rotor(8, 64, 8, 0), 528},
                                                    {KvFormat::rotor(8, 64, 4, 0), 400},
                                                    {KvFormat::turbo(8, 4, 0), 396},
                                                    {KvFormat::rotor(8, 64, 3, 0), 368},
                                                    {KvFormat::turbo(8, 3, 0), 364},
                                                    {KvFormat::rotor(4, 64, 4, 0), 272},
                                                    {KvFormat::rotor(4, 64, 3, 0), 240},
                                                    {KvFormat::rotor(3, 64, 3, 0), 208},
                                                    {KvFormat::rotor(2, 64, 2, 0), 144},
                                                    {KvFormat::affine(8, 64), 544},
                                                    {KvFormat::affine(4, 64), 288}};
  for (const auto& [format, bytes] : table) {
    INFO(format.name());
    const Rows rows(2, 128, 1024, 1);
    PackedCache cache(shape_of(rows, 4096), format);
    const std::size_t empty = cache.allocated_bytes();
    rows.feed(kernels, cache, 0, 1024);
    CHECK(cache.allocated_bytes() - empty == bytes * 1024);
    CHECK(cache.bytes(1024) == bytes * 1024);
  }
  // The sink tier costs what half precision costs.
  PackedCache cache({{{2, 128}}, 4096}, KvFormat::turbo(8, 4, 128));
  CHECK(cache.bytes(128) == 128 * 1024);
  CHECK(cache.bytes(129) - cache.bytes(128) == 396);
}

TEST_CASE("formats that do not fit a model's heads are refused with the reason") {
  const auto message = [](const KvFormat& format, std::int64_t dim) -> std::string {
    try {
      PackedCache cache({{{2, dim}}, 64}, format);
    } catch (const nemo::Error& e) {
      return e.what();
    }
    return "";
  };
  CHECK(message(KvFormat::turbo(8, 4, 128), 96).find("power of two") != std::string::npos);
  CHECK(message(KvFormat::rotor(4, 64), 96).find("64 does not divide") != std::string::npos);
  CHECK(message(KvFormat::rotor(4, 32), 96).empty());
  CHECK(message(KvFormat::turbo(9, 4, 128), 128).find("2 to 8") != std::string::npos);
  CHECK(message(KvFormat::affine(4, 48), 96).find("16, 32, 64 or 128") != std::string::npos);
  CHECK(message(KvFormat::turbo(8, 4, 128), 24).find("use fp16") != std::string::npos);
}

TEST_CASE("a saved cache of another policy, shape or length is refused") {
  const nemo::Kernels& kernels = *nemo::available_kernels().back();
  const Rows rows(2, 128, 200, 1);
  PackedCache cache(shape_of(rows, 400), KvFormat::turbo(8, 4, 128));
  rows.feed(kernels, cache, 0, 200);
  const auto bytes = saved(cache);
  const auto refused = [&](PackedCache other, std::vector<std::byte> data) {
    CHECK_THROWS_AS(load(other, data), nemo::Error);
  };
  refused(PackedCache(shape_of(rows, 400), KvFormat::turbo(8, 3, 128)), bytes);
  refused(PackedCache(shape_of(rows, 400), KvFormat::turbo(8, 4, 64)), bytes);
  refused(PackedCache({{{1, 128}}, 400}, KvFormat::turbo(8, 4, 128)), bytes);
  refused(PackedCache(shape_of(rows, 199), KvFormat::turbo(8, 4, 128)), bytes);
  auto cut = bytes;
  cut.resize(bytes.size() - 1);
  refused(PackedCache(shape_of(rows, 400), KvFormat::turbo(8, 4, 128)), cut);
  auto damaged = bytes;
  damaged[0] ^= std::byte{1};
  refused(PackedCache(shape_of(rows, 400), KvFormat::turbo(8, 4, 128)), damaged);
}

TEST_CASE("policies carry their command line spelling") {
  CHECK(nemo::TurboCache<8, 4>::kName == "turbo:8,4,sink=128");
  CHECK(nemo::TurboCache<8, 3, 0>::kName == "turbo:8,3,sink=0");
  CHECK(nemo::RotorCache<4, 64>::kName == "rotor:4,64");
  CHECK(nemo::RotorCache<8, 32, 4>::kName == "rotor:8,32,v=4");
  CHECK(nemo::AffineCache<4>::kName == "affine:4,64");
  CHECK(nemo::TurboCache<8, 4>::kFormat.name() == nemo::TurboCache<8, 4>::kName);
  CHECK(nemo::RotorCache<8, 32, 4>::kFormat.name() == nemo::RotorCache<8, 32, 4>::kName);
  CHECK(nemo::AffineCache<4>::kFormat.name() == nemo::AffineCache<4>::kName);
}
