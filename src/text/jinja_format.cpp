// "..." % values and "...".format(...).
#include "src/text/jinja_format_spec.hpp"
#include "src/text/jinja_operations.hpp"
#include "src/text/python_unicode.hpp"

namespace nemo::text::jinja {
namespace {

constexpr std::size_t npos = std::string_view::npos;

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

// What both kinds of formats share: copying literal stretches and inserting values.
class Formatter {
 public:
  Formatter(Interpreter& in, const TextPtr& format)
      : in_(in), format_(format), view_(format->view()), out_(in.budget()) {}

 protected:
  // Inserts a value for the placeholder at [begin, at_): it is at best as trusted as that.
  void insert(const TextPtr& text, std::size_t begin) {
    const TextPtr shown = format_->markup() ? escape_html(in_, text) : text;
    out_.append_demoted(*shown, format_->worst_origin(begin, at_));
  }
  void copy(std::size_t begin, std::size_t end) { out_.append(*format_, begin, end); }
  [[nodiscard]] Value finish() { return out_.finish(format_->markup()); }
  [[nodiscard]] bool at_end() const { return at_ >= view_.size(); }

  TextPtr repr(const Value& value) {
    TextBuilder builder(in_.budget());
    print_repr(in_, value, builder);
    return builder.finish();
  }

  Interpreter& in_;
  TextPtr format_;
  std::string_view view_;
  TextBuilder out_;
  std::size_t at_ = 0;
};

class PercentFormatter : Formatter {
 public:
  PercentFormatter(Interpreter& in, const TextPtr& format, const Value& arguments)
      : Formatter(in, format), mapping_(arguments.dict()) {
    const SequencePtr sequence = arguments.sequence();
    // Python lets everything that has elements, except tuples and strings, stay unused.
    may_stay_unused_ = mapping_ != nullptr || arguments.is_undefined() ||
                       (sequence != nullptr && sequence->is_list());
    if (sequence != nullptr && !sequence->is_list()) {
      arguments_ = sequence->items();
    } else {
      arguments_ = {arguments};
    }
  }

  Value run() {
    while (!at_end()) {
      const std::size_t percent = std::min(view_.find('%', at_), view_.size());
      copy(at_, percent);
      at_ = percent;
      if (!at_end()) placeholder();
    }
    if (used_ < arguments_.size() && !may_stay_unused_) {
      throw Failure("not all values were used by the % format");
    }
    return finish();
  }

 private:
  const Value& next_argument() {
    if (used_ >= arguments_.size()) throw Failure("not enough values for the % format");
    return arguments_[used_++];
  }

  std::size_t number() {
    if (!at_end() && view_[at_] == '*') {
      ++at_;
      const Int width = require_int(next_argument(), "the width of a % format");
      if (width < 0 || width > 100000) throw Failure("a width in a % format is out of range");
      return static_cast<std::size_t>(width);
    }
    std::size_t value = 0;
    for (; !at_end() && is_digit_char(view_[at_]); ++at_) {
      value = value * 10 + static_cast<std::size_t>(view_[at_] - '0');
      if (value > 100000) throw Failure("a width in a % format is out of range");
    }
    return value;
  }

  void placeholder() {
    const std::size_t begin = at_++;
    std::optional<Value> keyed;
    if (!at_end() && view_[at_] == '(') {
      const std::size_t close = view_.find(')', at_);
      if (close == npos) throw Failure("a % format has an open '('");
      if (mapping_ == nullptr) throw Failure("a % format with names needs a dict");
      const std::string_view key = view_.substr(at_ + 1, close - at_ - 1);
      const Value* found = mapping_->find(key);
      if (found == nullptr) throw Failure("the % format needs the key '" + std::string(key) + "'");
      keyed = *found;
      at_ = close + 1;
    }
    FormatSpec spec;
    for (; !at_end() && std::string_view("#0- +").find(view_[at_]) != npos; ++at_) {
      const char flag = view_[at_];
      if (flag == '#') spec.alternate = true;
      if (flag == '-') spec.align = '<';
      if (flag == '0' && spec.align == '\0') {
        spec.align = '=';
        spec.fill = "0";
      }
      if (flag == '+' || (flag == ' ' && spec.sign != '+')) spec.sign = flag;
    }
    if (spec.align == '<') spec.fill = " ";
    spec.width = number();
    if (!at_end() && view_[at_] == '.') {
      ++at_;
      spec.precision = static_cast<int>(std::min<std::size_t>(number(), 1000));
    }
    while (!at_end() && std::string_view("hlL").find(view_[at_]) != npos) ++at_;
    if (at_end()) throw Failure("a % format ends inside a placeholder");
    const char type = view_[at_++];
    if (type == '%') return out_.append("%", format_->worst_origin(begin, at_));
    insert(converted(type, spec, keyed ? *keyed : next_argument()), begin);
  }

