// Rotations of quantized caches: orthogonal, exact, the documented signs.
#include "catch.hpp"

#include <nemo/cache/kv_transform.hpp>
#include <nemo/kernels.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace {

using nemo::KvRotation;

/// The matrix of a transform (or its inverse), row-major: column c is T e_c.
std::vector<float> matrix_of(const nemo::Kernels& kernels, const nemo::KvTransform& t, bool inverse,
                             float unit = 1.0f) {
  const auto n = static_cast<std::size_t>(t.dim);
  std::vector<float> rows(n * n), m(n * n);
  for (std::size_t i = 0; i < n; ++i) rows[i * n + i] = unit;
  kernels.kv->rotate(t, inverse, rows.data(), t.dim, t.dim);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) m[j * n + i] = rows[i * n + j];
  }
  return m;
}

constexpr KvRotation kAll[] = {KvRotation::none,   KvRotation::hadamard, KvRotation::rotor,
                               KvRotation::haar,   KvRotation::iso,      KvRotation::iso_full,
                               KvRotation::planar, KvRotation::rotor3};

/// Straight from the definition of the sign stream, for one quartet.
std::vector<int> quartet_signs(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  z ^= z >> 31;
  std::vector<int> signs;
  for (int bit = 63; bit >= 60; --bit) signs.push_back(((z >> bit) & 1) != 0 ? -1 : 1);
  return signs;
}

}  // namespace

TEST_CASE("every rotation is orthogonal and undone by its inverse") {
  const nemo::Kernels& kernels = nemo::select_kernels("reference");
  for (const KvRotation rotation : kAll) {
    for (const auto& [dim, group] : {std::pair{128, 64}, std::pair{128, 128}, std::pair{64, 32},
                                     std::pair{32, 16}, std::pair{256, 64}}) {
      INFO(nemo::name_of(rotation) << " " << dim << "/" << group);
      const nemo::KvHeadTransform t(rotation, dim, group, 42, {1, 1, true});
      const auto m = matrix_of(kernels, t.view(), false);
      const auto inverse = matrix_of(kernels, t.view(), true);
      const auto n = static_cast<std::size_t>(dim);
      double worst = 0;
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < n; ++j) {
          double product = 0;
          for (std::size_t k = 0; k < n; ++k)
            product += double(m[i * n + k]) * double(m[j * n + k]);
          worst = std::max(worst, std::abs(product - (i == j ? 1.0 : 0.0)));
          worst = std::max(worst, std::abs(double(m[i * n + j]) - double(inverse[j * n + i])));
        }
      }
      CHECK(worst < 1e-6);
    }
  }
}

TEST_CASE("the rotor network mixes every channel of its group evenly and is exact in integers") {
  const nemo::Kernels& kernels = nemo::select_kernels("reference");
  for (const auto& [group, size] :
       {std::pair{16, 0.25f}, std::pair{64, 0.125f}, std::pair{32, std::sqrt(1 / 32.0f)},
        std::pair{128, std::sqrt(1 / 128.0f)}}) {
    const nemo::KvHeadTransform t(KvRotation::rotor, 128, group, 42, {0, 0, false});
    const auto m = matrix_of(kernels, t.view(), false);
    for (int i = 0; i < 128; ++i) {
      for (int j = 0; j < 128; ++j) {
        const float x = std::abs(m[static_cast<std::size_t>(i * 128 + j)]);
        if (i / group == j / group) {
          CHECK(x == Approx(size).epsilon(1e-7));
        } else {
          REQUIRE(x == 0.0f);
        }
      }
    }
    // Sums of integers below 2^24 are exact, so every bit is as the integer product has it.
    const auto large = matrix_of(kernels, t.view(), false, 65536.0f);
    for (std::size_t i = 0; i < m.size(); ++i) REQUIRE(large[i] == 65536.0f * m[i]);
  }
}

TEST_CASE("the signs of the first rotor stage are the documented hash") {
  const nemo::Kernels& kernels = nemo::select_kernels("reference");
  const nemo::KvHeadId id{3, 1, true};
  // 16 channels per group: two stages. Undo the second stage by hand: its output for e_0 is
  // +-1/4 everywhere, so compare the first column through the known quaternions instead.
  const std::uint64_t base = 42ULL ^ 3ULL << 40 ^ 1ULL << 32 ^ 1ULL << 31;
  const nemo::KvHeadTransform t(KvRotation::rotor, 16, 16, 42, id);
  const auto m = matrix_of(kernels, t.view(), false);
  // First stage on e_0: quartet 0 becomes q0/2 = (w, x, y, z)/2 in channels 0..3. Second stage,
  // stride 4: quartet j holds channels j, j+4, j+8, j+12 and sees only its first element.
  const auto first = quartet_signs(base);
  for (int j = 0; j < 4; ++j) {
    const auto second = quartet_signs(base ^ 1ULL << 16 ^ static_cast<std::uint64_t>(j));
    for (int k = 0; k < 4; ++k) {
      const int expected = first[std::size_t(j)] * second[std::size_t(k)];
      CHECK(m[static_cast<std::size_t>((j + 4 * k) * 16)] == 0.25f * static_cast<float>(expected));
    }
  }
}

TEST_CASE("rotation gives the same bits on every instruction set and for any number of rows") {
  for (const KvRotation rotation : kAll) {
    const nemo::KvHeadTransform t(rotation, 128, 64, 42, {0, 1, false});
    std::vector<float> rows(37 * 130);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i] = std::sin(static_cast<float>(i) * 0.7f) * static_cast<float>(1 + i % 9);
    }
    auto expected = rows;
    nemo::select_kernels("reference").kv->rotate(t.view(), false, expected.data(), 130, 37);
    for (const nemo::Kernels* kernels : nemo::available_kernels()) {
      INFO(kernels->name << " " << nemo::name_of(rotation));
      auto whole = rows;
      kernels->kv->rotate(t.view(), false, whole.data(), 130, 37);
      CHECK(whole == expected);
      auto single = rows;
      for (int r = 0; r < 37; ++r)
        kernels->kv->rotate(t.view(), false, &single[std::size_t(r) * 130], 130, 1);
      CHECK(single == expected);
    }
  }
}
