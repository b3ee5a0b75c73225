// Python's str methods on strings with origins.
#pragma once

#include "src/text/jinja_operations.hpp"

#include <optional>
#include <vector>

namespace nemo::text::jinja {

enum class Side : std::uint8_t { both, left, right };

/// text.strip(chars): white space when `chars` is null.
[[nodiscard]] TextPtr strip_text(Interpreter& in, const TextPtr& text, const TextPtr& chars,
                                 Side side);

/// text.replace(old, with, count), all if count < 0. The new text is at best as trusted as the old
/// one it stands for, so that a detour through a placeholder cannot launder a tag somebody typed.
[[nodiscard]] TextPtr replace_text(Interpreter& in, const TextPtr& text, const TextPtr& old,
                                   const TextPtr& with, Int count);

/// text.split(separator, most): at runs of white space when `separator` is null.
[[nodiscard]] std::vector<Value> split_text(Interpreter& in, const TextPtr& text,
                                            const TextPtr& separator, Int most);
[[nodiscard]] std::vector<Value> rsplit_text(Interpreter& in, const TextPtr& text,
                                             const TextPtr& separator, Int most);
[[nodiscard]] std::vector<Value> split_lines(Interpreter& in, const TextPtr& text, bool keep_ends);

/// separator.join(parts).
[[nodiscard]] TextPtr join_parts(Interpreter& in, const TextPtr& separator,
                                 const std::vector<TextPtr>& parts);

/// What happens to the letters of a text.
enum class LetterCase : std::uint8_t {
  lower,
  upper,
  swap,
  capitalize,   // the first character in title case, the others small
  title,        // str.title(): the first letter after anything that is no letter
  title_words,  // jinja2's filter: the first character after white space or one of -({[<
};
[[nodiscard]] TextPtr change_case(Interpreter& in, const TextPtr& text, LetterCase letter_case);

/// text.center / ljust / rjust: `side` is the side that is filled up.
[[nodiscard]] TextPtr pad_text(Interpreter& in, const TextPtr& text, Int width, const TextPtr& fill,
                               Side side);

/// The characters before byte `offset`.
[[nodiscard]] std::size_t character_index(const Text& text, std::size_t offset);

}  // namespace nemo::text::jinja
