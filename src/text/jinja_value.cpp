// Values of the template language.
#include "src/text/jinja_value.hpp"

#include <algorithm>
#include <cmath>

namespace nemo::text::jinja {
namespace {

constexpr std::size_t kIndexNodeBytes = 96;  // one node of Dict's index, for the memory count

// Numbers, texts, ... compare only within their class.
int key_class(const Value& value) {
  if (value.is_none()) return 0;
  if (value.is_undefined()) return 1;
  if (value.is_number()) return 2;
  if (value.is_text()) return 3;
  if (value.sequence() != nullptr) return 4;
  return 5;
}

// Exact comparison of an int with a float; NaN is below everything so that the order is total.
int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    const Int x = a.integer();
    const Int y = b.integer();
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.is_float() && b.is_float()) {
    const double x = a.real();
    const double y = b.real();
    if (std::isnan(x) || std::isnan(y)) return std::isnan(y) - std::isnan(x);
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (b.is_integral()) return -compare_numbers(b, a);
  const Int x = a.integer();
  const double y = b.real();
  if (std::isnan(y)) return 1;
  const std::optional<Int> whole = truncate_to_int(y);
  if (!whole) return y > 0 ? -1 : 1;
  if (x != *whole) return x < *whole ? -1 : 1;
  const double rest = y - std::trunc(y);
  return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

bool numbers_equal(const Value& a, const Value& b) {
  if ((a.is_float() && std::isnan(a.real())) || (b.is_float() && std::isnan(b.real())))
    return false;
  return compare_numbers(a, b) == 0;
}

[[noreturn]] void fail_order(const Value& a, const Value& b) {
  throw Failure("'<' not supported between instances of '" + a.type_name() + "' and '" +
                b.type_name() + "'");
}

}  // namespace

Int Value::integer() const {
  if (const bool* value = std::get_if<bool>(&data_)) return *value ? 1 : 0;
  return std::get<Int>(data_);
}

double Value::real() const {
  if (const double* value = std::get_if<double>(&data_)) return *value;
  return static_cast<double>(integer());
}

std::string Value::type_name() const {
  if (is_none()) return "NoneType";
  if (is_undefined()) return "Undefined";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (const TextPtr value = text()) return value->markup() ? "Markup" : "str";
  if (const SequencePtr value = sequence()) return value->is_list() ? "list" : "tuple";
  if (dict() != nullptr) return "dict";
  return object()->type_name();
}

bool Value::truthy() const {
  if (is_none() || is_undefined()) return false;
  if (is_integral()) return integer() != 0;
  if (is_float()) return real() != 0.0;
  if (const TextPtr value = text()) return value->size() > 0;
  if (const SequencePtr value = sequence()) return !value->items().empty();
  if (const DictPtr value = dict()) return !value->entries().empty();
  return object()->truthy();
}

unsigned Value::depth() const {
  if (const SequencePtr value = sequence()) return value->depth();
  if (const DictPtr value = dict()) return value->depth();
  if (const ObjectPtr value = object()) return value->depth();
  return 0;
}

void check_depth(unsigned depth) {
  if (depth > kMaxValueDepth) {
    throw Failure("values are nested more than " + std::to_string(kMaxValueDepth) + " deep");
  }
}

Sequence::Sequence(Type type, std::vector<Value> items, Budget* budget)
    : items_(std::move(items)), budget_(budget), type_(type) {
  for (const Value& item : items_) depth_ = std::max(depth_, item.depth() + 1);
  check_depth(depth_);
  if (budget_ != nullptr) {
    budget_->step(items_.size() / 8);
    charged_ = sizeof(Sequence) + items_.size() * sizeof(Value);
    budget_->grow(charged_);
  }
}

Sequence::~Sequence() {
  if (budget_ != nullptr) budget_->shrink(charged_);
}

bool KeyLess::operator()(const Value& a, const Value& b) const {
  const int class_a = key_class(a);
  const int class_b = key_class(b);
  if (class_a != class_b) return class_a < class_b;
  switch (class_a) {
    case 2:
      return compare_numbers(a, b) < 0;
    case 3:
      return a.text()->view() < b.text()->view();
    case 4: {
      const auto& x = a.sequence()->items();
      const auto& y = b.sequence()->items();
      return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end(), KeyLess{});
    }
    case 5:
      return a.object() < b.object();
    default:
      return false;
  }
}

void require_hashable(const Value& key) {
  const SequencePtr sequence = key.sequence();
  if (key.dict() != nullptr || (sequence != nullptr && sequence->is_list())) {
    throw Failure("unhashable type: '" + key.type_name() + "'");
  }
  if (sequence != nullptr) {
    for (const Value& item : sequence->items()) require_hashable(item);
  }
}

