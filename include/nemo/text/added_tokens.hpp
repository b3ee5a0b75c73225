// Finding a format's own tokens (<|im_start|>, <think>, ...) in text, but only where the text is
// trusted to contain them: what a user typed stays text.
#pragma once

#include <nemo/text/regex.hpp>
#include <nemo/text/tokenizer_data.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace nemo::text {

/// Which added tokens are recognised; each level includes those above it.
enum class Trust : std::uint8_t {
  none,        // none at all
  plain_text,  // those that count as plain text (AddedToken::in_plain_text)
  all,
};

/// The bytes [end of the range before, end) of a text are trusted this much.
struct TrustRange {
  std::size_t end = 0;
  Trust trust = Trust::none;
};

/// A stretch of text, or an added token standing in its place.
struct Fragment {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::int32_t id = -1;  // -1: text
};

/// The added tokens of a tokenizer, ready to be searched for; immutable.
class AddedTokens {
 public:
  explicit AddedTokens(const std::vector<AddedToken>& tokens);

  /// Cuts valid UTF-8 `text` at the added tokens found in it: leftmost first, longest of those that
  /// start together, each wholly on bytes that are trusted enough, `normalized` ones only in what
  /// the others leave. `ranges` are in order and cover the text.
  [[nodiscard]] std::vector<Fragment> find(std::string_view text,
                                           std::span<const TrustRange> ranges) const;

 private:
  struct Entry {
    AddedToken token;
    Trust needed = Trust::all;
  };
  using Sorted = std::vector<Entry>;  // by content
  void find_in(const Sorted& entries, std::string_view text, Fragment within,
               std::span<const TrustRange> ranges, std::vector<Fragment>& out) const;
  [[nodiscard]] bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) const;

  Sorted first_;               // searched in the whole text
  Sorted second_;              // searched in the rest
  std::optional<Regex> word_;  // a word character at the front; only if single_word is used
};

}  // namespace nemo::text