  TextPtr converted(char type, FormatSpec spec, const Value& value) {
    if (type == 's' || type == 'r') {
      TextPtr text = type == 's' ? to_text(in_, value) : repr(value);
      if (spec.precision && static_cast<std::size_t>(*spec.precision) < text->characters()) {
        const auto characters = static_cast<std::size_t>(*spec.precision);
        text = slice_text(in_.budget(), text, 0, text->offset_of(characters));
      }
      if (spec.align != '<') spec.align = '>';
      spec.fill = " ";
      return pad_to_spec(in_, text, spec, false);
    }
    require_defined(value);
    if (type == 'c' && value.is_text() && value.text()->characters() == 1) {
      if (spec.align != '<') spec.align = '>';
      spec.fill = " ";
      return pad_to_spec(in_, value.text(), spec, false);
    }
    if (std::string_view("diuoxXcbeEfFgG").find(type) == npos || type == 'b') {
      throw Failure(std::string("unsupported character '") + type + "' in a % format");
    }
    if (!value.is_number()) {
      throw Failure(std::string("%") + type + " needs a number, not " + value.type_name());
    }
    Value shown = value;
    if (type == 'd' || type == 'i' || type == 'u') {
      if (value.is_float()) {
        const std::optional<Int> whole = truncate_to_int(value.real());
        if (!whole) throw Failure("%d cannot show this float");
        shown = *whole;
      }
      type = 'd';
    } else if (std::string_view("oxXc").find(type) != npos && !value.is_integral()) {
      throw Failure(std::string("%") + type + " needs an integer, not " + value.type_name());
    }
    spec.type = type;
    std::string digits;
    if (std::string_view("doxX").find(type) != npos) {
      const std::size_t least = static_cast<std::size_t>(spec.precision.value_or(0));
      spec.precision.reset();
      digits = format_number(shown, spec);
      const std::size_t sign = !digits.empty() && !is_digit_char(digits[0]) &&
                                       std::string_view("-+ ").find(digits[0]) != npos
                                   ? 1
                                   : 0;
      if (digits.size() - sign < least) {
        digits.insert(sign, std::string(least - (digits.size() - sign), '0'));
      }
    } else {
      if (type == 'c') spec.precision.reset();
      digits = format_number(shown, spec);
    }
    return pad_to_spec(in_, make_text(in_.budget(), digits, TextOrigin::template_text), spec, true);
  }

  DictPtr mapping_;
  std::vector<Value> arguments_;
  std::size_t used_ = 0;
  bool may_stay_unused_ = false;
};

class BraceFormatter : Formatter {
 public:
  BraceFormatter(Interpreter& in, const TextPtr& format, const Arguments& arguments)
      : Formatter(in, format), arguments_(arguments) {}

  Value run() {
    while (!at_end()) {
      const std::size_t brace = std::min(view_.find_first_of("{}", at_), view_.size());
      copy(at_, brace);
      at_ = brace;
      if (at_end()) break;
      if (view_.substr(at_, 2) == "{{" || view_.substr(at_, 2) == "}}") {
        copy(at_, at_ + 1);
        at_ += 2;
      } else if (view_[at_] == '}') {
        throw Failure("a format string has a single '}'");
      } else {
        const std::size_t begin = at_;
        const TextPtr text = field(2);
        insert(text, begin);
      }
    }
    return finish();
  }

