// The quantized KV cache policies as types: NemotronH<TurboCache<8, 3, 128>>.
//
// Each is PackedCache with one format for all layers; what no model could use does not compile.
#pragma once

#include <nemo/cache/packed_cache.hpp>

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

namespace nemo {
namespace detail {

/// "prefix:A,B<suffix>C" built at compile time; a negative number ends the text before it.
template <std::size_t kCapacity = 40>
class PolicyName {
 public:
  constexpr PolicyName& operator+=(std::string_view text) {
    for (const char c : text) chars_[size_++] = c;
    return *this;
  }
  constexpr PolicyName& operator+=(int number) {
    if (number >= 10) *this += number / 10;
    chars_[size_++] = static_cast<char>('0' + number % 10);
    return *this;
  }
  [[nodiscard]] constexpr std::string_view view() const { return {chars_.data(), size_}; }

 private:
  std::array<char, kCapacity> chars_{};
  std::size_t size_ = 0;
};

constexpr PolicyName<> turbo_name(int key_bits, int value_bits, int sink) {
  PolicyName<> name;
  ((((name += "turbo:") += key_bits) += ",") += value_bits) += ",sink=";
  name += sink;
  return name;
}

constexpr PolicyName<> group_name(std::string_view scheme, int bits, int group, int value_bits) {
  PolicyName<> name;
  (((name += scheme) += bits) += ",") += group;
  if (value_bits != bits) (name += ",v=") += value_bits;
  return name;
}

constexpr bool kv_bits(int bits) { return bits >= 2 && bits <= 8; }
constexpr bool kv_group(int group) {
  return group == 16 || group == 32 || group == 64 || group == 128;
}

}  // namespace detail

/// Randomized Hadamard over the head; `kbits` = 8 or `vbits` = 8: rotated int8. The first `sink`
/// tokens stay in half precision. For reasoning models: TurboCache<8, 4, 128>.
template <int kbits, int vbits, int sink = 128>
class TurboCache : public PackedCache {
  static_assert(detail::kv_bits(kbits) && detail::kv_bits(vbits),
                "TurboCache: keys and values have 2 to 8 bits");
  static_assert(sink >= 0 && sink <= 1 << 20, "TurboCache: sink is 0 to 1048576 tokens");
  static constexpr auto kNameText = detail::turbo_name(kbits, vbits, sink);

 public:
  static constexpr KvFormat kFormat = KvFormat::turbo(kbits, vbits, sink);
  static constexpr std::string_view kName = kNameText.view();
  explicit TurboCache(const KvShape& shape) : PackedCache(shape, kFormat) {}
  [[nodiscard]] TurboCache fork() const { return TurboCache(PackedCache::fork()); }

 private:
  explicit TurboCache(PackedCache&& other) : PackedCache(std::move(other)) {}
};

/// The rotor network over `group` channels, which also share a scale; 128 sink tokens.
template <int bits, int group = 64, int vbits = bits>
class RotorCache : public PackedCache {
  static_assert(detail::kv_bits(bits) && detail::kv_bits(vbits),
                "RotorCache: elements have 2 to 8 bits");
  static_assert(detail::kv_group(group),
                "RotorCache: group must be 16, 32, 64 or 128 and divide head_dim");
  static constexpr auto kNameText = detail::group_name("rotor:", bits, group, vbits);

 public:
  static constexpr KvFormat kFormat = KvFormat::rotor(bits, group, vbits);
  static constexpr std::string_view kName = kNameText.view();
  explicit RotorCache(const KvShape& shape) : PackedCache(shape, kFormat) {}
  [[nodiscard]] RotorCache fork() const { return RotorCache(PackedCache::fork()); }

 private:
  explicit RotorCache(PackedCache&& other) : PackedCache(std::move(other)) {}
};

/// mlx-lm's quantized cache: scale and bias per group, nothing rotated, no exact tokens.
template <int bits, int group = 64>
class AffineCache : public PackedCache {
  static_assert(detail::kv_bits(bits), "AffineCache: elements have 2 to 8 bits");
  static_assert(detail::kv_group(group),
                "AffineCache: group must be 16, 32, 64 or 128 and divide head_dim");
  static constexpr auto kNameText = detail::group_name("affine:", bits, group, bits);

 public:
  static constexpr KvFormat kFormat = KvFormat::affine(bits, group);
  static constexpr std::string_view kName = kNameText.view();
  explicit AffineCache(const KvShape& shape) : PackedCache(shape, kFormat) {}
  [[nodiscard]] AffineCache fork() const { return AffineCache(PackedCache::fork()); }

 private:
  explicit AffineCache(PackedCache&& other) : PackedCache(std::move(other)) {}
};

static_assert(KvCache<PackedCache> && KvCache<TurboCache<8, 4>> && KvCache<RotorCache<4>> &&
              KvCache<AffineCache<4>>);

}  // namespace nemo