Dict::~Dict() {
  if (budget_ != nullptr) budget_->shrink(charged_);
}

void Dict::set(Value key, Value value) {
  require_hashable(key);
  depth_ = std::max({depth_, key.depth() + 1, value.depth() + 1});
  check_depth(depth_);
  if (const std::optional<std::size_t> at = position_of(key)) {
    entries_[*at].second = std::move(value);
    return;
  }
  if (budget_ != nullptr) {
    budget_->step();
    const std::size_t bytes = sizeof(Entry) + kIndexNodeBytes;
    budget_->grow(bytes);
    charged_ += bytes;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() == kIndexFrom) {
    for (std::size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].first, i);
  } else if (entries_.size() > kIndexFrom) {
    index_.emplace(entries_.back().first, entries_.size() - 1);
  }
}

std::optional<std::size_t> Dict::position_of(const Value& key) const {
  if (entries_.size() >= kIndexFrom) {
    const auto found = index_.find(key);
    return found == index_.end() ? std::nullopt : std::optional(found->second);
  }
  const KeyLess key_less;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (!key_less(key, entries_[i].first) && !key_less(entries_[i].first, key)) return i;
  }
  return std::nullopt;
}

const Value* Dict::find(const Value& key) const {
  const std::optional<std::size_t> at = position_of(key);
  return at ? &entries_[*at].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (entries_.size() >= kIndexFrom) return find(Value(literal_text(std::string(key))));
  for (const Entry& entry : entries_) {
    const TextPtr text = entry.first.text();
    if (text != nullptr && text->view() == key) return &entry.second;
  }
  return nullptr;
}

std::optional<Value> Object::attribute(Interpreter&, std::string_view) { return std::nullopt; }

std::optional<Value> Object::element(Int) { return std::nullopt; }

Value Object::call(Interpreter&, const Arguments&) {
  throw Failure("'" + type_name() + "' object is not callable");
}

std::optional<Value> Object::next(std::size_t) { return std::nullopt; }

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_number() && b.is_number()) return numbers_equal(a, b);
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (const TextPtr x = a.text()) {
    const TextPtr y = b.text();
    if (y == nullptr || x->size() != y->size()) return false;
    budget.touch(x->size());
    return x->view() == y->view();
  }
  if (const SequencePtr x = a.sequence()) {
    const SequencePtr y = b.sequence();
    if (y == nullptr || x->is_list() != y->is_list() || x->items().size() != y->items().size()) {
      return false;
    }
    if (x == y) return true;
    return std::equal(x->items().begin(), x->items().end(), y->items().begin(),
                      [&](const Value& p, const Value& q) { return equal(p, q, budget); });
  }
  if (const DictPtr x = a.dict()) {
    const DictPtr y = b.dict();
    if (y == nullptr || x->entries().size() != y->entries().size()) return false;
    if (x == y) return true;
    return std::all_of(x->entries().begin(), x->entries().end(), [&](const Dict::Entry& entry) {
      const Value* other = y->find(entry.first);
      return other != nullptr && equal(entry.second, *other, budget);
    });
  }
  return a.object() != nullptr && a.object() == b.object();
}

bool less(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_number() && b.is_number()) {
    const bool unordered =
        (a.is_float() && std::isnan(a.real())) || (b.is_float() && std::isnan(b.real()));
    return !unordered && compare_numbers(a, b) < 0;
  }
  for (const Value* side : {&a, &b}) {
    if (side->is_undefined()) throw Failure(*side->undefined().message);
  }
  if (const TextPtr x = a.text()) {
    const TextPtr y = b.text();
    if (y == nullptr) fail_order(a, b);
    budget.touch(std::min(x->size(), y->size()));
    return x->view() < y->view();  // UTF-8 sorts like code points
  }
  const SequencePtr x = a.sequence();
  const SequencePtr y = b.sequence();
  if (x == nullptr || y == nullptr || x->is_list() != y->is_list()) fail_order(a, b);
  const std::size_t common = std::min(x->items().size(), y->items().size());
  for (std::size_t i = 0; i < common; ++i) {
    if (!equal(x->items()[i], y->items()[i], budget)) {
      return less(x->items()[i], y->items()[i], budget);
    }
  }
  return x->items().size() < y->items().size();
}

Value undefined_value(std::string message) {
  return Undefined{std::make_shared<const std::string>(std::move(message))};
}

}  // namespace nemo::text::jinja
