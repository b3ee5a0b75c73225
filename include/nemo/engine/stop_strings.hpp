// Finds stop strings in streamed text without ever letting out a part of one. The text ends at the
// first byte where any stop string is complete, cut before the longest stop string that ends there;
// so the result does not depend on how the text was split into pieces. One Knuth-Morris-Pratt state
// per stop string tells how much of the text's end could still become it; that much is held back.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

class StopStrings {
 public:
  /// Throws Error{usage} for a stop string that is empty or not UTF-8.
  explicit StopStrings(const std::vector<std::string>& stops = {});

  /// Takes more text; returns what became certain. With pieces that end at character boundaries the
  /// returned text ends at one too. After stopped() everything is ignored.
  [[nodiscard]] std::string push(std::string_view piece);

  /// What is still held back, once the text is known to end here without a stop string.
  [[nodiscard]] std::string flush();

  /// Whether a stop string was found.
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  struct Pattern {
    std::string text;
    std::vector<std::size_t> fallback;  // [size + 1]: longest proper border of each prefix
    std::size_t matched = 0;            // bytes of text that the stream's end now spells
  };

  std::vector<Pattern> patterns_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace nemo
