// Layout of the generated Unicode tables.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace nemo::text {

inline constexpr std::size_t kPropertyRanges = 3400;
inline constexpr std::size_t kUpperRuns = 195;
inline constexpr std::size_t kUpperSpecials = 102;
inline constexpr std::size_t kLowerRuns = 182;
inline constexpr std::size_t kLowerSpecials = 1;
inline constexpr std::size_t kTitleRuns = 197;
inline constexpr std::size_t kTitleSpecials = 48;

/// Code points first, first + stride, ... (`count` of them) map to themselves + delta.
struct CaseRun {
  std::uint32_t first;
  std::uint16_t count;
  std::uint16_t stride;
  std::int32_t delta;
};

/// A code point that maps to several characters.
struct CaseSpecial {
  std::uint32_t code_point;
  const char* text;  // UTF-8
};

// Each entry: first code point of a range << 8 | properties of all code points up to the next
// entry.
extern const std::array<std::uint32_t, kPropertyRanges> kProperties;
extern const std::array<CaseRun, kUpperRuns> kUpper;
extern const std::array<CaseRun, kLowerRuns> kLower;
extern const std::array<CaseRun, kTitleRuns> kTitle;
extern const std::array<CaseSpecial, kUpperSpecials> kUpperSpecial;
extern const std::array<CaseSpecial, kLowerSpecials> kLowerSpecial;
extern const std::array<CaseSpecial, kTitleSpecials> kTitleSpecial;

}  // namespace nemo::text
