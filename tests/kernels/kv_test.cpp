// The KV cache kernels of every table against the reference and against their own decoded tiles.
#include "catch.hpp"
#include "fast_support.hpp"

#include <nemo/kv_kernels.hpp>
#include <nemo/tensor/lloyd_max.hpp>

#include <algorithm>

#ifdef NEMO_HAVE_EMULATED_UNIT
#include "emulated_unit.hpp"
#endif

using namespace nemo;
using namespace nemo::test;

namespace {

std::string name_of(const Kernels& table, const KvSide& s) {
  return std::string(table.name) + (s.values ? " values of " : " keys of ") +
         std::to_string(s.bits) + " bits, code " + std::to_string(static_cast<int>(s.code)) +
         ", dim " + std::to_string(s.dim) + ", group " + std::to_string(s.group);
}

std::vector<KvSide> sides(bool values) {
  std::vector<KvSide> all;
  const KvScale scale = values ? KvScale::least_squares : KvScale::unbiased;
  for (const auto& [dim, group] : {std::pair{16, 16}, {64, 32}, {128, 64}, {256, 256}}) {
    for (int bits = 2; bits <= 8; ++bits) {
      const KvCode code = bits == 8 ? KvCode::int8 : KvCode::lloyd_max;
      all.push_back({dim, bits, group, code, scale, values});
      all.push_back({dim, bits, group, KvCode::affine, scale, values});
    }
  }
  return all;
}

/// Tiles of rows [16 * count, dim], and those rows as the reference decodes them.
struct Tiles {
  AlignedBuffer<std::byte> codes;
  std::vector<Half> scales;
  std::vector<float> rows;
  std::int64_t count;
  [[nodiscard]] KvTiles view() const { return {codes.data(), scales.data(), count}; }
};

Tiles encode_tiles(const Kernels& table, const KvSide& s, const std::vector<float>& rows) {
  const std::int64_t count = static_cast<std::int64_t>(rows.size()) / (16 * s.dim);
  Tiles t{AlignedBuffer<std::byte>(at(count * s.tile_bytes())), {}, rows, count};
  t.scales.resize(at(count * s.tile_scales()));
  for (std::int64_t i = 0; i < count; ++i) {
    std::byte* codes = t.codes.data() + i * s.tile_bytes();
    Half* scales = t.scales.data() + i * s.tile_scales();
    float* tile = t.rows.data() + i * 16 * s.dim;
    table.kv->encode(s, tile, s.dim, 0, 16, codes, scales);
    select_kernels("reference").kv->decode(s, codes, scales, tile, s.dim);
  }
  return t;
}

/// How far products may round: the largest integer of queries and weights, and the largest error of
/// a level in units of its scale, half a step of the largest level over 127 or 1023.
struct Rounding {
  double top = 32512, level = 0;
};
template <int kBits>
double half_step() {
  return 0.5 * static_cast<double>(lloyd_max_levels<kBits>().back()) / (kBits >= 6 ? 1023 : 127);
}
Rounding rounding_of(const KvSide& s) {
  if (s.code != KvCode::lloyd_max) return {};
  const double steps[] = {half_step<2>(), half_step<3>(), half_step<4>(),
                          half_step<5>(), half_step<6>(), half_step<7>()};
  return {s.bits >= 6 ? 8191.0 : 32512.0, steps[s.bits - 2]};
}

/// Kernels with Winograd's products, and the table of the plain ones.
struct WinogradPair {
  std::string name;
  const KvKernels* own;
  const Kernels* plain;
};
std::vector<WinogradPair> winograd_pairs() {
  std::vector<WinogradPair> all;
#ifdef NEMO_HAVE_EMULATED_UNIT
  if (const Kernels* avx2 = find_table("avx2")) {
    all.push_back({"of AVX2's instructions", &kWinogradKvKernels, avx2});
  }
#endif
  if (const Kernels* zen4 = find_table("zen4")) {
    all.push_back({"zen4", zen4->kv, find_table("avx512vnni")});
  }
  return all;
}

/// The magnitude of a scale: affine ones may be negative.
double scale_at(const KvSide& s, const Tiles& tiles, std::int64_t token, std::int64_t channel) {
  const std::int64_t i = token / 16 * s.tile_scales() + channel / s.group * 16 + token % 16;
  return std::abs(static_cast<double>(to_float(tiles.scales[at(i)])));
}

/// The largest magnitude of a code's level: what rounded queries and weights are multiplied with.
double largest_level(const KvSide& s) {
  return s.code == KvCode::affine ? 255 : s.code == KvCode::int8 ? 128 : 4;
}

}  // namespace

