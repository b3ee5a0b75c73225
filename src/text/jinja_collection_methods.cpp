// The methods of lists, tuples, dicts and numbers.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_objects.hpp"

#include <algorithm>
#include <cmath>

namespace nemo::text::jinja {
namespace {

Value count(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("count", arguments, {"value"}, 1);
  std::size_t found = 0;
  for (const Value& item : self.sequence()->items()) {
    found += equal(item, parameters.get(0), in.budget()) ? 1 : 0;
  }
  return found;
}

Value index(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters parameters("index", arguments, {"value", "start", "stop"}, 1);
  const std::vector<Value>& items = self.sequence()->items();
  const auto length = static_cast<Int>(items.size());
  const auto bound = [&](std::size_t at, Int fallback) {
    const Int value = parameters.integer(at, fallback);
    return std::clamp(value < 0 && value >= -length ? value + length : value, Int{0}, length);
  };
  const Int stop = bound(2, length);
  for (Int i = bound(1, 0); i < stop; ++i) {
    if (equal(items[static_cast<std::size_t>(i)], parameters.get(0), in.budget())) return i;
  }
  throw Failure("index(): the value is not in the " + self.type_name());
}

Value copy(Interpreter&, const Value& self, const Arguments& arguments) {
  const Parameters none("copy", arguments, {});
  return self;  // nothing can change it
}

Value get(Interpreter&, const Value& self, const Arguments& arguments) {
  const Parameters parameters("get", arguments, {"key", "default"}, 1);
  require_hashable(parameters.get(0));
  const Value* found = self.dict()->find(parameters.get(0));
  return found != nullptr ? *found : parameters.get(1);
}

enum class Part { keys, values, items };

template <Part part>
Value view(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Parameters none("dict view", arguments, {});
  const std::vector<Dict::Entry>& entries = self.dict()->entries();
  std::vector<Value> items;
  in.budget().step(entries.size());
  items.reserve(entries.size());
  for (const auto& [key, value] : entries) {
    if (part == Part::keys) items.push_back(key);
    if (part == Part::values) items.push_back(value);
    if (part == Part::items) items.push_back(in.tuple({key, value}));
  }
  const char* name = part == Part::keys     ? "dict_keys"
                     : part == Part::values ? "dict_values"
                                            : "dict_items";
  return ObjectPtr(std::make_shared<DictView>(name, std::move(items)));
}

Value is_integer(Interpreter&, const Value& self, const Arguments& arguments) {
  const Parameters none("is_integer", arguments, {});
  return std::isfinite(self.real()) && std::trunc(self.real()) == self.real();
}

constexpr MethodEntry kListMethods[] = {
    {"append", nullptr, true},  {"clear", nullptr, true},  {"copy", copy},
    {"count", count},           {"extend", nullptr, true}, {"index", index},
    {"insert", nullptr, true},  {"pop", nullptr, true},    {"remove", nullptr, true},
    {"reverse", nullptr, true}, {"sort", nullptr, true},
};

constexpr MethodEntry kTupleMethods[] = {{"count", count}, {"index", index}};

constexpr MethodEntry kDictMethods[] = {
    {"clear", nullptr, true},       {"copy", copy},
    {"fromkeys", nullptr},          {"get", get},
    {"items", view<Part::items>},   {"keys", view<Part::keys>},
    {"pop", nullptr, true},         {"popitem", nullptr, true},
    {"setdefault", nullptr, true},  {"update", nullptr, true},
    {"values", view<Part::values>},
};

constexpr MethodEntry kIntMethods[] = {
    {"as_integer_ratio", nullptr},
    {"bit_count", nullptr},
    {"bit_length", nullptr},
    {"conjugate", nullptr},
    {"denominator", nullptr},
    {"from_bytes", nullptr},
    {"imag", nullptr},
    {"numerator", nullptr},
    {"real", nullptr},
    {"to_bytes", nullptr},
};

constexpr MethodEntry kFloatMethods[] = {
    {"as_integer_ratio", nullptr},
    {"conjugate", nullptr},
    {"fromhex", nullptr},
    {"hex", nullptr},
    {"imag", nullptr},
    {"is_integer", is_integer},
    {"real", nullptr},
};

template <std::size_t N>
const MethodEntry* find_in(const MethodEntry (&methods)[N], std::string_view name) {
  const auto found = std::find_if(std::begin(methods), std::end(methods),
                                  [&](const MethodEntry& entry) { return entry.name == name; });
  return found == std::end(methods) ? nullptr : found;
}

}  // namespace

const MethodEntry* find_collection_method(const Value& self, std::string_view name) {
  if (const SequencePtr sequence = self.sequence()) {
    return sequence->is_list() ? find_in(kListMethods, name) : find_in(kTupleMethods, name);
  }
  if (self.dict() != nullptr) return find_in(kDictMethods, name);
  if (self.is_integral()) return find_in(kIntMethods, name);
  if (self.is_float()) return find_in(kFloatMethods, name);
  return nullptr;
}

}  // namespace nemo::text::jinja
