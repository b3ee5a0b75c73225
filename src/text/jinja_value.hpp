// Values of the template language: Python's None, bool, int, float, str, list, tuple and dict, the
// undefined value, and objects for everything rarer (range, namespace, macro, loop, ...).
//
// Lists, tuples and dicts never change once they are shared (the sandbox forbids it), so values are
// cheap to copy and can form no cycle except through namespaces, which the rendering clears.
#pragma once

#include "src/text/jinja_text.hpp"
#include "src/text/python_number.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace nemo::text::jinja {

class Sequence;
class Dict;
class Object;
using SequencePtr = std::shared_ptr<const Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

/// Containers nested deeper than this are refused; comparing, printing and freeing them recurses.
inline constexpr unsigned kMaxValueDepth = 200;

struct None {};

/// A missing variable or attribute: prints as nothing, fails when it is used.
struct Undefined {
  std::shared_ptr<const std::string> message;  // what to say when it is used
};

/// One value.
class Value {
 public:
  Value() : data_(None{}) {}
  Value(None) : data_(None{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(bool value) : data_(value) {}
  Value(int value) : data_(static_cast<Int>(value)) {}
  Value(Int value) : data_(value) {}
  Value(std::size_t value) : data_(static_cast<Int>(value)) {}
  Value(double value) : data_(value) {}
  Value(TextPtr text) : data_(std::move(text)) {}
  Value(SequencePtr sequence) : data_(std::move(sequence)) {}
  Value(DictPtr dict) : data_(std::move(dict)) {}
  Value(ObjectPtr object) : data_(std::move(object)) {}
  Value(const char*) = delete;

  [[nodiscard]] bool is_none() const { return std::holds_alternative<None>(data_); }
  [[nodiscard]] bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  [[nodiscard]] bool is_bool() const { return std::holds_alternative<bool>(data_); }
  [[nodiscard]] bool is_float() const { return std::holds_alternative<double>(data_); }
  /// An int, not a bool.
  [[nodiscard]] bool is_int() const { return std::holds_alternative<Int>(data_); }
  [[nodiscard]] bool is_integral() const { return is_int() || is_bool(); }
  [[nodiscard]] bool is_number() const { return is_integral() || is_float(); }

  [[nodiscard]] const Undefined& undefined() const { return std::get<Undefined>(data_); }
  /// The value of an int or a bool.
  [[nodiscard]] Int integer() const;
  /// The value of any number.
  [[nodiscard]] double real() const;
  /// Null when the value is of another kind.
  [[nodiscard]] TextPtr text() const { return pointer<TextPtr>(); }
  [[nodiscard]] SequencePtr sequence() const { return pointer<SequencePtr>(); }
  [[nodiscard]] DictPtr dict() const { return pointer<DictPtr>(); }
  [[nodiscard]] ObjectPtr object() const { return pointer<ObjectPtr>(); }
  [[nodiscard]] bool is_text() const { return std::holds_alternative<TextPtr>(data_); }

  /// The object as a T, null if it is something else.
  template <class T>
  [[nodiscard]] std::shared_ptr<T> as() const {
    return std::dynamic_pointer_cast<T>(object());
  }

  /// Python's type(value).__name__.
  [[nodiscard]] std::string type_name() const;
  /// bool(value).
  [[nodiscard]] bool truthy() const;
  /// How many containers are nested in it.
  [[nodiscard]] unsigned depth() const;

 private:
  template <class Pointer>
  [[nodiscard]] Pointer pointer() const {
    const auto* found = std::get_if<Pointer>(&data_);
    return found != nullptr ? *found : Pointer{};
  }

  std::variant<None, Undefined, bool, Int, double, TextPtr, SequencePtr, DictPtr, ObjectPtr> data_;
};

/// A list, a tuple, or one of groupby's tuples, whose elements are also .grouper and .list.
class Sequence {
 public:
  enum class Type : std::uint8_t { list, tuple, group };

  /// Throws Failure when nested deeper than kMaxValueDepth.
  Sequence(Type type, std::vector<Value> items, Budget* budget);
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;
  ~Sequence();

  [[nodiscard]] bool is_list() const noexcept { return type_ == Type::list; }
  [[nodiscard]] Type type() const noexcept { return type_; }
  [[nodiscard]] const std::vector<Value>& items() const noexcept { return items_; }
  [[nodiscard]] unsigned depth() const noexcept { return depth_; }

 private:
  std::vector<Value> items_;
  Budget* budget_;
  std::size_t charged_ = 0;
  unsigned depth_ = 1;
  Type type_;
};

/// A total order over hashable values under which exactly the equal ones are equivalent.
struct KeyLess {
  bool operator()(const Value& a, const Value& b) const;
};

/// Throws Failure unless `key` can be a dict key (lists, dicts and what contains them cannot).
void require_hashable(const Value& key);

/// A dict that keeps insertion order.
class Dict {
 public:
  explicit Dict(Budget* budget) : budget_(budget) {}
  Dict(const Dict&) = delete;
  Dict& operator=(const Dict&) = delete;
  ~Dict();

  using Entry = std::pair<Value, Value>;

  /// Adds or overwrites; only before the dict is shared. Throws Failure for a key that has no hash.
  void set(Value key, Value value);

  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
  /// Null when absent; the key must be hashable.
  [[nodiscard]] const Value* find(const Value& key) const;
  [[nodiscard]] const Value* find(std::string_view key) const;
  [[nodiscard]] unsigned depth() const noexcept { return depth_; }

 private:
  static constexpr std::size_t kIndexFrom = 9;  // entries; below, a linear search is faster

  [[nodiscard]] std::optional<std::size_t> position_of(const Value& key) const;

  std::vector<Entry> entries_;
  std::map<Value, std::size_t, KeyLess> index_;  // empty below kIndexFrom
  Budget* budget_;
  std::size_t charged_ = 0;
  unsigned depth_ = 1;
};

/// Positional and named arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Interpreter;

/// Everything that is no plain data.
class Object : public std::enable_shared_from_this<Object> {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;

  [[nodiscard]] virtual std::string type_name() const = 0;
  /// repr(object).
  virtual void print(Interpreter& in, TextBuilder& out) = 0;
  [[nodiscard]] virtual bool truthy() const { return true; }
  [[nodiscard]] virtual unsigned depth() const { return 1; }
  /// len(object), if it has one.
  [[nodiscard]] virtual std::optional<std::size_t> length() { return std::nullopt; }
  /// object.name, if there is one.
  [[nodiscard]] virtual std::optional<Value> attribute(Interpreter& in, std::string_view name);
  /// object[index], for objects that have elements.
  [[nodiscard]] virtual bool has_elements() const { return false; }
  [[nodiscard]] virtual std::optional<Value> element(Int index);
  [[nodiscard]] virtual bool callable() const { return false; }
  virtual Value call(Interpreter& in, const Arguments& arguments);
  [[nodiscard]] virtual bool iterable() const { return false; }
  /// The element that follows `position` elements; nothing at the end. Objects that can be walked
  /// only once ignore `position`.
  [[nodiscard]] virtual std::optional<Value> next(std::size_t position);
};

/// a == b in Python.
[[nodiscard]] bool equal(const Value& a, const Value& b, Budget& budget);
/// a < b in Python; throws Failure for types without an order.
[[nodiscard]] bool less(const Value& a, const Value& b, Budget& budget);
/// Throws Failure if `depth` is more than kMaxValueDepth.
void check_depth(unsigned depth);

[[nodiscard]] Value undefined_value(std::string message);

}  // namespace nemo::text::jinja
