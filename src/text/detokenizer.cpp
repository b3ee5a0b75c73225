// Streaming UTF-8 repair and its use for tokens.
#include <nemo/text/detokenizer.hpp>
#include <nemo/text/utf8.hpp>

#include <utility>

namespace nemo::text {

namespace {

/// Two of the three bytes of a surrogate, which is broken in any case; Python's incremental
/// decoder, the measure for streaming, decides on all three at once.
bool cut_surrogate(std::string_view tail) {
  return tail.size() == 2 && tail[0] == '\xed' && static_cast<std::uint8_t>(tail[1]) >= 0xa0 &&
         static_cast<std::uint8_t>(tail[1]) <= 0xbf;
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  pending_.append(bytes);
  // Only the last three bytes can be the start of a character that is still to come.
  std::size_t certain = pending_.size();
  for (std::size_t back = 1; back <= 3 && back <= pending_.size(); ++back) {
    const std::string_view tail = std::string_view(pending_).substr(pending_.size() - back);
    if (utf8_step(tail).kind == Utf8Step::Kind::incomplete || cut_surrogate(tail)) {
      certain = pending_.size() - back;
    }
  }
  std::string out = replace_invalid_utf8(std::string_view(pending_).substr(0, certain));
  pending_.erase(0, certain);
  return out;
}

std::string Utf8Stream::flush() { return replace_invalid_utf8(std::exchange(pending_, {})); }

std::string StreamDecoder::push(std::int32_t id) {
  if (!tokenizer_.contains(id) || !tokenizer_.is_shown(id, special_)) return {};
  return bytes_.push(tokenizer_.token_bytes(id));
}

}  // namespace nemo::text
