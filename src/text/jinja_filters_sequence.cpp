// Filters that order, group and sum up.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_filters.hpp"
#include "src/text/jinja_objects.hpp"
#include "src/text/jinja_text_operations.hpp"
#include "src/text/python_unicode.hpp"

#include <algorithm>
#include <set>

namespace nemo::text::jinja {
namespace {

// Sorts indices by keys, one vector of key parts per item. Keys compare as Python lists, which skip
// equal parts, or, for bare keys, as their only part, which must have an order.
class KeyedOrder {
 public:
  KeyedOrder(Interpreter& in, std::vector<std::vector<Value>> keys, bool bare)
      : in_(in), keys_(std::move(keys)), bare_(bare) {}

  [[nodiscard]] std::vector<std::size_t> sorted(bool reverse) const {
    std::vector<std::size_t> order(keys_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return reverse ? less_keys(keys_[b], keys_[a]) : less_keys(keys_[a], keys_[b]);
    });
    return order;
  }

 private:
  [[nodiscard]] bool less_keys(const std::vector<Value>& a, const std::vector<Value>& b) const {
    if (bare_) return less(a[0], b[0], in_.budget());
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!equal(a[i], b[i], in_.budget())) return less(a[i], b[i], in_.budget());
    }
    return false;
  }

  Interpreter& in_;
  std::vector<std::vector<Value>> keys_;
  bool bare_;
};

std::vector<Value> reordered(const std::vector<Value>& items,
                             const std::vector<std::size_t>& order) {
  std::vector<Value> result;
  result.reserve(items.size());
  for (const std::size_t index : order) result.push_back(items[index]);
  return result;
}

Value sort(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = parameters.flag(1);
  std::vector<AttributePath> paths;
  if (const TextPtr names = parameters.get(2).text()) {
    for (const Value& name : split_text(in, names, in.text(",").text(), -1)) {
      paths.emplace_back(in, name);
    }
  } else {
    paths.emplace_back(in, parameters.get(2));
  }
  const std::vector<Value> items = items_of(in, input);
  std::vector<std::vector<Value>> keys;
  keys.reserve(items.size());
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const AttributePath& path : paths) {
      key.push_back(sort_key(in, path.of(in, item), case_sensitive));
    }
    keys.push_back(std::move(key));
  }
  return in.list(
      reordered(items, KeyedOrder(in, std::move(keys), false).sorted(parameters.flag(0))));
}

Value dictsort(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const TextPtr by = parameters.has(1) ? parameters.text(1) : in.text("key").text();
  if (by->view() != "key" && by->view() != "value") {
    throw Failure("dictsort: 'by' must be 'key' or 'value'");
  }
  require_defined(input);
  const DictPtr dict = input.dict();
  if (dict == nullptr) throw Failure("dictsort: needs a dict, not " + input.type_name());
  std::vector<Value> items;
  std::vector<std::vector<Value>> keys;
  for (const auto& [key, value] : dict->entries()) {
    items.push_back(in.tuple({key, value}));
    keys.push_back({sort_key(in, by->view() == "key" ? key : value, parameters.flag(0))});
  }
  return in.list(
      reordered(items, KeyedOrder(in, std::move(keys), true).sorted(parameters.flag(2))));
}

Value groupby(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const AttributePath path(in, parameters.get(0));
  const bool case_sensitive = parameters.flag(2);
  const std::vector<Value> items = items_of(in, input);
  std::vector<std::vector<Value>> keys;
  for (const Value& item : items) {
    keys.push_back({sort_key(in, path.of(in, item, parameters.get(1)), case_sensitive)});
  }
  const std::vector<std::size_t> order = KeyedOrder(in, keys, true).sorted(false);
  std::vector<Value> groups;
  for (std::size_t begin = 0; begin < order.size();) {
    std::vector<Value> members;
    std::size_t end = begin;
    for (; end < order.size() && equal(keys[order[end]][0], keys[order[begin]][0], in.budget());
         ++end) {
      members.push_back(items[order[end]]);
    }
    const Value name = path.of(in, members.front(), parameters.get(1));
    groups.push_back(SequencePtr(std::make_shared<const Sequence>(
        Sequence::Type::group, std::vector<Value>{name, in.list(std::move(members))},
        &in.budget())));
    begin = std::max(end, begin + 1);  // a NaN does not even equal itself
  }
  return in.list(std::move(groups));
}

Value unique(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("unique", arguments, {"case_sensitive", "attribute"});
  const AttributePath path(in, parameters.get(1));
  std::set<Value, KeyLess> seen;
  std::vector<Value> items;
  for (const Value& item : items_of(in, input)) {
    const Value key = sort_key(in, path.of(in, item), parameters.flag(0));
    require_hashable(key);
    if (seen.insert(key).second) items.push_back(item);
  }
  return make_iterator("generator", std::move(items));
}

template <bool largest>
Value extreme(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("min/max", arguments, {"case_sensitive", "attribute"});
  const AttributePath path(in, parameters.get(1));
  Cursor cursor(in, input);
  Value best, best_key, item;
  bool found = false;
  while (cursor.next(item)) {
    Value key = sort_key(in, path.of(in, item), parameters.flag(0));
    if (found && !(largest ? less(best_key, key, in.budget()) : less(key, best_key, in.budget()))) {
      continue;
    }
    found = true;
    best = item;
    best_key = std::move(key);
  }
  return found ? best : undefined_value("min/max of an empty sequence");
}