 private:
  [[noreturn]] static void fail_open() { throw Failure("a format string has an open '{'"); }

  // One {name!conversion:spec}, at_ on its brace. `depth` fields may be nested.
  TextPtr field(int depth) {
    if (depth == 0) throw Failure("a format string is nested too deeply");
    const std::size_t begin = ++at_;
    int brackets = 0;
    while (!at_end() && (brackets > 0 || std::string_view("!:}").find(view_[at_]) == npos)) {
      if (view_[at_] == '{') throw Failure("unexpected '{' in a field name");
      brackets += view_[at_] == '[' ? 1 : view_[at_] == ']' ? -1 : 0;
      ++at_;
    }
    if (at_end()) fail_open();
    Value value = lookup(view_.substr(begin, at_ - begin));
    if (view_[at_] == '!') {
      const char conversion = at_ + 1 < view_.size() ? view_[at_ + 1] : '\0';
      if (conversion != 'r' && conversion != 's')
        throw Failure("a format conversion must be !r or !s");
      value = conversion == 'r' ? repr(value) : to_text(in_, value);
      at_ += 2;
      if (at_end()) fail_open();
      if (view_[at_] != ':' && view_[at_] != '}') throw Failure("expected ':' after a conversion");
    }
    std::string spec;
    if (view_[at_] == ':') {
      ++at_;
      while (!at_end() && view_[at_] != '}') {
        if (view_[at_] == '{') {
          spec += field(depth - 1)->view();
        } else {
          spec += view_[at_++];
        }
      }
      if (at_end()) fail_open();
    }
    ++at_;
    return format_value(in_, value, parse_format_spec(spec), spec.empty());
  }

  Value lookup(std::string_view name) {
    const std::size_t end = std::min(name.find_first_of(".["), name.size());
    Value value = first(name.substr(0, end));
    for (std::size_t i = end; i < name.size();) {
      if (name[i] == '.') {
        const std::size_t stop = std::min(name.find_first_of(".[", i + 1), name.size());
        value = get_attribute(in_, value, name.substr(i + 1, stop - i - 1));
        i = stop;
      } else {
        const std::size_t close = name.find(']', i);
        if (name[i] != '[' || close == npos)
          throw Failure("a format string has a broken field name");
        const std::string_view key = name.substr(i + 1, close - i - 1);
        const bool number = !key.empty() && key.find_first_not_of("0123456789") == npos;
        const std::optional<Int> index = number ? parse_int(key, 10) : std::nullopt;
        value = get_item(in_, value, index ? Value(*index) : in_.text(key));
        i = close + 1;
      }
      require_defined(value);
    }
    return value;
  }

  Value first(std::string_view name) {
    const bool number = name.find_first_not_of("0123456789") == npos;
    if (!number) {
      for (const auto& [key, value] : arguments_.named) {
        if (key == name) return value;
      }
      throw Failure("format() needs an argument '" + std::string(name) + "'");
    }
    if ((automatic_ && !name.empty()) || (manual_ && name.empty())) {
      throw Failure("a format string mixes numbered and unnumbered fields");
    }
    (name.empty() ? automatic_ : manual_) = true;
    const std::optional<Int> index = name.empty() ? Int{next_++} : parse_int(name, 10);
    if (!index || *index >= static_cast<Int>(arguments_.positional.size())) {
      throw Failure("format() has too few arguments");
    }
    return arguments_.positional[static_cast<std::size_t>(*index)];
  }

  const Arguments& arguments_;
  int next_ = 0;
  bool automatic_ = false;
  bool manual_ = false;
};

}  // namespace

Value format_percent(Interpreter& in, const TextPtr& format, const Value& arguments) {
  return PercentFormatter(in, format, arguments).run();
}

Value format_braces(Interpreter& in, const TextPtr& format, const Arguments& arguments) {
  return BraceFormatter(in, format, arguments).run();
}

}  // namespace nemo::text::jinja
