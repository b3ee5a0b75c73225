// Building rotations from seeds.
#include <nemo/cache/kv_transform.hpp>

#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace nemo {
namespace {

/// SplitMix64: the i-th output is a hash of seed + i * gamma.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  /// In (0, 1).
  double uniform() noexcept { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }
  double normal() noexcept {
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }
  double angle() noexcept { return 2.0 * std::numbers::pi * uniform(); }

 private:
  std::uint64_t state_;
};

/// The counter of one quartet (or pair, or triple) of one stage.
SplitMix64 stream(std::uint64_t seed, const KvHeadId& id, std::int64_t group, std::int64_t stage,
                  std::int64_t block) noexcept {
  const auto u = [](std::int64_t x) { return static_cast<std::uint64_t>(x); };
  return SplitMix64(seed ^ u(id.layer) << 40 ^ u(id.head) << 32 ^ std::uint64_t{id.values} << 31 ^
                    u(group) << 24 ^ u(stage) << 16 ^ u(block));
}

/// Signs from the top bits, first sign from the highest; bit 1 is negative.
float sign_of(std::uint64_t bits, int index) noexcept {
  return (bits >> (63 - index) & 1u) != 0 ? -1.0f : 1.0f;
}

using Quaternion = std::array<double, 4>;  // w, x, y, z

Quaternion product(const Quaternion& p, const Quaternion& q) noexcept {
  return {p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3],
          p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2],
          p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1],
          p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0]};
}
Quaternion conjugate(const Quaternion& q) noexcept { return {q[0], -q[1], -q[2], -q[3]}; }

Quaternion random_unit(SplitMix64& random) noexcept {
  Quaternion q;
  double norm2 = 0;
  for (double& x : q) {
    x = random.normal();
    norm2 += x * x;
  }
  for (double& x : q) x /= std::sqrt(norm2);
  return q;
}

/// Appends the matrix of v <- p v q.
void append_4x4(const Quaternion& p, const Quaternion& q, std::vector<float>& values) {
  std::array<Quaternion, 4> columns;
  for (std::size_t k = 0; k < 4; ++k) {
    Quaternion unit{};
    unit[k] = 1.0;
    columns[k] = product(product(p, unit), q);
  }
  for (std::size_t r = 0; r < 4; ++r) {
    for (const Quaternion& column : columns) values.push_back(static_cast<float>(column[r]));
  }
}

void append_givens(double angle, std::vector<float>& values) {
  const auto c = static_cast<float>(std::cos(angle)), s = static_cast<float>(std::sin(angle));
  values.insert(values.end(), {c, -s, s, c});
}

/// Appends the rotation by `angle` around a random axis: v -> r v r* with r of Cl(3,0).
void append_3x3(SplitMix64& random, std::vector<float>& values) {
  Quaternion axis{0, random.normal(), random.normal(), random.normal()};
  const double norm = std::hypot(axis[1], axis[2], axis[3]);
  const double half = random.angle() / 2;
  const Quaternion r{std::cos(half), std::sin(half) * axis[1] / norm,
                     std::sin(half) * axis[2] / norm, std::sin(half) * axis[3] / norm};
  std::array<Quaternion, 3> columns;
  for (std::size_t k = 0; k < 3; ++k) {
    Quaternion unit{};
    unit[k + 1] = 1.0;
    columns[k] = product(product(r, unit), conjugate(r));
  }
  for (std::size_t row = 1; row < 4; ++row) {
    for (const Quaternion& column : columns) values.push_back(static_cast<float>(column[row]));
  }
}

/// Channels base + i, base + i + stride, ... of block number `block` within a group.
void append_block(std::int64_t first, std::int64_t block, std::int64_t order, std::int64_t stride,
                  std::vector<std::int16_t>& index) {
  const std::int64_t base = first + block / stride * order * stride + block % stride;
  for (std::int64_t k = 0; k < order; ++k) {
    index.push_back(static_cast<std::int16_t>(base + k * stride));
  }
}

}  // namespace

void KvHeadTransform::add(KvStage::Kind kind, std::int64_t order, Stage stage) {
  numbers_.push_back(std::move(stage));
  const Stage& s = numbers_.back();
  const bool blocks = kind == KvStage::Kind::rotor || kind == KvStage::Kind::matrix;
  stages_.push_back(
      {kind, static_cast<std::int32_t>(order),
       blocks ? static_cast<std::int32_t>(s.index.size()) / static_cast<std::int32_t>(order) : 0,
       s.index.data(), s.values.data()});
}

