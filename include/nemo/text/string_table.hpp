// A read-mostly map from byte strings to ids: all bytes in one arena, open addressing with linear
// probing at most half full, so that a vocabulary of 131,072 entries is two or three allocations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::text {

/// Strings numbered from 0 in the order they were added; any of them may be made findable.
class StringTable {
 public:
  /// Reserves room for about `strings` strings of `bytes` bytes altogether.
  StringTable(std::size_t strings, std::size_t bytes);

  /// Stores `text` and returns its number; `findable` ones are found by find(). When two are
  /// equal the first is found.
  std::int32_t add(std::string_view text, bool findable);

  /// Number of the findable string equal to `text`, or -1.
  [[nodiscard]] std::int32_t find(std::string_view text) const noexcept;

  /// The string with number `index` < size().
  [[nodiscard]] std::string_view operator[](std::size_t index) const noexcept {
    return std::string_view(arena_).substr(starts_[index], starts_[index + 1] - starts_[index]);
  }
  [[nodiscard]] std::size_t size() const noexcept { return starts_.size() - 1; }
  [[nodiscard]] std::size_t longest_findable() const noexcept { return longest_findable_; }

 private:
  struct Slot {
    std::uint32_t hash = 0;  // compared before the bytes, which are rarely in the cache
    std::int32_t index = -1;
  };
  static std::uint64_t hash(std::string_view text) noexcept;
  void insert(Slot slot) noexcept;
  void grow();

  std::string arena_;
  std::vector<std::size_t> starts_;  // size() + 1 offsets into arena_
  std::vector<Slot> slots_;          // a power of two
  std::size_t findable_ = 0;
  std::size_t longest_findable_ = 0;
};

}  // namespace nemo::text
