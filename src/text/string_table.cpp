// Open addressing over an arena; the hash multiplies eight bytes at a time.
#include <nemo/text/string_table.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

namespace nemo::text {

StringTable::StringTable(std::size_t strings, std::size_t bytes)
    : slots_(std::bit_ceil(std::max<std::size_t>(16, 2 * strings))) {
  arena_.reserve(bytes);
  starts_.reserve(strings + 1);
  starts_.push_back(0);
}

std::uint64_t StringTable::hash(std::string_view text) noexcept {
  constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio
  std::uint64_t h = text.size() * kMultiplier;
  while (!text.empty()) {
    std::uint64_t word = 0;
    const std::size_t n = std::min<std::size_t>(8, text.size());
    std::memcpy(&word, text.data(), n);
    h = (h ^ word) * kMultiplier;
    h ^= h >> 32;
    text.remove_prefix(n);
  }
  return h;
}

void StringTable::insert(Slot slot) noexcept {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = slot.hash & mask;
  while (slots_[at].index >= 0) at = (at + 1) & mask;
  slots_[at] = slot;
}

void StringTable::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.index >= 0) insert(slot);
  }
}

std::int32_t StringTable::add(std::string_view text, bool findable) {
  const auto index = static_cast<std::int32_t>(size());
  if (findable && find(text) < 0) {
    if (2 * ++findable_ > slots_.size()) grow();
    insert({static_cast<std::uint32_t>(hash(text)), index});
    longest_findable_ = std::max(longest_findable_, text.size());
  }
  arena_.append(text);
  starts_.push_back(arena_.size());
  return index;
}

std::int32_t StringTable::find(std::string_view text) const noexcept {
  const auto h = static_cast<std::uint32_t>(hash(text));
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = h & mask; slots_[at].index >= 0; at = (at + 1) & mask) {
    if (slots_[at].hash == h && (*this)[static_cast<std::size_t>(slots_[at].index)] == text) {
      return slots_[at].index;
    }
  }
  return -1;
}

}  // namespace nemo::text
