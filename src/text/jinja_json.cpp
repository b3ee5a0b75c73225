// json.dumps as Python writes it.
#include "src/text/jinja_operations.hpp"
#include "src/text/python_unicode.hpp"

#include <algorithm>
#include <cmath>

namespace nemo::text::jinja {
namespace {

constexpr auto kOwn = TextOrigin::template_text;

std::string unicode_escape(char32_t unit) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) {
    out += kDigits[(unit >> static_cast<unsigned>(shift)) & 15U];
  }
  return out;
}

std::string escape_of(char32_t c, bool ensure_ascii) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      break;
  }
  if (c < 0x20 || (ensure_ascii && c >= 0x7f && c < 0x10000)) return unicode_escape(c);
  if (ensure_ascii && c >= 0x10000) {
    const char32_t rest = c - 0x10000;
    return unicode_escape(0xD800 + (rest >> 10U)) + unicode_escape(0xDC00 + (rest & 0x3ffU));
  }
  return {};
}

void print_string(const Text& text, bool ensure_ascii, TextBuilder& out) {
  const std::string_view view = text.view();
  out.append("\"", kOwn);
  std::size_t plain = 0;
  for (std::size_t i = 0; i < view.size();) {
    const Character c = character_at(view, i);
    const std::string escape = escape_of(c.code_point, ensure_ascii);
    if (!escape.empty()) {
      out.append(text, plain, i);
      out.append(escape, text.worst_origin(i, i + c.bytes));
      plain = i + c.bytes;
    }
    i += c.bytes;
  }
  out.append(text, plain, view.size());
  out.append("\"", kOwn);
}

std::string number_text(const Value& value) {
  if (value.is_bool()) return value.truthy() ? "true" : "false";
  if (value.is_int()) return int_text(value.integer());
  const double number = value.real();
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
  return float_repr(number);
}

class Writer {
 public:
  Writer(Interpreter& in, const JsonStyle& style, TextBuilder& out)
      : in_(in), style_(style), out_(out) {}

  void write(const Value& value) {
    const Interpreter::Level level(in_);
    in_.budget().step();
    if (value.is_none()) return out_.append("null", kOwn);
    if (value.is_number()) return out_.append(number_text(value), kOwn);
    if (const TextPtr text = value.text()) return print_string(*text, style_.ensure_ascii, out_);
    if (const SequencePtr sequence = value.sequence()) return write_list(*sequence);
    if (const DictPtr dict = value.dict()) return write_dict(*dict);
    throw Failure("tojson: a value of type '" + value.type_name() + "' cannot be written as JSON");
  }

 private:
  void new_line() {
    if (!style_.indent) return;
    out_.append("\n", kOwn);
    for (std::size_t i = 0; i < depth_; ++i) out_.append(*style_.indent, kOwn);
  }

  void write_list(const Sequence& sequence) {
    if (sequence.items().empty()) return out_.append("[]", kOwn);
    out_.append("[", kOwn);
    ++depth_;
    bool first = true;
    for (const Value& item : sequence.items()) {
      if (!std::exchange(first, false)) out_.append(style_.item_separator, kOwn);
      new_line();
      write(item);
    }
    --depth_;
    new_line();
    out_.append("]", kOwn);
  }

  void write_dict(const Dict& dict) {
    if (dict.entries().empty()) return out_.append("{}", kOwn);
    std::vector<Dict::Entry> entries = dict.entries();
    in_.budget().step(entries.size());
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
        return less(a.first, b.first, in_.budget());
      });
    }
    out_.append("{", kOwn);
    ++depth_;
    bool first = true;
    for (const auto& [key, value] : entries) {
      if (!std::exchange(first, false)) out_.append(style_.item_separator, kOwn);
      new_line();
      write_key(key);
      out_.append(style_.key_separator, kOwn);
      write(value);
    }
    --depth_;
    new_line();
    out_.append("}", kOwn);
  }

  void write_key(const Value& key) {
    if (const TextPtr text = key.text()) return print_string(*text, style_.ensure_ascii, out_);
    if (!key.is_none() && !key.is_number()) {
      throw Failure("tojson: a key of type '" + key.type_name() + "' cannot be written as JSON");
    }
    out_.append("\"" + (key.is_none() ? "null" : number_text(key)) + "\"", kOwn);
  }

  Interpreter& in_;
  const JsonStyle& style_;
  TextBuilder& out_;
  std::size_t depth_ = 0;
};

}  // namespace

void print_json(Interpreter& in, const Value& value, const JsonStyle& style, TextBuilder& out) {
  Writer(in, style, out).write(value);
}

}  // namespace nemo::text::jinja
