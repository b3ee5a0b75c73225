// Filters that go through a sequence item by item: map, select, reject, list, items.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_filters.hpp"

namespace nemo::text::jinja {
namespace {

Value map(Interpreter& in, const Value& input, const Arguments& arguments) {
  std::vector<Value> results;
  if (!input.truthy()) return make_iterator("generator", std::move(results));
  const bool by_attribute =
      arguments.positional.empty() &&
      std::any_of(arguments.named.begin(), arguments.named.end(),
                  [](const auto& argument) { return argument.first == "attribute"; });
  Cursor cursor(in, input);
  Value item;
  if (by_attribute) {
    const Parameters parameters("map", arguments, {"attribute", "default"});
    const AttributePath path(in, parameters.get(0));
    while (cursor.next(item)) results.push_back(path.of(in, item, parameters.get(1)));
    return make_iterator("generator", std::move(results));
  }
  if (arguments.positional.empty()) throw Failure("map: needs a filter or attribute=");
  const TextPtr name = require_text(arguments.positional.front(), "map: the filter");
  const FilterFunction filter = find_filter(name->view());
  if (filter == nullptr) throw Failure("no filter named '" + std::string(name->view()) + "'");
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  const Interpreter::Level level(in);  // map('map', 'map', ...)
  while (cursor.next(item)) results.push_back(filter(in, item, rest));
  return make_iterator("generator", std::move(results));
}

template <bool keep, bool by_attribute>
Value select(Interpreter& in, const Value& input, const Arguments& arguments) {
  std::vector<Value> kept;
  if (!input.truthy()) return make_iterator("generator", std::move(kept));
  Arguments rest = arguments;
  Value attribute;
  if (by_attribute) {
    if (rest.positional.empty()) throw Failure("selectattr/rejectattr: needs an attribute");
    attribute = rest.positional.front();
    rest.positional.erase(rest.positional.begin());
  }
  const AttributePath path(in, attribute);
  TestFunction test = nullptr;
  if (!rest.positional.empty()) {
    const TextPtr name = require_text(rest.positional.front(), "select/reject: the test");
    test = find_test(name->view());
    if (test == nullptr) throw Failure("no test named '" + std::string(name->view()) + "'");
    rest.positional.erase(rest.positional.begin());
  }
  const Interpreter::Level level(in);
  Cursor cursor(in, input);
  Value item;
  while (cursor.next(item)) {
    const Value value = path.of(in, item);
    if ((test != nullptr ? test(in, value, rest) : value.truthy()) == keep) kept.push_back(item);
  }
  return make_iterator("generator", std::move(kept));
}

Value list(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("list", arguments, {});
  return in.list(items_of(in, input));
}

Value items(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("items", arguments, {});
  std::vector<Value> pairs;
  if (!input.is_undefined()) {
    const DictPtr dict = input.dict();
    if (dict == nullptr) {
      throw Failure("items: can only list the pairs of a mapping, not of a value of type '" +
                    input.type_name() + "'");
    }
    for (const auto& [key, value] : dict->entries()) pairs.push_back(in.tuple({key, value}));
  }
  return make_iterator("generator", std::move(pairs));
}

constexpr FilterEntry kFilters[] = {
    {"items", items},
    {"list", list},
    {"map", map},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
};

}  // namespace

FilterFunction find_selection_filter(std::string_view name) {
  return find_in_table(kFilters, name);
}

}  // namespace nemo::text::jinja
