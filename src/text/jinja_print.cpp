// str() and repr() as Python prints values, and Markup's escaping.
#include "src/text/jinja_operations.hpp"
#include "src/text/python_unicode.hpp"

namespace nemo::text::jinja {
namespace {

constexpr auto kOwn = TextOrigin::template_text;  // punctuation and numbers the engine writes

std::string hex_escape(char32_t code_point) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  const int digits = code_point < 0x100 ? 2 : code_point < 0x10000 ? 4 : 8;
  std::string out = digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) {
    out += kDigits[(code_point >> static_cast<unsigned>(shift)) & 15U];
  }
  return out;
}

// Python's choice: single quotes unless that would need escapes and double quotes would not.
void print_text_repr(const Text& text, TextBuilder& out) {
  const std::string_view view = text.view();
  const bool use_double = view.find('\'') != view.npos && view.find('"') == view.npos;
  const char quote = use_double ? '"' : '\'';
  out.append(std::string_view(&quote, 1), kOwn);
  std::size_t plain = 0;  // start of the stretch that is copied as it is
  for (std::size_t i = 0; i < view.size();) {
    const Character c = character_at(view, i);
    std::string escape;
    if (c.code_point == static_cast<char32_t>(quote) || c.code_point == '\\') {
      escape = {'\\', static_cast<char>(c.code_point)};
    } else if (c.code_point == '\n') {
      escape = "\\n";
    } else if (c.code_point == '\r') {
      escape = "\\r";
    } else if (c.code_point == '\t') {
      escape = "\\t";
    } else if (c.code_point < 0x20 || c.code_point == 0x7f ||
               (c.code_point >= 0x80 && !is_printable(c.code_point))) {
      escape = hex_escape(c.code_point);
    }
    if (!escape.empty()) {
      out.append(text, plain, i);
      out.append(escape, text.worst_origin(i, i + c.bytes));
      plain = i + c.bytes;
    }
    i += c.bytes;
  }
  out.append(text, plain, view.size());
  out.append(std::string_view(&quote, 1), kOwn);
}

void print_number(const Value& value, TextBuilder& out) {
  if (value.is_bool()) {
    out.append(value.truthy() ? "True" : "False", kOwn);
  } else if (value.is_int()) {
    out.append(int_text(value.integer()), kOwn);
  } else {
    out.append(float_repr(value.real()), kOwn);
  }
}

}  // namespace

void print_repr(Interpreter& in, const Value& value, TextBuilder& out) {
  const Interpreter::Level level(in);
  in.budget().step();
  if (value.is_none()) return out.append("None", kOwn);
  if (value.is_undefined()) return out.append("Undefined", kOwn);
  if (value.is_number()) return print_number(value, out);
  if (const TextPtr text = value.text()) {
    if (text->markup()) out.append("Markup(", kOwn);
    print_text_repr(*text, out);
    if (text->markup()) out.append(")", kOwn);
    return;
  }
  if (const SequencePtr sequence = value.sequence()) {
    out.append(sequence->is_list() ? "[" : "(", kOwn);
    std::string_view separator;
    for (const Value& item : sequence->items()) {
      out.append(separator, kOwn);
      print_repr(in, item, out);
      separator = ", ";
    }
    const bool single_tuple = !sequence->is_list() && sequence->items().size() == 1;
    out.append(sequence->is_list() ? "]" : single_tuple ? ",)" : ")", kOwn);
    return;
  }
  if (const DictPtr dict = value.dict()) {
    out.append("{", kOwn);
    std::string_view separator;
    for (const auto& [key, item] : dict->entries()) {
      out.append(separator, kOwn);
      print_repr(in, key, out);
      out.append(": ", kOwn);
      print_repr(in, item, out);
      separator = ", ";
    }
    return out.append("}", kOwn);
  }
  value.object()->print(in, out);
}

void print_value(Interpreter& in, const Value& value, TextBuilder& out) {
  if (const TextPtr text = value.text()) return out.append(*text);
  if (value.is_undefined()) return;
  print_repr(in, value, out);
}

TextPtr to_text(Interpreter& in, const Value& value) {
  if (TextPtr text = value.text()) return text;
  TextBuilder builder(in.budget());
  print_value(in, value, builder);
  return builder.finish();
}

TextPtr escape_html(Interpreter& in, const TextPtr& text) {
  if (text->markup()) return text;
  TextBuilder out(in.budget());
  const std::string_view view = text->view();
  std::size_t plain = 0;
  for (std::size_t i = 0; i < view.size(); ++i) {
    std::string_view entity;
    switch (view[i]) {
      case '&':
        entity = "&amp;";
        break;
      case '<':
        entity = "&lt;";
        break;
      case '>':
        entity = "&gt;";
        break;
      case '"':
        entity = "&#34;";
        break;
      case '\'':
        entity = "&#39;";
        break;
      default:
        continue;
    }
    out.append(*text, plain, i);
    out.append(entity, text->worst_origin(i, i + 1));
    plain = i + 1;
  }
  out.append(*text, plain, view.size());
  return out.finish(true);
}

TextPtr join_texts(Interpreter& in, const TextPtr& a, const TextPtr& b) {
  const bool markup = a->markup() || b->markup();
  TextBuilder out(in.budget());
  for (const TextPtr& part : {a, b}) out.append(markup ? *escape_html(in, part) : *part);
  return out.finish(markup);
}

}  // namespace nemo::text::jinja
