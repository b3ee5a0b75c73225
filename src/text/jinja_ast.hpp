// The syntax tree of a template. Chains of one precedence are flat vectors, so that the depth of
// the tree is the depth of the nesting in the source, which the parser bounds.
#pragma once

#include "src/text/jinja_value.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace nemo::text::jinja {

/// Index of a name in Program::names.
using Symbol = std::uint32_t;

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;
struct Statement;
using Block = std::vector<Statement>;

using FilterFunction = Value (*)(Interpreter&, const Value& input, const Arguments&);
using TestFunction = bool (*)(Interpreter&, const Value& input, const Arguments&);

/// One argument of a call as written: x, name=x, *x or **x.
struct ArgumentNode {
  enum class Kind : std::uint8_t { positional, named, spread, spread_named };
  Kind kind = Kind::positional;
  std::string name;  // of a named one
  ExpressionPtr value;
};

struct Constant {
  Value value;
};
struct Variable {
  Symbol symbol = 0;
};
struct ListLiteral {
  bool tuple = false;
  std::vector<ExpressionPtr> items;
};
struct DictLiteral {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};
struct AttributeAccess {
  ExpressionPtr object;
  std::string name;
};
struct ItemAccess {
  ExpressionPtr object;
  ExpressionPtr key;
};
struct SliceAccess {
  ExpressionPtr object;
  ExpressionPtr start, stop, step;  // null where left out
};
struct Call {
  ExpressionPtr callee;
  std::vector<ArgumentNode> arguments;
};
/// A filter applied to what comes before it.
struct FilterStep {
  std::string name;
  FilterFunction function = nullptr;  // null: unknown, fails when it is reached
  std::vector<ArgumentNode> arguments;
};
struct Filtered {
  ExpressionPtr input;
  FilterStep step;
};
struct Tested {
  ExpressionPtr input;
  std::string name;
  TestFunction function = nullptr;  // as above
  std::vector<ArgumentNode> arguments;
};
struct Unary {
  enum class Operator : std::uint8_t { negate, plus, logical_not };
  Operator op = Operator::negate;
  ExpressionPtr operand;
};
enum class ArithmeticOperator : std::uint8_t {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power
};
/// first op second op third ..., from left to right.
struct Arithmetic {
  ExpressionPtr first;
  std::vector<std::pair<ArithmeticOperator, ExpressionPtr>> rest;
};
struct Concatenation {
  std::vector<ExpressionPtr> parts;
};
enum class ComparisonOperator : std::uint8_t {
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in
};
/// a < b <= c ...: every operand is evaluated once, until a comparison is false.
struct Comparison {
  ExpressionPtr first;
  std::vector<std::pair<ComparisonOperator, ExpressionPtr>> rest;
};
struct Logic {
  bool any = false;  // or; else and
  std::vector<ExpressionPtr> operands;
};
struct Conditional {
  ExpressionPtr test, yes, no;  // `no` may be null
};

struct Expression {
  std::variant<Constant, Variable, ListLiteral, DictLiteral, AttributeAccess, ItemAccess,
               SliceAccess, Call, Filtered, Tested, Unary, Arithmetic, Concatenation, Comparison,
               Logic, Conditional>
      node;
  std::uint32_t line = 0;
  std::uint32_t depth = 1;  // of the tree below and including it
};

struct Target;
struct NamespaceTarget {
  Symbol object = 0;
  std::string attribute;
};
/// What `set`, `for` and `with` assign to.
struct Target {
  std::variant<Symbol, NamespaceTarget, std::vector<Target>> node;
};

struct TextNode {
  TextPtr text;
};
struct Print {
  ExpressionPtr value;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};
struct For {
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr filter;  // may be null
  Block body;
  Block otherwise;
  bool recursive = false;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
struct SetBlock {
  Target target;
  std::vector<FilterStep> filters;
  Block body;
};
struct Parameter {
  Symbol symbol = 0;
  std::string name;
  ExpressionPtr fallback;  // may be null
};
struct MacroNode {
  std::string name;  // empty for a caller block
  std::vector<Parameter> parameters;
  Block body;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};
struct MacroDefinition {
  Symbol symbol = 0;
  MacroNode macro;
};
struct CallBlock {
  ExpressionPtr call;  // a Call
  MacroNode caller;
};
struct FilterBlock {
  std::vector<FilterStep> filters;
  Block body;
};
struct With {
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  Block body;
};
/// A body with its own variables: {% generation %}, which marks what a trainer learns from, and
/// {% autoescape false %}.
struct Scoped {
  Block body;
};
struct Break {};
struct Continue {};

struct Statement {
  std::variant<TextNode, Print, If, For, Set, SetBlock, MacroDefinition, CallBlock, FilterBlock,
               With, Scoped, Break, Continue>
      node;
  std::uint32_t line = 0;
};

/// A parsed template.
struct Program {
  Block body;
  std::vector<std::string> names;  // by Symbol
  // Names with a meaning of their own.
  Symbol loop = 0, caller = 0, varargs = 0, kwargs = 0;
};

/// Null when there is no filter or test of that name.
[[nodiscard]] FilterFunction find_filter(std::string_view name);
[[nodiscard]] TestFunction find_test(std::string_view name);

}  // namespace nemo::text::jinja
