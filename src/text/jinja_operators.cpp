// Python's operators on template values.
#include "src/text/jinja_objects.hpp"
#include "src/text/jinja_operations.hpp"
#include "src/text/python_unicode.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nemo::text::jinja {
namespace {

using Op = ArithmeticOperator;

std::string_view symbol_of(Op op) {
  switch (op) {
    case Op::add:
      return "+";
    case Op::subtract:
      return "-";
    case Op::multiply:
      return "*";
    case Op::divide:
      return "/";
    case Op::floor_divide:
      return "//";
    case Op::modulo:
      return "%";
    default:
      return "**";
  }
}

[[noreturn]] void fail_types(Op op, const Value& a, const Value& b) {
  throw Failure("unsupported operand types for " + std::string(symbol_of(op)) + ": '" +
                a.type_name() + "' and '" + b.type_name() + "'");
}

[[noreturn]] void fail_overflow() { throw Failure("an integer result does not fit into 128 bits"); }

void require_divisor(bool zero) {
  if (zero) throw Failure("division by zero");
}

Int integer_power(Int base, Int exponent) {
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) fail_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail_overflow();
  }
  return result;
}

double float_power(double base, double exponent) {
  if (base == 0.0 && exponent < 0.0) throw Failure("0.0 cannot be raised to a negative power");
  const double result = std::pow(base, exponent);
  if (std::isnan(result) && !std::isnan(base) && !std::isnan(exponent)) {
    throw Failure("a power of a negative number is not real");
  }
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) {
    throw Failure("the result of ** is too large");
  }
  return result;
}

Value integer_arithmetic(Op op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case Op::add:
      if (__builtin_add_overflow(a, b, &result)) fail_overflow();
      return result;
    case Op::subtract:
      if (__builtin_sub_overflow(a, b, &result)) fail_overflow();
      return result;
    case Op::multiply:
      if (__builtin_mul_overflow(a, b, &result)) fail_overflow();
      return result;
    case Op::divide:
      require_divisor(b == 0);
      return static_cast<double>(a) / static_cast<double>(b);
    case Op::floor_divide:
      require_divisor(b == 0);
      if (b == -1 && a == std::numeric_limits<Int>::min()) fail_overflow();
      return floor_div(a, b);
    case Op::modulo:
      require_divisor(b == 0);
      return floor_mod(a, b);
    default:
      if (b < 0) return float_power(static_cast<double>(a), static_cast<double>(b));
      return integer_power(a, b);
  }
}

Value float_arithmetic(Op op, double a, double b) {
  switch (op) {
    case Op::add:
      return a + b;
    case Op::subtract:
      return a - b;
    case Op::multiply:
      return a * b;
    case Op::divide:
      require_divisor(b == 0.0);
      return a / b;
    case Op::floor_divide:
      require_divisor(b == 0.0);
      return floor_div(a, b);
    case Op::modulo:
      require_divisor(b == 0.0);
      return floor_mod(a, b);
    default:
      return float_power(a, b);
  }
}

// `count` repetitions of something of `size` bytes or items; refused before any of them is made.
std::size_t repetitions(Interpreter& in, Int count, std::size_t size) {
  if (count <= 0 || size == 0) return 0;
  constexpr Int kAny = Int{1} << 40;  // far above every limit
  const Int total = std::min(count, kAny) * static_cast<Int>(size);
  in.budget().check_text(static_cast<std::size_t>(std::min(total, kAny)));
  return static_cast<std::size_t>(count);
}

Value repeat(Interpreter& in, const Value& value, Int count) {
  if (const TextPtr text = value.text()) {
    TextBuilder builder(in.budget());
    for (std::size_t i = repetitions(in, count, text->size()); i > 0; --i) builder.append(*text);
    return builder.finish(text->markup());
  }
  const SequencePtr sequence = value.sequence();
  const std::size_t times = repetitions(in, count, sequence->items().size() * sizeof(Value));
  in.budget().step(times * sequence->items().size());
  std::vector<Value> items;
  items.reserve(times * sequence->items().size());
  for (std::size_t i = 0; i < times; ++i) {
    items.insert(items.end(), sequence->items().begin(), sequence->items().end());
  }
  return sequence->is_list() ? in.list(std::move(items)) : in.tuple(std::move(items));
}

