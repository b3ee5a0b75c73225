// Python's str methods on strings with origins.
#include "src/text/jinja_text_operations.hpp"

#include "src/text/python_unicode.hpp"

#include <algorithm>
#include <limits>

namespace nemo::text::jinja {
namespace {

constexpr std::size_t npos = std::string_view::npos;

bool is_cased(char32_t c) { return is_upper(c) || is_lower(c) || is_title(c); }

bool starts_word_in_title_filter(char32_t c) {
  return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

// Which mapping the character gets, given what came before it.
class CaseChooser {
 public:
  explicit CaseChooser(LetterCase letter_case) : letter_case_(letter_case) {}

  CaseMapping next(char32_t c) {
    const bool first = std::exchange(first_, false);
    const bool after_start = std::exchange(after_start_, starts_word_in_title_filter(c));
    const bool after_cased = std::exchange(after_cased_, is_cased(c));
    switch (letter_case_) {
      case LetterCase::lower:
        return CaseMapping::lower;
      case LetterCase::upper:
        return CaseMapping::upper;
      case LetterCase::swap:
        return is_upper(c) ? CaseMapping::lower : CaseMapping::upper;
      case LetterCase::capitalize:
        return first ? CaseMapping::title : CaseMapping::lower;
      case LetterCase::title:
        return after_cased ? CaseMapping::lower : CaseMapping::title;
      default:
        return after_start ? CaseMapping::upper : CaseMapping::lower;
    }
  }

 private:
  LetterCase letter_case_;
  bool first_ = true;
  bool after_start_ = true;
  bool after_cased_ = false;
};

Value piece(Interpreter& in, const TextPtr& text, std::size_t begin, std::size_t end) {
  in.budget().step();
  return slice_text(in.budget(), text, begin, end);
}

std::size_t skip_space(std::string_view view, std::size_t at) {
  while (at < view.size()) {
    const Character c = character_at(view, at);
    if (!is_space(c.code_point)) break;
    at += c.bytes;
  }
  return at;
}

std::size_t skip_space_back(std::string_view view, std::size_t end) {
  while (end > 0) {
    const Character c = character_before(view, end);
    if (!is_space(c.code_point)) break;
    end -= c.bytes;
  }
  return end;
}

void require_separator(const TextPtr& separator) {
  if (separator != nullptr && separator->size() == 0) throw Failure("empty separator");
}

Int limit_of(Int most) { return most < 0 ? std::numeric_limits<Int>::max() : most; }

}  // namespace

std::size_t character_index(const Text& text, std::size_t offset) {
  return text.ascii() ? offset : count_characters(text.view().substr(0, offset));
}

TextPtr strip_text(Interpreter& in, const TextPtr& text, const TextPtr& chars, Side side) {
  in.budget().touch(text->size());
  const std::string_view view = text->view();
  const auto stripped = [&](std::size_t at, std::size_t bytes, char32_t code_point) {
    if (chars == nullptr) return is_space(code_point);
    return find_text(chars->view(), view.substr(at, bytes), 0) != npos;
  };
  std::size_t begin = 0;
  std::size_t end = view.size();
  while (side != Side::right && begin < end) {
    const Character c = character_at(view, begin);
    if (!stripped(begin, c.bytes, c.code_point)) break;
    begin += c.bytes;
    if (chars != nullptr) in.budget().touch(chars->size());
  }
  while (side != Side::left && end > begin) {
    const Character c = character_before(view, end);
    if (!stripped(end - c.bytes, c.bytes, c.code_point)) break;
    end -= c.bytes;
    if (chars != nullptr) in.budget().touch(chars->size());
  }
  return slice_text(in.budget(), text, begin, end);
}

TextPtr replace_text(Interpreter& in, const TextPtr& text, const TextPtr& old, const TextPtr& with,
                     Int count) {
  TextBuilder out(in.budget());
  const std::string_view view = text->view();
  Int left = limit_of(count);
  std::size_t begin = 0;
  if (old->size() == 0) {
    for (; left > 0; --left) {
      out.append(*with);
      if (begin == view.size()) break;
      const std::size_t end = begin + character_at(view, begin).bytes;
      out.append(*text, begin, end);
      begin = end;
    }
  }
  while (old->size() > 0 && left-- > 0) {
    const std::size_t found = find_text(view, old->view(), begin);
    if (found == npos) break;
    out.append(*text, begin, found);
    begin = found + old->size();
    out.append_demoted(*with, text->worst_origin(found, begin));
    in.budget().step();
  }
  in.budget().touch(view.size());
  out.append(*text, begin, view.size());
  return out.finish(text->markup());
}

std::vector<Value> split_text(Interpreter& in, const TextPtr& text, const TextPtr& separator,
                              Int most) {
  require_separator(separator);
  in.budget().touch(text->size());
  const std::string_view view = text->view();
  std::vector<Value> pieces;
  Int left = limit_of(most);
  std::size_t begin = separator == nullptr ? skip_space(view, 0) : 0;
  while (left-- > 0) {
    if (separator == nullptr) {
      std::size_t end = begin;
      while (end < view.size() && !is_space(character_at(view, end).code_point)) {
        end += character_at(view, end).bytes;
      }
      if (end == begin) return pieces;
      pieces.push_back(piece(in, text, begin, end));
      begin = skip_space(view, end);
    } else {
      const std::size_t found = find_text(view, separator->view(), begin);
      if (found == npos) break;
      pieces.push_back(piece(in, text, begin, found));
      begin = found + separator->size();
    }
  }
  if (separator != nullptr || begin < view.size()) {
    pieces.push_back(piece(in, text, begin, view.size()));
  }
  return pieces;
}

std::vector<Value> rsplit_text(Interpreter& in, const TextPtr& text, const TextPtr& separator,
                               Int most) {
  require_separator(separator);
  const std::string_view view = text->view();
  std::vector<Value> pieces;
  Int left = limit_of(most);
  std::size_t end = separator == nullptr ? skip_space_back(view, view.size()) : view.size();
  while (left-- > 0) {
    if (separator == nullptr) {
      std::size_t begin = end;
      while (begin > 0 && !is_space(character_before(view, begin).code_point)) {
        begin -= character_before(view, begin).bytes;
      }
      if (begin == end) break;
      pieces.push_back(piece(in, text, begin, end));
      end = skip_space_back(view, begin);
    } else {
      in.budget().touch(separator->size() > 16 ? end : 1);  // a long one is searched from the front
      const std::size_t found = rfind_text(view, separator->view(), end);
      if (found == npos) break;
      pieces.push_back(piece(in, text, found + separator->size(), end));
      end = found;
    }
  }
  in.budget().touch(text->size());
  if (separator != nullptr || end > 0) pieces.push_back(piece(in, text, 0, end));
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<Value> split_lines(Interpreter& in, const TextPtr& text, bool keep_ends) {
  in.budget().touch(text->size());
  const std::string_view view = text->view();
  std::vector<Value> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < view.size();) {
    const std::size_t line_break = line_break_at(view, i);
    if (line_break == 0) {
      i += character_at(view, i).bytes;
      continue;
    }
    lines.push_back(piece(in, text, begin, keep_ends ? i + line_break : i));
    i += line_break;
    begin = i;
  }
  if (begin < view.size()) lines.push_back(piece(in, text, begin, view.size()));
  return lines;
}

TextPtr join_parts(Interpreter& in, const TextPtr& separator, const std::vector<TextPtr>& parts) {
  const bool markup = separator->markup();
  TextBuilder out(in.budget());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    in.budget().step();
    if (i > 0) out.append(*separator);
    out.append(markup ? *escape_html(in, parts[i]) : *parts[i]);
  }
  return out.finish(markup);
}

TextPtr change_case(Interpreter& in, const TextPtr& text, LetterCase letter_case) {
  TextBuilder out(in.budget());
  const std::string_view view = text->view();
  CaseChooser chooser(letter_case);
  std::string mapped;
  std::size_t begin = 0;
  for (const Run& run : text->runs()) {
    mapped.clear();
    // A character that two runs share (only broken UTF-8 can) belongs to the later one.
    while (begin < run.end) {
      const Character c = character_at(view, begin);
      if (begin + c.bytes > run.end) break;
      append_case(mapped, view, begin, chooser.next(c.code_point));
      begin += c.bytes;
    }
    out.append(mapped, run.origin);
  }
  return out.finish(text->markup());
}

TextPtr pad_text(Interpreter& in, const TextPtr& text, Int width, const TextPtr& fill, Side side) {
  if (fill->characters() != 1) throw Failure("the fill character must be exactly one character");
  const auto length = static_cast<Int>(text->characters());
  if (width <= length) return text;
  const Int missing = width - length;
  in.budget().check_text(static_cast<std::size_t>(std::min(missing, Int{1} << 40)));
  // Python's center puts the odd character to the left only if the width is odd.
  const Int left = side == Side::left    ? missing
                   : side == Side::right ? 0
                                         : missing / 2 + (missing & width & 1);
  TextBuilder out(in.budget());
  for (Int i = 0; i < left; ++i) out.append(*fill);
  out.append(*text);
  for (Int i = left; i < missing; ++i) out.append(*fill);
  return out.finish(text->markup());
}

}  // namespace nemo::text::jinja
