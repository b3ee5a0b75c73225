// The tests behind `is`.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_objects.hpp"

#include <algorithm>

namespace nemo::text::jinja {
namespace {

using Test = bool (*)(const Value&);

template <Test test>
bool plain(Interpreter&, const Value& input, const Arguments& arguments) {
  const Parameters none("test", arguments, {});
  return test(input);
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_boolean(const Value& v) { return v.is_bool(); }
bool is_true(const Value& v) { return v.is_bool() && v.truthy(); }
bool is_false(const Value& v) { return v.is_bool() && !v.truthy(); }
bool is_integer(const Value& v) { return v.is_int(); }
bool is_float(const Value& v) { return v.is_float(); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.is_text(); }
bool is_mapping(const Value& v) { return v.dict() != nullptr; }
bool is_escaped(const Value& v) { return v.is_text() && v.text()->markup(); }

// Python: has a length and elements.
bool is_sequence(const Value& v) {
  const ObjectPtr object = v.object();
  return v.is_undefined() || v.is_text() || v.sequence() != nullptr || v.dict() != nullptr ||
         (object != nullptr && object->has_elements());
}

bool is_callable(const Value& v) {
  const ObjectPtr object = v.object();
  return v.is_undefined() || (object != nullptr && object->callable());
}

// value % divisor == rest
bool has_remainder(Interpreter& in, const Value& value, const Value& divisor, int rest) {
  return equal(arithmetic(in, ArithmeticOperator::modulo, value, divisor), Value(rest),
               in.budget());
}

template <int rest>
bool parity(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("odd/even", arguments, {});
  return has_remainder(in, input, Value(2), rest);
}

bool divisible_by(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("divisibleby", arguments, {"num"}, 1);
  return has_remainder(in, input, parameters.get(0), 0);
}

template <ComparisonOperator op>
bool compared(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("comparison test", arguments, {"other"}, 1);
  return compare(in, op, input, parameters.get(0));
}

bool same_as(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters parameters("sameas", arguments, {"other"}, 1);
  const Value& other = parameters.get(0);
  if (input.type_name() != other.type_name()) return false;
  if (input.sequence() != nullptr) return input.sequence() == other.sequence();
  if (input.dict() != nullptr) return input.dict() == other.dict();
  if (input.is_text()) return input.text() == other.text();
  return equal(input, other, in.budget());
}

template <bool upper>
bool letter_case(Interpreter& in, const Value& input, const Arguments& arguments) {
  const Parameters none("upper/lower", arguments, {});
  const Value text = to_text(in, input);
  return find_text_predicate(upper ? "isupper" : "islower")->body(in, text, {}).truthy();
}

bool iterable(Interpreter&, const Value& input, const Arguments& arguments) {
  const Parameters none("iterable", arguments, {});
  return is_iterable(input);
}

bool filter_exists(Interpreter&, const Value& input, const Arguments& arguments) {
  const Parameters none("filter", arguments, {});
  return input.is_text() && find_filter(input.text()->view()) != nullptr;
}

bool test_exists(Interpreter&, const Value& input, const Arguments& arguments) {
  const Parameters none("test", arguments, {});
  return input.is_text() && find_test(input.text()->view()) != nullptr;
}

struct TestEntry {
  std::string_view name;
  TestFunction function;
};

using Op = ComparisonOperator;
constexpr TestEntry kTests[] = {
    {"!=", compared<Op::not_equal>},
    {"<", compared<Op::less>},
    {"<=", compared<Op::less_equal>},
    {"==", compared<Op::equal>},
    {">", compared<Op::greater>},
    {">=", compared<Op::greater_equal>},
    {"boolean", plain<is_boolean>},
    {"callable", plain<is_callable>},
    {"defined", plain<is_defined>},
    {"divisibleby", divisible_by},
    {"eq", compared<Op::equal>},
    {"equalto", compared<Op::equal>},
    {"escaped", plain<is_escaped>},
    {"even", parity<0>},
    {"false", plain<is_false>},
    {"filter", filter_exists},
    {"float", plain<is_float>},
    {"ge", compared<Op::greater_equal>},
    {"greaterthan", compared<Op::greater>},
    {"gt", compared<Op::greater>},
    {"in", compared<Op::in>},
    {"integer", plain<is_integer>},
    {"iterable", iterable},
    {"le", compared<Op::less_equal>},
    {"lessthan", compared<Op::less>},
    {"lower", letter_case<false>},
    {"lt", compared<Op::less>},
    {"mapping", plain<is_mapping>},
    {"ne", compared<Op::not_equal>},
    {"none", plain<is_none>},
    {"number", plain<is_number>},
    {"odd", parity<1>},
    {"sameas", same_as},
    {"sequence", plain<is_sequence>},
    {"string", plain<is_string>},
    {"test", test_exists},
    {"true", plain<is_true>},
    {"undefined", plain<is_undefined>},
    {"upper", letter_case<true>},
};

}  // namespace

TestFunction find_test(std::string_view name) {
  const auto found = std::find_if(std::begin(kTests), std::end(kTests),
                                  [&](const TestEntry& entry) { return entry.name == name; });
  return found == std::end(kTests) ? nullptr : found->function;
}

}  // namespace nemo::text::jinja