std::optional<Value> sequence_arithmetic(Interpreter& in, Op op, const Value& a, const Value& b) {
  const SequencePtr x = a.sequence();
  const SequencePtr y = b.sequence();
  if (op == Op::multiply) {
    if ((a.is_text() || x != nullptr) && b.is_integral()) return repeat(in, a, b.integer());
    if ((b.is_text() || y != nullptr) && a.is_integral()) return repeat(in, b, a.integer());
  }
  if (op == Op::modulo && a.is_text()) return format_percent(in, a.text(), b);
  if (op != Op::add) return std::nullopt;
  if (a.is_text() && b.is_text()) return join_texts(in, a.text(), b.text());
  if (x == nullptr || y == nullptr || x->is_list() != y->is_list()) return std::nullopt;
  std::vector<Value> items;
  in.budget().step(x->items().size() + y->items().size());
  items.reserve(x->items().size() + y->items().size());
  items.insert(items.end(), x->items().begin(), x->items().end());
  items.insert(items.end(), y->items().begin(), y->items().end());
  return x->is_list() ? in.list(std::move(items)) : in.tuple(std::move(items));
}

bool less_or_equal(Interpreter& in, const Value& a, const Value& b) {
  const auto is_nan = [](const Value& v) { return v.is_float() && std::isnan(v.real()); };
  if (is_nan(a) || is_nan(b)) {
    static_cast<void>(less(a, b, in.budget()));  // for its complaint about types
    return false;
  }
  return !less(b, a, in.budget());
}

}  // namespace

Value arithmetic(Interpreter& in, ArithmeticOperator op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return integer_arithmetic(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return float_arithmetic(op, a.real(), b.real());
  // A text decides before the undefined value does: "%s" % undefined is fine.
  if (!(op == Op::modulo && a.is_text())) {
    require_defined(a);
    require_defined(b);
  }
  if (std::optional<Value> result = sequence_arithmetic(in, op, a, b)) return *std::move(result);
  fail_types(op, a, b);
}

Value negate(const Value& value) {
  require_defined(value);
  if (value.is_float()) return -value.real();
  if (!value.is_integral()) {
    throw Failure("bad operand type for unary -: '" + value.type_name() + "'");
  }
  Int result = 0;
  if (__builtin_sub_overflow(Int{0}, value.integer(), &result)) fail_overflow();
  return result;
}

Value plus(const Value& value) {
  require_defined(value);
  if (value.is_float()) return value;
  if (value.is_integral()) return value.integer();
  throw Failure("bad operand type for unary +: '" + value.type_name() + "'");
}

bool compare(Interpreter& in, ComparisonOperator op, const Value& a, const Value& b) {
  switch (op) {
    case ComparisonOperator::equal:
      return equal(a, b, in.budget());
    case ComparisonOperator::not_equal:
      return !equal(a, b, in.budget());
    case ComparisonOperator::less:
      return less(a, b, in.budget());
    case ComparisonOperator::less_equal:
      return less_or_equal(in, a, b);
    case ComparisonOperator::greater:
      return less(b, a, in.budget());
    case ComparisonOperator::greater_equal:
      return less_or_equal(in, b, a);
    case ComparisonOperator::in:
      return contains(in, b, a);
    default:
      return !contains(in, b, a);
  }
}

bool contains(Interpreter& in, const Value& container, const Value& item) {
  if (const TextPtr text = container.text()) {
    const TextPtr part = item.text();
    if (part == nullptr) {
      throw Failure("'in' on a string needs a string to look for, not " + item.type_name());
    }
    in.budget().touch(text->size());
    return find_text(text->view(), part->view(), 0) != std::string_view::npos;
  }
  if (const DictPtr dict = container.dict()) {
    in.budget().step();
    require_hashable(item);
    return dict->find(item) != nullptr;
  }
  if (!is_iterable(container)) {
    throw Failure("'in' cannot search a value of type '" + container.type_name() + "'");
  }
  Cursor cursor(in, container);
  Value element;
  while (cursor.next(element)) {
    if (equal(element, item, in.budget())) return true;
  }
  return false;
}

}  // namespace nemo::text::jinja
