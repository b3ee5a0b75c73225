// The rarer values: ranges, namespaces, one-shot iterators, dict views, functions, macros.
#include "src/text/jinja_objects.hpp"

#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_interpreter.hpp"
#include "src/text/jinja_operations.hpp"

#include <algorithm>

namespace nemo::text::jinja {
namespace {

constexpr auto kOwn = TextOrigin::template_text;

unsigned depth_of_items(const std::vector<Value>& items) {
  unsigned depth = 1;
  for (const Value& item : items) depth = std::max(depth, item.depth() + 1);
  check_depth(depth);
  return depth;
}

void print_items(Interpreter& in, const std::vector<Value>& items, TextBuilder& out) {
  std::string_view separator;
  for (const Value& item : items) {
    out.append(separator, kOwn);
    print_repr(in, item, out);
    separator = ", ";
  }
}

}  // namespace

Range::Range(Int start, Int stop, Int step) : start_(start), stop_(stop), step_(step) {
  if (step == 0) throw Failure("range() needs a step that is not zero");
  constexpr Int kFar = Int{1} << 100;  // keeps the arithmetic below inside 128 bits
  for (const Int bound : {start, stop, step}) {
    if (bound > kFar || bound < -kFar) throw Failure("range() bounds are too large");
  }
  const Int distance = step > 0 ? stop - start : start - stop;
  const Int stride = step > 0 ? step : -step;
  const Int count = distance > 0 ? (distance + stride - 1) / stride : 0;
  if (count > kMaxCount) {
    throw Failure("range() of more than " + int_text(kMaxCount) + " items is not allowed");
  }
  count_ = static_cast<std::size_t>(count);
}

void Range::print(Interpreter&, TextBuilder& out) {
  std::string text = "range(" + int_text(start_) + ", " + int_text(stop_);
  if (step_ != 1) text += ", " + int_text(step_);
  out.append(text + ")", kOwn);
}

std::optional<Value> Range::element(Int index) { return Value(start_ + index * step_); }

std::optional<Value> Range::next(std::size_t position) {
  if (position >= count_) return std::nullopt;
  return element(static_cast<Int>(position));
}

void Namespace::print(Interpreter& in, TextBuilder& out) {
  out.append("<Namespace {", kOwn);
  std::string_view separator;
  for (const auto& [name, value] : attributes_) {
    out.append(separator, kOwn);
    print_repr(in, in.text(name), out);
    out.append(": ", kOwn);
    print_repr(in, Value(value), out);  // a copy: printing a loop may run code that changes this
    separator = ", ";
  }
  out.append("}>", kOwn);
}

std::optional<Value> Namespace::attribute(Interpreter&, std::string_view name) {
  for (const auto& [key, value] : attributes_) {
    if (key == name) return value;
  }
  return std::nullopt;
}

void Namespace::set(std::string_view name, Value value) {
  budget_.step(attributes_.size() / 8);
  for (auto& [key, old] : attributes_) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  const std::size_t bytes = sizeof(attributes_.front()) + name.size();
  budget_.grow(bytes);
  charged_ += bytes;
  attributes_.emplace_back(name, std::move(value));
}

Iterator::Iterator(std::string type_name, std::vector<Value> items)
    : type_name_(std::move(type_name)), items_(std::move(items)), depth_(depth_of_items(items_)) {}

void Iterator::print(Interpreter&, TextBuilder& out) {
  out.append("<" + type_name_ + " object>", kOwn);
}

std::optional<Value> Iterator::next(std::size_t) {
  if (taken_ >= items_.size()) return std::nullopt;
  return std::move(items_[taken_++]);
}

DictView::DictView(std::string type_name, std::vector<Value> items)
    : type_name_(std::move(type_name)), items_(std::move(items)), depth_(depth_of_items(items_)) {}

void DictView::print(Interpreter& in, TextBuilder& out) {
  out.append(type_name_ + "([", kOwn);
  print_items(in, items_, out);
  out.append("])", kOwn);
}

std::optional<Value> DictView::next(std::size_t position) {
  if (position >= items_.size()) return std::nullopt;
  return items_[position];
}

void Function::print(Interpreter&, TextBuilder& out) {
  out.append("<function " + name_ + ">", kOwn);
}

void Method::print(Interpreter&, TextBuilder& out) {
  out.append("<built-in method " + name_ + " of " + self_.type_name() + " object>", kOwn);
}

void Macro::print(Interpreter& in, TextBuilder& out) {
  out.append("<Macro ", kOwn);
  if (node_.name.empty()) {
    out.append("anonymous", kOwn);
  } else {
    print_repr(in, in.text(node_.name), out);
  }
  out.append(">", kOwn);
}

std::optional<Value> Macro::attribute(Interpreter& in, std::string_view name) {
  if (name == "name") return node_.name.empty() ? Value() : in.text(node_.name);
  if (name == "caller") return Value(node_.uses_caller);
  if (name == "catch_kwargs") return Value(node_.uses_kwargs);
  if (name == "catch_varargs") return Value(node_.uses_varargs);
  if (name != "arguments") return std::nullopt;
  std::vector<Value> names;
  for (const Parameter& parameter : node_.parameters) names.push_back(in.text(parameter.name));
  return in.tuple(std::move(names));
}

Value Macro::call(Interpreter& in, const Arguments& arguments) {
  return in.call_macro(node_, scope_, arguments);
}

Cycler::Cycler(std::vector<Value> items)
    : items_(std::move(items)), depth_(depth_of_items(items_)) {
  if (items_.empty()) throw Failure("cycler() needs at least one item");
}

void Cycler::print(Interpreter&, TextBuilder& out) { out.append("<Cycler object>", kOwn); }

Value Cycler::advance() {
  const Value item = items_[position_];
  position_ = (position_ + 1) % items_.size();
  return item;
}

std::optional<Value> Cycler::attribute(Interpreter&, std::string_view name) {
  if (name == "current") return items_[position_];
  const auto method = [&](Method::Body body) {
    return Value(
        ObjectPtr(std::make_shared<Method>(std::string(name), Value(shared_from_this()), body)));
  };
  if (name == "next") {
    return method([](Interpreter&, const Value& self, const Arguments& arguments) {
      const Parameters none("cycler.next", arguments, {});
      return self.as<Cycler>()->advance();
    });
  }
  if (name == "reset") {
    return method([](Interpreter&, const Value& self, const Arguments& arguments) {
      const Parameters none("cycler.reset", arguments, {});
      self.as<Cycler>()->reset();
      return Value();
    });
  }
  return std::nullopt;
}

void Joiner::print(Interpreter&, TextBuilder& out) { out.append("<Joiner object>", kOwn); }

Value Joiner::call(Interpreter& in, const Arguments& arguments) {
  const Parameters none("joiner", arguments, {});
  if (std::exchange(used_, true)) return separator_;
  return in.text("");
}

}  // namespace nemo::text::jinja