Value sum(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("sum", arguments, {"attribute", "start"});
  const AttributePath path(in, parameters.get(0));
  Value total = parameters.get(1, Value(0));
  if (total.is_text()) throw Failure("sum: cannot add up strings; use join");
  Cursor cursor(in, input);
  Value item;
  while (cursor.next(item)) {
    total = arithmetic(in, ArithmeticOperator::add, total, path.of(in, item));
  }
  return total;
}

bool is_reversible(const Value& value) {
  return value.is_undefined() || value.sequence() != nullptr || value.dict() != nullptr ||
         value.is_text() || value.as<Range>() != nullptr || value.as<DictView>() != nullptr;
}

Value reverse(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("reverse", arguments, {});
  if (input.is_text()) return get_slice(in, input, Value(), Value(), Value(-1));
  std::vector<Value> items = items_of(in, input);
  std::reverse(items.begin(), items.end());
  if (!is_reversible(input)) return in.list(std::move(items));
  return make_iterator(input.type_name() + "_reverseiterator", std::move(items));
}

Value first(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("first", arguments, {});
  Cursor cursor(in, input);
  Value item;
  return cursor.next(item) ? item : undefined_value("the sequence has no first item");
}

Value last(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("last", arguments, {});
  if (!is_reversible(input)) {
    throw Failure("last: a value of type '" + input.type_name() + "' cannot be reversed");
  }
  if (const SequencePtr sequence = input.sequence(); sequence && !sequence->items().empty()) {
    return sequence->items().back();
  }
  const std::vector<Value> items = items_of(in, input);
  return items.empty() ? undefined_value("the sequence has no last item") : items.back();
}

Value batch(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("batch", arguments, {"linecount", "fill_with"}, 1);
  const Int size = parameters.integer(0, 0);
  const Value& fill = parameters.get(1);
  std::vector<Value> rows;
  std::vector<Value> row;
  Cursor cursor(in, input);
  Value item;
  while (cursor.next(item)) {
    if (static_cast<Int>(row.size()) == size) rows.push_back(in.list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    while (!fill.is_none() && static_cast<Int>(row.size()) < size) {
      in.budget().step();
      row.push_back(fill);
    }
    rows.push_back(in.list(std::move(row)));
  }
  return make_iterator("generator", std::move(rows));
}

Value slice(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("slice", arguments, {"slices", "fill_with"}, 1);
  const Int slices = parameters.integer(0, 0);
  if (slices == 0) throw Failure("slice: division by zero");
  const std::vector<Value> items = items_of(in, input);
  const auto count = static_cast<Int>(items.size());
  std::vector<Value> rows;
  Int begin = 0;
  for (Int i = 0; i < slices; ++i) {
    in.budget().step();
    const bool longer = i < count % slices;
    const Int end = begin + count / slices + (longer ? 1 : 0);
    std::vector<Value> row(items.begin() + static_cast<std::ptrdiff_t>(begin),
                           items.begin() + static_cast<std::ptrdiff_t>(end));
    if (!longer && !parameters.get(1).is_none()) row.push_back(parameters.get(1));
    rows.push_back(in.list(std::move(row)));
    begin = end;
  }
  return make_iterator("generator", std::move(rows));
}

constexpr FilterEntry kFilters[] = {
    {"batch", batch},        {"dictsort", dictsort}, {"first", first},
    {"groupby", groupby},    {"last", last},         {"max", extreme<true>},
    {"min", extreme<false>}, {"reverse", reverse},   {"slice", slice},
    {"sort", sort},          {"sum", sum},           {"unique", unique},
};

}  // namespace

Value make_iterator(std::string type_name, std::vector<Value> items) {
  return ObjectPtr(std::make_shared<Iterator>(std::move(type_name), std::move(items)));
}

Value sort_key(Interpreter& in, const Value& value, bool case_sensitive) {
  const TextPtr text = value.text();
  if (case_sensitive || text == nullptr) return value;
  return change_case(in, text, LetterCase::lower);
}

AttributePath::AttributePath(Interpreter& in, const Value& attribute) {
  if (attribute.is_none()) return;
  const TextPtr path = attribute.text();
  if (path == nullptr) {
    parts_.push_back(attribute);
    return;
  }
  for (const Value& part : split_text(in, path, in.text(".").text(), -1)) {
    const std::string_view name = part.text()->view();
    const bool number = !name.empty() && name.find_first_not_of("0123456789") == name.npos;
    const std::optional<Int> index = number ? parse_int(name, 10) : std::nullopt;
    parts_.push_back(index ? Value(*index) : part);
  }
}

Value AttributePath::of(Interpreter& in, Value item, const Value& fallback) const {
  for (const Value& part : parts_) {
    item = get_item(in, item, part);
    if (item.is_undefined() && !fallback.is_none()) item = fallback;
  }
  return item;
}

FilterFunction find_sequence_filter(std::string_view name) { return find_in_table(kFilters, name); }

}  // namespace nemo::text::jinja
