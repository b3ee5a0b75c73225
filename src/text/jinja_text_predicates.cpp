// The methods of strings that ask about all of their characters.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_objects.hpp"
#include "src/text/python_unicode.hpp"

#include <algorithm>

namespace nemo::text::jinja {
namespace {

template <bool (*property)(char32_t), bool of_empty>
Value all_are(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters none("is method", arguments, {});
  const std::string_view view = self.text()->view();
  in.budget().touch(view.size());
  if (view.empty()) return of_empty;
  for (std::size_t i = 0; i < view.size();) {
    const Character c = character_at(view, i);
    if (!property(c.code_point)) return false;
    i += c.bytes;
  }
  return true;
}

bool is_ascii_character(char32_t c) { return c < 0x80; }
bool is_space_character(char32_t c) { return is_space(c); }
bool is_identifier_character(char32_t c) { return is_alnum(c) || c == '_'; }

Value is_identifier(Interpreter& in, const Value& self, const Arguments& arguments) {
  const std::string_view view = self.text()->view();
  if (!view.empty() && view[0] >= '0' && view[0] <= '9') return false;
  return all_are<is_identifier_character, false>(in, self, arguments);
}

template <bool upper>
Value is_one_case(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters none("is method", arguments, {});
  const std::string_view view = self.text()->view();
  in.budget().touch(view.size());
  bool cased = false;
  for (std::size_t i = 0; i < view.size();) {
    const Character c = character_at(view, i);
    if (is_title(c.code_point) || (upper ? is_lower(c.code_point) : is_upper(c.code_point))) {
      return false;
    }
    cased = cased || (upper ? is_upper(c.code_point) : is_lower(c.code_point));
    i += c.bytes;
  }
  return cased;
}

Value is_title_case(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters none("istitle", arguments, {});
  const std::string_view view = self.text()->view();
  in.budget().touch(view.size());
  bool cased = false;
  bool after_cased = false;
  for (std::size_t i = 0; i < view.size();) {
    const Character c = character_at(view, i);
    const bool capital = is_upper(c.code_point) || is_title(c.code_point);
    if (capital && after_cased) return false;
    if (!capital && is_lower(c.code_point) && !after_cased) return false;
    after_cased = capital || is_lower(c.code_point);
    cased = cased || after_cased;
    i += c.bytes;
  }
  return cased;
}

constexpr MethodEntry kPredicates[] = {
    {"isalnum", all_are<is_alnum, false>},
    {"isalpha", all_are<is_alpha, false>},
    {"isascii", all_are<is_ascii_character, true>},
    {"isdecimal", all_are<is_decimal, false>},
    {"isdigit", all_are<is_digit, false>},
    {"isidentifier", is_identifier},
    {"islower", is_one_case<false>},
    {"isnumeric", all_are<is_numeric, false>},
    {"isprintable", all_are<is_printable, true>},
    {"isspace", all_are<is_space_character, false>},
    {"istitle", is_title_case},
    {"isupper", is_one_case<true>},
};

}  // namespace

const MethodEntry* find_text_predicate(std::string_view name) {
  const auto found = std::find_if(std::begin(kPredicates), std::end(kPredicates),
                                  [&](const MethodEntry& entry) { return entry.name == name; });
  return found == std::end(kPredicates) ? nullptr : found;
}

}  // namespace nemo::text::jinja
