// The variable `loop`.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_objects.hpp"

namespace nemo::text::jinja {

Loop::Loop(Pull pull, std::optional<std::size_t> length, std::size_t depth0, unsigned value_depth)
    : pull_(std::move(pull)), length_(length), depth0_(depth0), value_depth_(value_depth) {
  check_depth(value_depth_);
}

void Loop::detach() {
  pull_ = nullptr;
  recurse_ = nullptr;
  last_changed_.reset();
}

bool Loop::peek() {
  if (!ahead_.empty()) return true;
  Value item;
  if (!pull_ || !pull_(item)) return false;
  ahead_.push_back(std::move(item));
  return true;
}

bool Loop::advance(Value& item) {
  if (!peek()) return false;
  ++started_;
  before_ = std::move(current_);
  current_ = std::move(ahead_.back());
  ahead_.pop_back();
  item = current_;
  return true;
}

std::optional<std::size_t> Loop::length() {
  if (!length_) {
    // Everything that is left has to be looked at to know how much passes the filter.
    std::vector<Value> rest;
    while (!ahead_.empty()) {
      rest.push_back(std::move(ahead_.back()));
      ahead_.pop_back();
    }
    Value item;
    while (pull_ && pull_(item)) rest.push_back(item);
    ahead_.assign(std::make_move_iterator(rest.rbegin()), std::make_move_iterator(rest.rend()));
    length_ = started_ + ahead_.size();
  }
  return length_;
}

void Loop::print(Interpreter&, TextBuilder& out) {
  out.append("<LoopContext " + std::to_string(started_) + "/" + std::to_string(*length()) + ">",
             TextOrigin::template_text);
}

std::optional<Value> Loop::attribute(Interpreter&, std::string_view name) {
  const auto method = [&](Method::Body body) {
    return Value(
        ObjectPtr(std::make_shared<Method>(std::string(name), Value(shared_from_this()), body)));
  };
  if (name == "index") return Value(started_);
  if (name == "index0") return Value(started_ - 1);
  if (name == "first") return Value(started_ == 1);
  if (name == "last") return Value(!peek());
  if (name == "length") return Value(*length());
  if (name == "revindex")
    return Value(static_cast<Int>(*length()) - static_cast<Int>(started_) + 1);
  if (name == "revindex0") return Value(static_cast<Int>(*length()) - static_cast<Int>(started_));
  if (name == "depth") return Value(depth0_ + 1);
  if (name == "depth0") return Value(depth0_);
  if (name == "previtem") {
    return started_ == 1 ? undefined_value("there is no previous item") : before_;
  }
  if (name == "nextitem") return peek() ? ahead_.back() : undefined_value("there is no next item");
  if (name == "cycle") {
    return method([](Interpreter&, const Value& self, const Arguments& arguments) {
      return self.as<Loop>()->cycle(arguments.positional);
    });
  }
  if (name == "changed") {
    return method([](Interpreter& in, const Value& self, const Arguments& arguments) {
      return Value(self.as<Loop>()->changed(in, arguments.positional));
    });
  }
  return std::nullopt;
}

Value Loop::cycle(const std::vector<Value>& items) const {
  if (items.empty()) throw Failure("loop.cycle() needs at least one item");
  return items[(started_ - 1) % items.size()];
}

bool Loop::changed(Interpreter& in, std::vector<Value> now) {
  bool same = last_changed_ && last_changed_->size() == now.size();
  for (std::size_t i = 0; same && i < now.size(); ++i) {
    same = equal((*last_changed_)[i], now[i], in.budget());
  }
  // Kept only while the loop runs: a value that holds the loop itself would never be freed.
  if (!same && pull_) last_changed_ = std::move(now);
  return !same;
}

Value Loop::call(Interpreter&, const Arguments& arguments) {
  const Parameters parameters("loop", arguments, {"iterable"}, 1);
  if (!recurse_) throw Failure("loop() needs a loop with the word 'recursive'");
  return recurse_(parameters.get(0));
}

}  // namespace nemo::text::jinja
