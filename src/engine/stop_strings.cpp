// Stop strings by Knuth-Morris-Pratt, a byte at a time: time is linear in the text.
#include <nemo/base/error.hpp>
#include <nemo/engine/stop_strings.hpp>
#include <nemo/text/utf8.hpp>

#include <algorithm>
#include <utility>

namespace nemo {
namespace {

std::vector<std::size_t> fallback_table(const std::string& text) {
  std::vector<std::size_t> fallback(text.size() + 1, 0);
  for (std::size_t end = 1, border = 0; end < text.size(); ++end) {
    while (border > 0 && text[end] != text[border]) border = fallback[border];
    if (text[end] == text[border]) ++border;
    fallback[end + 1] = border;
  }
  return fallback;
}

}  // namespace

StopStrings::StopStrings(const std::vector<std::string>& stops) {
  for (const auto& stop : stops) {
    if (stop.empty()) throw Error(ErrorCode::usage, "--stop must not be an empty string");
    if (text::find_invalid_utf8(stop) != std::string_view::npos)
      throw Error(ErrorCode::usage, "--stop must be valid UTF-8");
    patterns_.push_back({stop, fallback_table(stop), 0});
  }
}

std::string StopStrings::push(std::string_view piece) {
  if (stopped_) return {};
  if (patterns_.empty()) return std::string(piece);
  for (const char byte : piece) {
    held_ += byte;
    std::size_t found = 0;
    for (auto& pattern : patterns_) {
      auto& m = pattern.matched;
      if (m == pattern.text.size()) m = pattern.fallback[m];
      while (m > 0 && pattern.text[m] != byte) m = pattern.fallback[m];
      if (pattern.text[m] == byte) ++m;
      if (m == pattern.text.size()) found = std::max(found, m);
    }
    if (found > 0) {
      stopped_ = true;
      held_.resize(held_.size() - found);
      return std::exchange(held_, {});
    }
  }
  std::size_t open = 0;
  for (const auto& pattern : patterns_) open = std::max(open, pattern.matched);
  std::string certain = held_.substr(0, held_.size() - open);
  held_.erase(0, held_.size() - open);
  return certain;
}

std::string StopStrings::flush() { return std::exchange(held_, {}); }

}  // namespace nemo
