// Attributes, elements, slices and iteration.
#include "src/text/jinja_objects.hpp"
#include "src/text/jinja_operations.hpp"
#include "src/text/python_unicode.hpp"

#include <algorithm>

namespace nemo::text::jinja {
namespace {

// Every Python object has these; the sandbox hides them.
bool is_hidden_attribute(std::string_view name) {
  static constexpr std::string_view kHidden[] = {
      "__class__",     "__doc__",          "__init__",         "__dir__",          "__eq__",
      "__ne__",        "__hash__",         "__repr__",         "__str__",          "__new__",
      "__lt__",        "__le__",           "__gt__",           "__ge__",           "__reduce__",
      "__format__",    "__sizeof__",       "__setattr__",      "__getattribute__", "__delattr__",
      "__reduce_ex__", "__subclasshook__", "__init_subclass__"};
  return std::find(std::begin(kHidden), std::end(kHidden), name) != std::end(kHidden);
}

Value unsafe_attribute(const Value& object, std::string_view name) {
  return undefined_value("access to attribute '" + std::string(name) + "' of '" +
                         object.type_name() +
                         "' is not allowed: values of a template cannot be changed or inspected");
}

std::string owner_name(const Value& object) {
  return object.is_none() ? "None" : object.type_name() + " object";
}

// The method of that name, nothing if the type has none.
std::optional<Value> get_method(const Value& object, std::string_view name) {
  const MethodEntry* entry =
      object.is_text() ? find_text_method(name) : find_collection_method(object, name);
  if (entry == nullptr) return std::nullopt;
  if (entry->mutates) return unsafe_attribute(object, name);
  if (entry->body == nullptr) {
    return undefined_value("method '" + std::string(name) + "' is not supported in templates");
  }
  return Value(ObjectPtr(std::make_shared<Method>(std::string(name), object, entry->body)));
}

std::optional<Int> index_of(const Value& key) {
  return key.is_integral() ? std::optional(key.integer()) : std::nullopt;
}

// Python's object[key]; nothing where it raises TypeError or LookupError.
std::optional<Value> python_item(Interpreter& in, const Value& object, const Value& key) {
  if (const DictPtr dict = object.dict()) {
    const SequencePtr sequence = key.sequence();
    if (key.dict() != nullptr || (sequence != nullptr && sequence->is_list())) return std::nullopt;
    const Value* found = dict->find(key);
    return found != nullptr ? std::optional(*found) : std::nullopt;
  }
  std::optional<Int> index = index_of(key);
  const ObjectPtr other = object.object();
  if (!index || (other != nullptr && !other->has_elements())) return std::nullopt;
  const std::optional<std::size_t> length = length_of(object);
  if (!length || object.is_undefined()) return std::nullopt;
  if (*index < 0) *index += static_cast<Int>(*length);
  if (*index < 0 || *index >= static_cast<Int>(*length)) return std::nullopt;
  const auto at = static_cast<std::size_t>(*index);
  if (const SequencePtr sequence = object.sequence()) return sequence->items()[at];
  if (other != nullptr) return other->element(*index);
  const TextPtr text = object.text();
  if (!text->ascii()) in.budget().touch(text->size());
  const std::size_t begin = text->offset_of(at);
  const std::size_t bytes = character_at(text->view(), begin).bytes;
  return Value(slice_text(in.budget(), text, begin, begin + bytes));
}

// The indices a slice selects from `length` elements, as Python computes them.
struct SliceRange {
  Int start = 0;
  Int step = 1;
  std::size_t count = 0;
};

SliceRange slice_range(const Value& start, const Value& stop, const Value& step, Int length) {
  const auto number = [](const Value& value) {
    require_defined(value);
    if (!value.is_integral()) throw Failure("slice indices must be integers or none");
    return value.integer();
  };
  SliceRange range;
  if (!step.is_none()) range.step = number(step);
  if (range.step == 0) throw Failure("slice step cannot be zero");
  const bool backwards = range.step < 0;
  const Int lowest = backwards ? -1 : 0;
  const Int highest = backwards ? length - 1 : length;
  const auto clamp = [&](Int value) {
    if (value < 0) value = value < -length ? lowest : value + length;
    return std::clamp(value, lowest, std::max(lowest, highest));
  };
  range.start = start.is_none() ? (backwards ? highest : lowest) : clamp(number(start));
  const Int end = stop.is_none() ? (backwards ? lowest : highest) : clamp(number(stop));
  const Int distance = backwards ? range.start - end : end - range.start;
  // A step beyond the length selects one element, whatever its size.
  range.step = std::clamp(range.step, -(length + 1), length + 1);
  const Int stride = backwards ? -range.step : range.step;
  if (distance > 0) range.count = static_cast<std::size_t>((distance + stride - 1) / stride);
  return range;
}

Value slice_of_text(Interpreter& in, const TextPtr& text, const SliceRange& range) {
  in.budget().touch(text->size());
  const auto first = static_cast<std::size_t>(range.start);
  if (range.step == 1 || range.count == 0) {
    const std::size_t begin = range.count == 0 ? 0 : text->offset_of(first);
    const std::size_t end = range.count == 0 ? 0 : text->offset_of(first + range.count);
    return slice_text(in.budget(), text, begin, end);
  }
  std::vector<std::size_t> offsets;  // of every character, and the end
  offsets.reserve(text->characters() + 1);
  for (std::size_t i = 0; i < text->size(); i += character_at(text->view(), i).bytes) {
    offsets.push_back(i);
  }
  offsets.push_back(text->size());
  TextBuilder builder(in.budget());
  Int index = range.start;
  for (std::size_t i = 0; i < range.count; ++i, index += range.step) {
    const auto at = static_cast<std::size_t>(index);
    builder.append(*text, offsets[at], offsets[at + 1]);
  }
  return builder.finish(text->markup());
}

}  // namespace

void require_defined(const Value& value) {
  if (value.is_undefined()) throw Failure(*value.undefined().message);
}

std::optional<Value> python_attribute(Interpreter& in, const Value& object, std::string_view name) {
  if (is_hidden_attribute(name)) return unsafe_attribute(object, name);
  if (const ObjectPtr other = object.object()) {
    std::optional<Value> value = other->attribute(in, name);
    if (value && name.substr(0, 1) == "_") return unsafe_attribute(object, name);
    return value;
  }
  if (const SequencePtr group = object.sequence();
      group != nullptr && group->type() == Sequence::Type::group) {
    if (name == "grouper") return group->items()[0];
    if (name == "list") return group->items()[1];
  }
  return get_method(object, name);
}

Value get_attribute(Interpreter& in, const Value& object, std::string_view name) {
  require_defined(object);
  if (std::optional<Value> value = python_attribute(in, object, name)) return *std::move(value);
  if (const DictPtr dict = object.dict()) {
    if (const Value* found = dict->find(name)) return *found;
  }
  return undefined_value("'" + owner_name(object) + "' has no attribute '" + std::string(name) +
                         "'");
}

Value get_item(Interpreter& in, const Value& object, const Value& key) {
  require_defined(object);
  if (std::optional<Value> value = python_item(in, object, key)) return *std::move(value);
  const TextPtr name = key.text();
  if (name != nullptr) {
    if (std::optional<Value> value = python_attribute(in, object, name->view())) {
      return *std::move(value);
    }
    return undefined_value("'" + owner_name(object) + "' has no attribute '" +
                           std::string(name->view().substr(0, 100)) + "'");
  }
  TextBuilder shown(in.budget());
  print_repr(in, key, shown);
  return undefined_value(owner_name(object) + " has no element " + shown.bytes().substr(0, 100));
}

Value get_slice(Interpreter& in, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  require_defined(object);
  const ObjectPtr other = object.object();
  const bool sliceable = object.is_text() || object.sequence() != nullptr ||
                         (other != nullptr && other->has_elements());
  if (!sliceable) throw Failure("'" + object.type_name() + "' object cannot be sliced");
  const std::size_t length = require_length(object);
  const SliceRange range = slice_range(start, stop, step, static_cast<Int>(length));
  if (const TextPtr text = object.text()) return slice_of_text(in, text, range);
  std::vector<Value> items;
  in.budget().step(range.count);
  items.reserve(range.count);
  const SequencePtr sequence = object.sequence();
  Int index = range.start;
  for (std::size_t i = 0; i < range.count; ++i, index += range.step) {
    items.push_back(sequence != nullptr ? sequence->items()[static_cast<std::size_t>(index)]
                                        : *other->element(index));
  }
  return sequence != nullptr && !sequence->is_list() ? in.tuple(std::move(items))
                                                     : in.list(std::move(items));
}

std::optional<std::size_t> length_of(const Value& value) {
  if (value.is_undefined()) return 0;
  if (const TextPtr text = value.text()) return text->characters();
  if (const SequencePtr sequence = value.sequence()) return sequence->items().size();
  if (const DictPtr dict = value.dict()) return dict->entries().size();
  const ObjectPtr object = value.object();
  return object != nullptr ? object->length() : std::nullopt;
}

std::size_t require_length(const Value& value) {
  const std::optional<std::size_t> length = length_of(value);
  if (!length) throw Failure("object of type '" + value.type_name() + "' has no length");
  return *length;
}

bool is_iterable(const Value& value) {
  const ObjectPtr object = value.object();
  return value.is_undefined() || value.is_text() || value.sequence() != nullptr ||
         value.dict() != nullptr || (object != nullptr && object->iterable());
}

Cursor::Cursor(Interpreter& in, Value value) : in_(&in), value_(std::move(value)) {
  if (!is_iterable(value_)) throw Failure("'" + value_.type_name() + "' object is not iterable");
}

bool Cursor::next(Value& item) {
  in_->budget().step();
  if (const SequencePtr sequence = value_.sequence()) {
    if (position_ >= sequence->items().size()) return false;
    item = sequence->items()[position_++];
    return true;
  }
  if (const TextPtr text = value_.text()) {
    if (position_ >= text->size()) return false;
    const std::size_t end = position_ + character_at(text->view(), position_).bytes;
    TextBuilder character(in_->budget());  // never markup, as in Python
    character.append(*text, position_, end);
    item = character.finish();
    position_ = end;
    return true;
  }
  if (const DictPtr dict = value_.dict()) {
    if (position_ >= dict->entries().size()) return false;
    item = dict->entries()[position_++].first;
    return true;
  }
  const ObjectPtr object = value_.object();
  if (object == nullptr) return false;  // undefined
  std::optional<Value> next = object->next(position_);
  if (!next) return false;
  ++position_;
  item = *std::move(next);
  return true;
}

std::vector<Value> items_of(Interpreter& in, const Value& value) {
  std::vector<Value> items;
  Cursor cursor(in, value);
  Value item;
  while (cursor.next(item)) items.push_back(item);
  return items;
}

Int require_int(const Value& value, std::string_view what) {
  require_defined(value);
  if (!value.is_integral()) {
    throw Failure(std::string(what) + " must be an integer, not " + value.type_name());
  }
  return value.integer();
}

TextPtr require_text(const Value& value, std::string_view what) {
  require_defined(value);
  TextPtr text = value.text();
  if (text == nullptr) {
    throw Failure(std::string(what) + " must be a string, not " + value.type_name());
  }
  return text;
}

}  // namespace nemo::text::jinja
