// Leftmost-longest search by walking down a sorted list: the tokens that share the first d bytes
// with the text form an interval, narrowed byte by byte until it is empty.
#include <nemo/text/added_tokens.hpp>
#include <nemo/text/utf8.hpp>

#include <algorithm>
#include <array>

namespace nemo::text {

namespace {

bool is_white_space(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

/// Where the character that ends at `end` > 0 of valid UTF-8 begins.
std::size_t previous_char(std::string_view text, std::size_t end) {
  do --end;
  while (end > 0 && (static_cast<std::uint8_t>(text[end]) & 0xc0u) == 0x80u);
  return end;
}

std::size_t skip_spaces_back(std::string_view text, std::size_t begin, std::size_t limit) {
  while (begin > limit) {
    const std::size_t previous = previous_char(text, begin);
    if (previous < limit || !is_white_space(utf8_step(text.substr(previous)).code_point)) break;
    begin = previous;
  }
  return begin;
}

std::size_t skip_spaces(std::string_view text, std::size_t at, std::size_t limit) {
  while (at < limit) {
    const Utf8Step step = utf8_step(text.substr(at));
    if (!is_white_space(step.code_point)) break;
    at += step.bytes;
  }
  return at;
}

/// Walks over the ranges' trust along the bytes of a text.
class TrustCursor {
 public:
  TrustCursor(std::span<const TrustRange> ranges, std::size_t at) : ranges_(ranges) { move_to(at); }

  /// `at` must not decrease.
  void move_to(std::size_t at) {
    while (index_ < ranges_.size() && ranges_[index_].end <= at) ++index_;
  }
  [[nodiscard]] Trust trust() const {
    return index_ < ranges_.size() ? ranges_[index_].trust : Trust::none;
  }
  [[nodiscard]] std::size_t range_end() const { return ranges_[index_].end; }

 private:
  std::span<const TrustRange> ranges_;
  std::size_t index_ = 0;
};

/// The longest entry that `text` has at `at`, before `end`, on bytes trusted enough; or null.
template <class Entries>
auto longest_match(const Entries& entries, std::string_view text, std::size_t at, std::size_t end,
                   TrustCursor cursor) {
  auto low = entries.begin();
  auto high = entries.end();
  decltype(entries.data()) best = nullptr;
  Trust weakest = cursor.trust();
  for (std::size_t depth = 0; low != high && weakest != Trust::none; ++depth) {
    // Entries of exactly `depth` bytes come first in the interval.
    for (; low != high && low->token.content.size() == depth; ++low) {
      const bool longer = best == nullptr || best->token.content.size() < depth;
      if (longer && weakest >= low->needed) best = &*low;
    }
    if (at + depth == end) break;
    cursor.move_to(at + depth);
    weakest = std::min(weakest, cursor.trust());
    const auto byte = static_cast<std::uint8_t>(text[at + depth]);
    const auto at_depth = [depth](const auto& entry) {
      return static_cast<std::uint8_t>(entry.token.content[depth]);
    };
    low = std::partition_point(low, high, [&](const auto& e) { return at_depth(e) < byte; });
    high = std::partition_point(low, high, [&](const auto& e) { return at_depth(e) == byte; });
  }
  return best;
}

}  // namespace

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) {
    // Broken UTF-8 cannot occur in the text, and must not match in the middle of a character.
    if (token.content.empty() || find_invalid_utf8(token.content) != std::string::npos) continue;
    const Trust needed = token.in_plain_text ? Trust::plain_text : Trust::all;
    (token.normalized ? second_ : first_).push_back({token, needed});
    if (token.single_word && !word_) word_.emplace("\\A\\w");
  }
  for (Sorted* list : {&first_, &second_}) {
    std::stable_sort(list->begin(), list->end(), [](const Entry& a, const Entry& b) {
      return a.token.content < b.token.content;
    });
  }
}

bool AddedTokens::stands_alone(std::string_view text, std::size_t begin, std::size_t end) const {
  RegexScan scan(*word_);
  const auto word_at = [&](std::size_t at) {
    return scan.find(text.substr(at, utf8_step(text.substr(at)).bytes), 0).has_value();
  };
  return (begin == 0 || !word_at(previous_char(text, begin))) &&
         (end == text.size() || !word_at(end));
}

void AddedTokens::find_in(const Sorted& entries, std::string_view text, Fragment within,
                          std::span<const TrustRange> ranges, std::vector<Fragment>& out) const {
  std::array<bool, 256> starts{};
  for (const Entry& e : entries) starts[static_cast<std::uint8_t>(e.token.content[0])] = true;

  TrustCursor cursor(ranges, within.begin);
  std::size_t done = within.begin;  // all before is in `out`
  std::size_t at = within.begin;
  while (at < within.end) {
    cursor.move_to(at);
    if (cursor.trust() == Trust::none) {
      at = cursor.range_end();
      continue;
    }
    const Entry* found = nullptr;
    if (starts[static_cast<std::uint8_t>(text[at])]) {
      found = longest_match(entries, text, at, within.end, cursor);
    }
    if (found == nullptr) {
      ++at;
      continue;
    }
    const AddedToken& token = found->token;
    std::size_t begin = at;
    std::size_t end = at + token.content.size();
    at = end;
    if (token.single_word) {
      const std::string_view sentence = text.substr(within.begin, within.end - within.begin);
      if (!stands_alone(sentence, begin - within.begin, end - within.begin)) continue;
    }
    if (token.lstrip) begin = skip_spaces_back(text, begin, done);
    if (token.rstrip) end = skip_spaces(text, end, within.end);
    if (begin > done) out.push_back({done, begin, -1});
    out.push_back({begin, end, token.id});
    done = end;
    at = end;
  }
  if (done < within.end) out.push_back({done, within.end, -1});
}

std::vector<Fragment> AddedTokens::find(std::string_view text,
                                        std::span<const TrustRange> ranges) const {
  std::vector<Fragment> found;
  find_in(first_, text, {0, text.size(), -1}, ranges, found);
  if (second_.empty()) return found;
  std::vector<Fragment> both;
  for (const Fragment& fragment : found) {
    if (fragment.id >= 0) {
      both.push_back(fragment);
    } else {
      find_in(second_, text, fragment, ranges, both);
    }
  }
  return both;
}

}  // namespace nemo::text
