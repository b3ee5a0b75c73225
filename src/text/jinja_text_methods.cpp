// The methods of strings.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_objects.hpp"
#include "src/text/jinja_text_operations.hpp"
#include "src/text/python_unicode.hpp"

#include <algorithm>

namespace nemo::text::jinja {
namespace {

constexpr std::size_t npos = std::string_view::npos;

// Markup escapes the plain text it is given.
TextPtr adapted(Interpreter& in, const TextPtr& self, const TextPtr& argument) {
  return self->markup() ? escape_html(in, argument) : argument;
}

// A string argument that may be left out or none.
TextPtr optional_text(Interpreter& in, const TextPtr& self, const Parameters& parameters,
                      std::size_t index) {
  if (parameters.get(index).is_none()) return nullptr;
  return adapted(in, self, parameters.text(index));
}

// The bytes that optional arguments `start` and `end` (characters, as in slices) select; nothing
// when the start lies behind the end.
struct ByteRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};
std::optional<ByteRange> byte_range(const Text& text, const Parameters& parameters,
                                    std::size_t start_index) {
  const auto length = static_cast<Int>(text.characters());
  const auto bound = [&](std::size_t index, Int fallback) {
    if (parameters.get(index).is_none()) return fallback;
    const Int value = parameters.integer(index, 0);
    return value < 0 ? std::max(value < -length ? Int{0} : value + length, Int{0}) : value;
  };
  const Int start = bound(start_index, 0);
  const Int end = std::min(bound(start_index + 1, length), length);
  if (start > end) return std::nullopt;
  return ByteRange{text.offset_of(static_cast<std::size_t>(start)),
                   text.offset_of(static_cast<std::size_t>(end))};
}

template <Side side>
Value strip(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("strip", arguments, {"chars"});
  const TextPtr text = self.text();
  return strip_text(in, text, optional_text(in, text, parameters, 0), side);
}

template <LetterCase letter_case>
Value with_case(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters none("case method", arguments, {});
  return change_case(in, self.text(), letter_case);
}

template <bool from_right>
Value split(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("split", arguments, {"sep", "maxsplit"});
  const TextPtr separator = parameters.get(0).is_none() ? nullptr : parameters.text(0);
  const Int most = parameters.integer(1, -1);
  return in.list(from_right ? rsplit_text(in, self.text(), separator, most)
                            : split_text(in, self.text(), separator, most));
}

Value splitlines(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("splitlines", arguments, {"keepends"});
  return in.list(split_lines(in, self.text(), parameters.flag(0)));
}

template <bool from_right>
Value partition(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("partition", arguments, {"sep"}, 1);
  const TextPtr text = self.text();
  const TextPtr separator = parameters.text(0);
  if (separator->size() == 0) throw Failure("empty separator");
  in.budget().touch(text->size());
  const std::size_t found = from_right ? rfind_text(text->view(), separator->view(), text->size())
                                       : find_text(text->view(), separator->view(), 0);
  const auto part = [&](std::size_t begin, std::size_t end) {
    return Value(slice_text(in.budget(), text, begin, end));
  };
  if (found == npos) {
    const Value empty = part(0, 0);
    return from_right ? in.tuple({empty, empty, self}) : in.tuple({self, empty, empty});
  }
  const std::size_t after = found + separator->size();
  return in.tuple({part(0, found), part(found, after), part(after, text->size())});
}

Value replace(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"}, 2);
  const TextPtr text = self.text();
  return replace_text(in, text, adapted(in, text, parameters.text(0)),
                      adapted(in, text, parameters.text(1)), parameters.integer(2, -1));
}

template <bool from_right, bool must_exist>
Value find(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("find", arguments, {"sub", "start", "end"}, 1);
  const TextPtr text = self.text();
  const TextPtr needle = parameters.text(0);
  in.budget().touch(text->size());
  const std::optional<ByteRange> range = byte_range(*text, parameters, 1);
  std::size_t found = npos;
  if (range) {
    const std::string_view view = text->view().substr(0, range->end);
    found = from_right ? rfind_text(view, needle->view(), range->end)
                       : find_text(view, needle->view(), range->begin);
    if (found != npos && found < range->begin) found = npos;
  }
  if (found == npos && must_exist) throw Failure("substring not found");
  return found == npos ? Value(-1) : Value(character_index(*text, found));
}

Value count(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("count", arguments, {"sub", "start", "end"}, 1);
  const TextPtr text = self.text();
  const TextPtr needle = parameters.text(0);
  in.budget().touch(text->size());
  const std::optional<ByteRange> range = byte_range(*text, parameters, 1);
  if (!range) return 0;
  const std::string_view view = text->view().substr(0, range->end);
  if (needle->size() == 0) return count_characters(view.substr(range->begin)) + 1;
  std::size_t found = 0;
  for (std::size_t at = range->begin;; ++found) {
    at = find_text(view, needle->view(), at);
    if (at == npos) return found;
    at += needle->size();
  }
}

template <bool at_end>
Value has_affix(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters(at_end ? "endswith" : "startswith", arguments,
                              {"affix", "start", "end"}, 1);
  const TextPtr text = self.text();
  const std::optional<ByteRange> range = byte_range(*text, parameters, 1);
  const std::string_view view =
      range ? text->view().substr(range->begin, range->end - range->begin) : std::string_view();
  const auto matches = [&](const Value& affix) {
    const TextPtr part = require_text(affix, "startswith/endswith: the argument");
    in.budget().touch(part->size());
    if (!range || part->size() > view.size()) return false;
    return view.substr(at_end ? view.size() - part->size() : 0, part->size()) == part->view();
  };
  const Value& affix = parameters.get(0);
  const SequencePtr several = affix.sequence();
  if (several == nullptr || several->is_list()) return matches(affix);
  return std::any_of(several->items().begin(), several->items().end(), matches);
}

template <bool suffix>
Value remove_affix(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("removeprefix", arguments, {"affix"}, 1);
  const TextPtr text = self.text();
  const std::string_view view = text->view();
  const std::size_t size = parameters.text(0)->size();
  if (size > view.size() || size == 0) return self;
  const std::size_t begin = suffix ? view.size() - size : 0;
  if (view.substr(begin, size) != parameters.text(0)->view()) return self;
  return suffix ? slice_text(in.budget(), text, 0, begin)
                : slice_text(in.budget(), text, size, view.size());
}

Value join(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("join", arguments, {"iterable"}, 1);
  std::vector<TextPtr> parts;
  for (const Value& item : items_of(in, parameters.get(0))) {
    parts.push_back(require_text(item, "join: item " + std::to_string(parts.size())));
  }
  return join_parts(in, self.text(), parts);
}

template <Side side>
Value pad(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("center/ljust/rjust", arguments, {"width", "fillchar"}, 1);
  const TextPtr fill = parameters.has(1) ? parameters.text(1) : in.text(" ").text();
  return pad_text(in, self.text(), parameters.integer(0, 0), fill, side);
}

Value zfill(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("zfill", arguments, {"width"}, 1);
  const TextPtr text = self.text();
  const Int width = parameters.integer(0, 0);
  const std::string_view view = text->view();
  const std::size_t sign = !view.empty() && (view[0] == '-' || view[0] == '+') ? 1 : 0;
  const TextPtr digits = slice_text(in.budget(), text, sign, view.size());
  const TextPtr padded =
      pad_text(in, digits, width - static_cast<Int>(sign), in.text("0").text(), Side::left);
  return join_texts(in, slice_text(in.budget(), text, 0, sign), padded);
}

Value expandtabs(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("expandtabs", arguments, {"tabsize"});
  const Int tab_size = std::min(parameters.integer(0, 8), Int{1} << 40);
  const TextPtr text = self.text();
  const std::string_view view = text->view();
  TextBuilder out(in.budget());
  Int column = 0;
  for (std::size_t i = 0; i < view.size();) {
    const std::size_t bytes = character_at(view, i).bytes;
    if (view[i] == '\t') {
      const Int blanks = tab_size > 0 ? tab_size - column % tab_size : 0;
      in.budget().check_text(static_cast<std::size_t>(blanks));
      out.append(std::string(static_cast<std::size_t>(blanks), ' '), text->worst_origin(i, i + 1));
      column += blanks;
    } else {
      out.append(*text, i, i + bytes);
      column = view[i] == '\n' || view[i] == '\r' ? 0 : column + 1;
    }
    i += bytes;
  }
  return out.finish(text->markup());
}

Value format(Interpreter& in, const Value& self, const Arguments& arguments) {
  return format_braces(in, self.text(), arguments);
}

Value format_map(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("format_map", arguments, {"mapping"}, 1);
  const DictPtr dict = parameters.get(0).dict();
  if (dict == nullptr) throw Failure("format_map() needs a dict");
  Arguments named;
  for (const auto& [key, value] : dict->entries()) {
    if (key.is_text()) named.named.emplace_back(key.text()->view(), value);
  }
  return format_braces(in, self.text(), named);
}

constexpr MethodEntry kMethods[] = {
    {"capitalize", with_case<LetterCase::capitalize>},
    {"casefold", nullptr},
    {"center", pad<Side::both>},
    {"count", count},
    {"encode", nullptr},
    {"endswith", has_affix<true>},
    {"expandtabs", expandtabs},
    {"find", find<false, false>},
    {"format", format},
    {"format_map", format_map},
    {"index", find<false, true>},
    {"join", join},
    {"ljust", pad<Side::right>},
    {"lower", with_case<LetterCase::lower>},
    {"lstrip", strip<Side::left>},
    {"maketrans", nullptr},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"replace", replace},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"rjust", pad<Side::left>},
    {"rpartition", partition<true>},
    {"rsplit", split<true>},
    {"rstrip", strip<Side::right>},
    {"split", split<false>},
    {"splitlines", splitlines},
    {"startswith", has_affix<false>},
    {"strip", strip<Side::both>},
    {"swapcase", with_case<LetterCase::swap>},
    {"title", with_case<LetterCase::title>},
    {"translate", nullptr},
    {"upper", with_case<LetterCase::upper>},
    {"zfill", zfill},
};

}  // namespace

const MethodEntry* find_text_method(std::string_view name) {
  const auto found = std::find_if(std::begin(kMethods), std::end(kMethods),
                                  [&](const MethodEntry& entry) { return entry.name == name; });
  return found == std::end(kMethods) ? find_text_predicate(name) : found;
}

}  // namespace nemo::text::jinja