TEST_CASE("KV tiles have the reference's codes, scales and decoded rows in every table") {
  for (const bool values : {false, true}) {
    for (const KvSide& s : sides(values)) {
      const auto rows = random_floats(32 * s.dim, 1.0f, static_cast<unsigned>(s.dim + s.bits));
      const Tiles expected = encode_tiles(select_kernels("reference"), s, rows);
      for (const Kernels* table : fast_tables()) {
        INFO(name_of(*table, s));
        const Tiles got = encode_tiles(*table, s, rows);
        CHECK(std::equal(got.codes.data(), got.codes.data() + got.count * s.tile_bytes(),
                         expected.codes.data()));
        CHECK(std::memcmp(got.scales.data(), expected.scales.data(), 2 * got.scales.size()) == 0);
        std::vector<float> decoded(at(16 * s.dim));
        table->kv->decode(s, got.codes.data(), got.scales.data(), decoded.data(), s.dim);
        CHECK(std::equal(decoded.begin(), decoded.end(), expected.rows.begin()));
      }
    }
  }
}

TEST_CASE("KV rotations have the reference's bits in every table, for any number of rows") {
  constexpr int kDim = 64;
  std::vector<std::int16_t> index(kDim);
  for (int i = 0; i < kDim; ++i) index[at(i)] = static_cast<std::int16_t>(i * 5 % kDim);
  std::vector<float> signs(kDim), values = random_floats(kDim * 4, 1.0f, 3);
  for (int i = 0; i < kDim; ++i) signs[at(i)] = i % 3 == 0 ? -1.0f : 1.0f;
  const KvStage stages[] = {{KvStage::Kind::signs, 0, 0, nullptr, signs.data()},
                            {KvStage::Kind::hadamard, 32, 0, nullptr, nullptr},
                            {KvStage::Kind::rotor, 4, 16, index.data(), signs.data()},
                            {KvStage::Kind::matrix, 4, 16, index.data(), values.data()}};
  const KvTransform transform{stages, 4, kDim, 0.125f};
  for (const bool inverse : {false, true}) {
    for (const std::int64_t count : {1, 2, 15, 16, 17, 40}) {
      const auto rows = random_floats(count * kDim, 1.0f, 9);
      auto expected = rows;
      select_kernels("reference").kv->rotate(transform, inverse, expected.data(), kDim, count);
      for (const Kernels* table : fast_tables()) {
        INFO(table->name << ", inverse " << inverse << ", " << count << " rows");
        auto got = rows;
        table->kv->rotate(transform, inverse, got.data(), kDim, count);
        CHECK(std::memcmp(got.data(), expected.data(), 4 * got.size()) == 0);
      }
    }
  }
}