KvHeadTransform KvHeadTransform::hadamard_with_signs(const std::vector<float>& signs) {
  KvHeadTransform t(static_cast<std::int64_t>(signs.size()));
  t.add(KvStage::Kind::signs, 1, {{}, signs});
  t.add(KvStage::Kind::hadamard, t.dim_, {});
  t.factor_ = static_cast<float>(1.0 / std::sqrt(static_cast<double>(t.dim_)));
  return t;
}

KvHeadTransform::KvHeadTransform(KvRotation rotation, std::int64_t dim, std::int64_t group,
                                 std::uint64_t seed, const KvHeadId& id)
    : KvHeadTransform(dim) {
  if (rotation == KvRotation::none) return;
  if (rotation == KvRotation::hadamard) {
    std::vector<float> signs;
    for (std::int64_t c = 0; c < dim; ++c) {
      signs.push_back(sign_of(stream(seed, id, 0, 0, c / 4).next(), static_cast<int>(c % 4)));
    }
    *this = hadamard_with_signs(signs);
    return;
  }
  const std::int64_t groups = dim / group;
  const bool network = rotation == KvRotation::rotor || rotation == KvRotation::haar;
  std::int64_t stage = 0;
  if (network || rotation == KvRotation::iso || rotation == KvRotation::iso_full) {
    for (std::int64_t stride = 1; 4 * stride <= group; stride *= 4, ++stage) {
      Stage s;
      for (std::int64_t g = 0; g < groups; ++g) {
        for (std::int64_t block = 0; block < group / 4; ++block) {
          append_block(g * group, block, 4, stride, s.index);
          SplitMix64 random = stream(seed, id, g, stage, block);
          if (rotation == KvRotation::rotor) {
            const std::uint64_t bits = random.next();
            for (int k = 0; k < 4; ++k) s.values.push_back(sign_of(bits, k));
          } else {
            const Quaternion left = random_unit(random);
            const Quaternion right = rotation == KvRotation::iso_full
                                         ? conjugate(random_unit(random))
                                         : Quaternion{1, 0, 0, 0};
            append_4x4(left, right, s.values);
          }
        }
      }
      if (rotation == KvRotation::rotor) {
        add(KvStage::Kind::rotor, 4, std::move(s));
        factor_ *= 0.5f;
      } else {
        add(KvStage::Kind::matrix, 4, std::move(s));
      }
      if (!network) return;
    }
    std::int64_t mixed = 1;  // channels that the stages so far have mixed
    for (std::int64_t i = 0; i < stage; ++i) mixed *= 4;
    if (mixed == group) return;
    Stage s;
    for (std::int64_t g = 0; g < groups; ++g) {
      for (std::int64_t block = 0; block < group / 2; ++block) {
        append_block(g * group, block, 2, group / 2, s.index);
        SplitMix64 random = stream(seed, id, g, stage, block);
        if (rotation == KvRotation::rotor) {
          const std::uint64_t bits = random.next();
          const float a = sign_of(bits, 0), b = sign_of(bits, 1);
          s.values.insert(s.values.end(), {a, -b, b, a});
        } else {
          append_givens(random.angle(), s.values);
        }
      }
    }
    add(KvStage::Kind::matrix, 2, std::move(s));
    if (rotation == KvRotation::rotor) {
      factor_ = static_cast<float>(static_cast<double>(factor_) * std::numbers::sqrt2 / 2);
    }
    return;
  }
  // The remaining presets turn pairs or triples of neighbours once.
  const std::int64_t order = rotation == KvRotation::planar ? 2 : 3;
  Stage s;
  Stage rest;  // two channels left over by triples turn as a pair, one stays
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t block = 0; block < group / order; ++block) {
      append_block(g * group, block, order, 1, s.index);
      SplitMix64 random = stream(seed, id, g, 0, block);
      if (order == 2) {
        append_givens(random.angle(), s.values);
      } else {
        append_3x3(random, s.values);
      }
    }
    if (group % order == 2) {
      append_block(g * group + group - 2, 0, 2, 1, rest.index);
      append_givens(stream(seed, id, g, 1, 0).angle(), rest.values);
    }
  }
  add(KvStage::Kind::matrix, order, std::move(s));
  if (!rest.index.empty()) add(KvStage::Kind::matrix, 2, std::move(rest));
}

}  // namespace nemo
