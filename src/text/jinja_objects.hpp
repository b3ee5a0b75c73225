// The rarer values: ranges, namespaces, one-shot iterators, dict views, functions, loops.
#pragma once

#include "src/text/jinja_ast.hpp"
#include "src/text/jinja_value.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nemo::text::jinja {

struct Scope;

/// range(start, stop, step): `count` integers.
class Range : public Object {
 public:
  Range(Int start, Int stop, Int step);
  [[nodiscard]] std::string type_name() const override { return "range"; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] bool truthy() const override { return count_ > 0; }
  [[nodiscard]] std::optional<std::size_t> length() override { return count_; }
  [[nodiscard]] bool has_elements() const override { return true; }
  [[nodiscard]] std::optional<Value> element(Int index) override;
  [[nodiscard]] bool iterable() const override { return true; }
  [[nodiscard]] std::optional<Value> next(std::size_t position) override;

 private:
  static constexpr Int kMaxCount = 100000;  // as jinja2's sandbox
  Int start_, stop_, step_;
  std::size_t count_ = 0;
};

/// namespace(...): the only value that changes.
class Namespace : public Object {
 public:
  explicit Namespace(Budget& budget) : budget_(budget) {}
  ~Namespace() override { budget_.shrink(charged_); }
  [[nodiscard]] std::string type_name() const override { return "Namespace"; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] std::optional<Value> attribute(Interpreter& in, std::string_view name) override;
  void set(std::string_view name, Value value);
  void clear() { attributes_.clear(); }

 private:
  Budget& budget_;
  std::size_t charged_ = 0;
  std::vector<std::pair<std::string, Value>> attributes_;
};

/// What map, select and other lazy filters give: can be walked once.
class Iterator : public Object {
 public:
  Iterator(std::string type_name, std::vector<Value> items);
  [[nodiscard]] std::string type_name() const override { return type_name_; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] unsigned depth() const override { return depth_; }
  [[nodiscard]] bool iterable() const override { return true; }
  [[nodiscard]] std::optional<Value> next(std::size_t position) override;

 private:
  std::string type_name_;
  std::vector<Value> items_;
  std::size_t taken_ = 0;
  unsigned depth_ = 1;
};

/// dict.keys(), .values() or .items().
class DictView : public Object {
 public:
  DictView(std::string type_name, std::vector<Value> items);
  [[nodiscard]] std::string type_name() const override { return type_name_; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] bool truthy() const override { return !items_.empty(); }
  [[nodiscard]] unsigned depth() const override { return depth_; }
  [[nodiscard]] std::optional<std::size_t> length() override { return items_.size(); }
  [[nodiscard]] bool iterable() const override { return true; }
  [[nodiscard]] std::optional<Value> next(std::size_t position) override;

 private:
  std::string type_name_;
  std::vector<Value> items_;
  unsigned depth_ = 1;
};

/// A function of the language itself.
class Function : public Object {
 public:
  using Body = Value (*)(Interpreter&, const Arguments&);
  Function(std::string name, Body body) : name_(std::move(name)), body_(body) {}
  [[nodiscard]] std::string type_name() const override { return "function"; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] bool callable() const override { return true; }
  Value call(Interpreter& in, const Arguments& arguments) override { return body_(in, arguments); }

 private:
  std::string name_;
  Body body_;
};

/// A method together with the value it belongs to.
class Method : public Object {
 public:
  using Body = Value (*)(Interpreter&, const Value& self, const Arguments&);
  Method(std::string name, Value self, Body body)
      : name_(std::move(name)), self_(std::move(self)), body_(body) {
    check_depth(depth());
  }
  [[nodiscard]] std::string type_name() const override { return "builtin_function_or_method"; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] unsigned depth() const override { return self_.depth() + 1; }
  [[nodiscard]] bool callable() const override { return true; }
  Value call(Interpreter& in, const Arguments& arguments) override {
    return body_(in, self_, arguments);
  }

 private:
  std::string name_;
  Value self_;
  Body body_;
};

/// A macro and the scope it was defined in (which the interpreter keeps).
class Macro : public Object {
 public:
  Macro(const MacroNode& node, Scope* scope) : node_(node), scope_(scope) {}
  [[nodiscard]] std::string type_name() const override { return "Macro"; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] std::optional<Value> attribute(Interpreter& in, std::string_view name) override;
  [[nodiscard]] bool callable() const override { return true; }
  Value call(Interpreter& in, const Arguments& arguments) override;

 private:
  const MacroNode& node_;
  Scope* scope_;
};

/// cycler(...): its items again and again.
class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> items);
  [[nodiscard]] std::string type_name() const override { return "Cycler"; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] unsigned depth() const override { return depth_; }
  [[nodiscard]] std::optional<Value> attribute(Interpreter& in, std::string_view name) override;
  Value advance();
  void reset() { position_ = 0; }

 private:
  std::vector<Value> items_;
  std::size_t position_ = 0;
  unsigned depth_ = 1;
};

/// joiner(separator): nothing at the first call, then the separator.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) { check_depth(depth()); }
  [[nodiscard]] std::string type_name() const override { return "Joiner"; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] unsigned depth() const override { return separator_.depth() + 1; }
  [[nodiscard]] bool callable() const override { return true; }
  Value call(Interpreter& in, const Arguments& arguments) override;

 private:
  Value separator_;
  bool used_ = false;
};

/// The variable `loop`: walks the items of one `for` and tells where it stands.
class Loop : public Object {
 public:
  /// Fills in the next item; false at the end.
  using Pull = std::function<bool(Value&)>;
  /// Runs the loop once more over a nested value.
  using Recurse = std::function<Value(const Value&)>;

  /// `length` is known only where nothing is filtered out.
  Loop(Pull pull, std::optional<std::size_t> length, std::size_t depth0, unsigned value_depth);

  [[nodiscard]] std::string type_name() const override { return "LoopContext"; }
  void print(Interpreter& in, TextBuilder& out) override;
  [[nodiscard]] unsigned depth() const override { return value_depth_; }
  [[nodiscard]] std::optional<std::size_t> length() override;
  [[nodiscard]] std::optional<Value> attribute(Interpreter& in, std::string_view name) override;
  [[nodiscard]] bool callable() const override { return true; }
  Value call(Interpreter& in, const Arguments& arguments) override;

  /// Moves on to the next item; false at the end.
  bool advance(Value& item);
  void set_recurse(Recurse recurse) { recurse_ = std::move(recurse); }
  /// The `for` is over: nothing can be pulled any more.
  void detach();
  Value cycle(const std::vector<Value>& items) const;
  bool changed(Interpreter& in, std::vector<Value> now);

 private:
  [[nodiscard]] bool peek();

  Pull pull_;
  Recurse recurse_;
  std::optional<std::size_t> length_;
  std::vector<Value> ahead_;  // pulled but not yet current, last first
  Value current_, before_;
  std::optional<std::vector<Value>> last_changed_;
  std::size_t started_ = 0;  // items handed out
  std::size_t depth0_;
  unsigned value_depth_;
};

/// The methods every value of a type has; null if `name` is none. `mutates` tells that the method
/// would change the value, which the sandbox forbids.
struct MethodEntry {
  std::string_view name;
  Method::Body body;  // null: Python has it, but it makes no sense in a template
  bool mutates = false;
};
[[nodiscard]] const MethodEntry* find_text_method(std::string_view name);
[[nodiscard]] const MethodEntry* find_text_predicate(std::string_view name);  // isdigit, ...
[[nodiscard]] const MethodEntry* find_collection_method(const Value& self, std::string_view name);

}  // namespace nemo::text::jinja