TEST_CASE("scores of packed tiles are those of the decoded rows, within their rounding") {
  constexpr std::int64_t kTokens = 48;
  for (const KvSide& s : sides(false)) {
    const auto rows = random_floats(kTokens * s.dim, 1.0f, static_cast<unsigned>(s.bits));
    const Rounding rounding = rounding_of(s);
    for (const Kernels* table : fast_tables()) {
      const Tiles tiles = encode_tiles(*table, s, rows);
      for (const std::int64_t n : {1, 2, 3, 4, 5, 16, 17}) {
        INFO(name_of(*table, s) << ", " << n << " queries");
        const auto q = random_floats(n * s.dim, 1.0f, 7);
        AlignedBuffer<std::byte> packed(at(KvPackedQueries::bytes(s, n)));
        table->kv->pack_queries(s, q.data(), n, packed.data());
        std::vector<float> scores(at(n * kTokens));
        table->kv->scores(s, tiles.view(), {q.data(), packed.data()}, n, scores.data(), kTokens);
        int wrong = 0;
        for (std::int64_t r = 0; r < n; ++r) {
          for (std::int64_t t = 0; t < kTokens; ++t) {
            double expected = 0, bound = 0;
            for (std::int64_t g = 0; g < s.dim; g += s.group) {
              double top = 0, terms = 0;
              for (std::int64_t c = g; c < g + s.group; ++c) {
                const double x = double(q[at(r * s.dim + c)]);
                const double y = double(tiles.rows[at(t * s.dim + c)]);
                expected += x * y;
                terms += std::abs(x * y);
                top = std::max(top, std::abs(x));
                bound += std::abs(x) * scale_at(s, tiles, t, c) * rounding.level;
              }
              // Half a unit of every query, met by a level, or by a level and a bias.
              const double level = largest_level(s) * scale_at(s, tiles, t, g);
              bound += double(s.group) * 0.5 * top / rounding.top * level * 2 + 1e-5 * terms;
            }
            const double error = std::abs(double(scores[at(r * kTokens + t)]) - expected);
            if (!(error <= bound)) ++wrong;
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("Winograd's products with packed tiles have the bits of the plain ones") {
  constexpr std::int64_t kTokens = 208;  // more than a batch of tiles, and an odd number of them
  for (const auto& [name, own, plain] : winograd_pairs()) {
    for (const bool values : {false, true}) {
      for (const KvSide& s : sides(values)) {
        for (const float size : {1.0f, 1e-3f}) {
          const Tiles tiles = encode_tiles(
              *plain, s, random_floats(kTokens * s.dim, size, static_cast<unsigned>(s.bits)));
          for (const std::int64_t n : {1, 3, 4, 16, 21}) {
            INFO(name << ": " << name_of(*plain, s) << ", " << n << " rows");
            const std::int64_t width = values ? s.dim : kTokens;
            auto x = random_floats(n * (values ? kTokens : s.dim), 1.0f, 9);
            // The largest of both signs, and alternating ones.
            for (std::size_t i = 0; i < x.size() / 2; ++i) x[i] = i % 3 == 0 ? -2.0f : 2.0f;
            std::vector<float> results[2];
            for (const KvKernels* kernels : {own, plain->kv}) {
              std::vector<float>& out = results[kernels == own ? 0 : 1];
              out.assign(at(n * width), 0.5f);
              if (values) {
                kernels->mix(s, tiles.view(), x.data(), kTokens, n, out.data(), width);
                continue;
              }
              AlignedBuffer<std::byte> packed(at(KvPackedQueries::bytes(s, n)));
              kernels->pack_queries(s, x.data(), n, packed.data());
              kernels->scores(s, tiles.view(), {x.data(), packed.data()}, n, out.data(), width);
            }
            CHECK(std::memcmp(results[0].data(), results[1].data(), 4 * results[0].size()) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("mixes of packed tiles are those of the decoded rows, within their rounding") {
  constexpr std::int64_t kTokens = 160;  // more than a batch of tiles
  for (const KvSide& s : sides(true)) {
    const auto rows = random_floats(kTokens * s.dim, 1.0f, static_cast<unsigned>(s.bits));
    const Rounding rounding = rounding_of(s);
    for (const Kernels* table : fast_tables()) {
      const Tiles tiles = encode_tiles(*table, s, rows);
      for (const std::int64_t n : {1, 3, 4, 6, 16}) {
        INFO(name_of(*table, s) << ", " << n << " rows of weights");
        auto p = random_floats(n * kTokens, 1.0f, 8);
        for (float& x : p) x = std::abs(x);
        std::vector<float> out(at(n * s.dim), 0.5f);
        table->kv->mix(s, tiles.view(), p.data(), kTokens, n, out.data(), s.dim);
        int wrong = 0;
        for (std::int64_t r = 0; r < n; ++r) {
          for (std::int64_t c = 0; c < s.dim; ++c) {
            double expected = 0.5, bound = 1e-5, largest = 0, terms = 0;
            for (std::int64_t t = 0; t < kTokens; ++t) {
              const double weight = double(p[at(r * kTokens + t)]);
              const double scaled = weight * scale_at(s, tiles, t, c);
              const double term = weight * double(tiles.rows[at(t * s.dim + c)]);
              expected += term;
              terms += std::abs(term);
              largest = std::max(largest, scaled);
              bound += scaled * rounding.level;
            }
            bound +=
                double(kTokens) * 0.5 * largest / rounding.top * largest_level(s) + 1e-5 * terms;
            if (!(std::abs(double(out[at(r * s.dim + c)]) - expected) <= bound)) ++wrong;
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}
