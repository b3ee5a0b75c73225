// Filters that make strings.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_filters.hpp"
#include "src/text/jinja_text_operations.hpp"
#include "src/text/python_unicode.hpp"

#include <algorithm>

namespace nemo::text::jinja {
namespace {

// The same text without being markup.
TextPtr plain(Interpreter& in, const TextPtr& text) {
  if (!text->markup()) return text;
  TextBuilder out(in.budget());
  out.append(*text);
  return out.finish();
}

template <LetterCase letter_case>
Value with_case(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("case filter", arguments, {});
  return change_case(in, to_text(in, input), letter_case);
}

Value trim(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("trim", arguments, {"chars"});
  const TextPtr chars = parameters.get(0).is_none() ? nullptr : parameters.text(0);
  return strip_text(in, to_text(in, input), chars, Side::both);
}

Value replace(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"}, 2);
  const Int count = parameters.get(2).is_none() ? -1 : parameters.integer(2, -1);
  return replace_text(in, plain(in, to_text(in, input)), to_text(in, parameters.get(0)),
                      to_text(in, parameters.get(1)), count);
}

Value center(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("center", arguments, {"width"});
  return pad_text(in, to_text(in, input), parameters.integer(0, 80), in.text(" ").text(),
                  Side::both);
}

Value indent(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("indent", arguments, {"width", "first", "blank"});
  const TextPtr text = require_text(input, "indent: the input");
  TextPtr prefix = parameters.get(0).text();
  if (prefix == nullptr) {
    const Int width = parameters.integer(0, 4);
    in.budget().check_text(static_cast<std::size_t>(std::clamp(width, Int{0}, Int{1} << 40)));
    prefix = in.text(std::string(static_cast<std::size_t>(std::max(width, Int{0})), ' ')).text();
  }
  if (text->markup()) prefix = escape_html(in, prefix);
  const bool first = parameters.flag(1);
  const bool blank = parameters.flag(2);
  const TextPtr with_end = join_texts(in, text, in.text("\n").text());
  TextBuilder out(in.budget());
  bool on_first = true;
  for (const Value& line : split_lines(in, with_end, false)) {
    if (!on_first) out.append("\n", TextOrigin::template_text);
    if (on_first ? first : (blank || line.truthy())) out.append(*prefix);
    out.append(*line.text());
    on_first = false;
  }
  return out.finish(text->markup());
}

Value truncate(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const TextPtr end = parameters.has(2) ? parameters.text(2) : in.text("...").text();
  const Int length = parameters.integer(0, 255);
  const Int leeway = parameters.get(3).is_none() ? 5 : parameters.integer(3, 5);
  const auto end_length = static_cast<Int>(end->characters());
  if (length < end_length || leeway < 0) {
    throw Failure("truncate: the length must be at least that of the end mark");
  }
  if (static_cast<Int>(require_length(input)) <= length + leeway) return input;
  const TextPtr text = require_text(input, "truncate: the input");
  const auto kept_characters = static_cast<std::size_t>(length - end_length);
  std::size_t kept = text->offset_of(kept_characters);
  if (!parameters.flag(1)) {
    // Drops the last, probably cut, word.
    const std::size_t space = text->view().substr(0, kept).rfind(' ');
    if (space != std::string_view::npos) kept = space;
  }
  return join_texts(in, slice_text(in.budget(), text, 0, kept), end);
}

Value wordcount(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("wordcount", arguments, {});
  const TextPtr text = to_text(in, input);
  in.budget().touch(text->size());
  std::size_t words = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text->size();) {
    const Character c = character_at(text->view(), i);
    const bool word = is_alnum(c.code_point) || c.code_point == '_';
    words += word && !inside ? 1 : 0;
    inside = word;
    i += c.bytes;
  }
  return words;
}

Value format(Interpreter& in, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    throw Failure("format: positional and keyword arguments cannot be mixed");
  }
  if (arguments.named.empty()) {
    return format_percent(in, to_text(in, input), in.tuple(arguments.positional));
  }
  auto named = std::make_shared<Dict>(&in.budget());
  for (const auto& [key, value] : arguments.named) named->set(in.text(key), value);
  return format_percent(in, to_text(in, input), DictPtr(std::move(named)));
}

Value string(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("string", arguments, {});
  return to_text(in, input);
}

Value safe(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("safe", arguments, {});
  TextBuilder out(in.budget());
  print_value(in, input, out);
  return out.finish(true);
}

Value escape(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("escape", arguments, {});
  return escape_html(in, to_text(in, input));
}

Value forceescape(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("forceescape", arguments, {});
  return escape_html(in, plain(in, to_text(in, input)));
}

Value join(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("join", arguments, {"d", "attribute"});
  const AttributePath path(in, parameters.get(1));
  const TextPtr separator = plain(in, to_text(in, parameters.get(0, in.text(""))));
  std::vector<TextPtr> parts;
  Cursor cursor(in, input);
  Value item;
  while (cursor.next(item)) parts.push_back(to_text(in, path.of(in, item)));
  return join_parts(in, separator, parts);
}

constexpr FilterEntry kFilters[] = {
    {"capitalize", with_case<LetterCase::capitalize>},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"forceescape", forceescape},
    {"format", format},
    {"indent", indent},
    {"join", join},
    {"lower", with_case<LetterCase::lower>},
    {"replace", replace},
    {"safe", safe},
    {"string", string},
    {"title", with_case<LetterCase::title_words>},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", with_case<LetterCase::upper>},
    {"wordcount", wordcount},
};

}  // namespace

FilterFunction find_text_filter(std::string_view name) { return find_in_table(kFilters, name); }

}  // namespace nemo::text::jinja
