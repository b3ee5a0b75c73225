// The expressions of the template language, by recursive descent.
#include "src/text/jinja_parser.hpp"

#include <algorithm>
#include <optional>

namespace nemo::text::jinja {
namespace {

// Depth of the deepest child of a node.
class ChildDepth {
 public:
  std::uint32_t operator()(const Constant&) const { return 0; }
  std::uint32_t operator()(const Variable&) const { return 0; }
  std::uint32_t operator()(const ListLiteral& n) const { return of(n.items); }
  std::uint32_t operator()(const DictLiteral& n) const {
    std::uint32_t depth = 0;
    for (const auto& [key, value] : n.entries) depth = std::max({depth, of(key), of(value)});
    return depth;
  }
  std::uint32_t operator()(const AttributeAccess& n) const { return of(n.object); }
  std::uint32_t operator()(const ItemAccess& n) const { return std::max(of(n.object), of(n.key)); }
  std::uint32_t operator()(const SliceAccess& n) const {
    return std::max({of(n.object), of(n.start), of(n.stop), of(n.step)});
  }
  std::uint32_t operator()(const Call& n) const { return std::max(of(n.callee), of(n.arguments)); }
  std::uint32_t operator()(const Filtered& n) const {
    return std::max(of(n.input), of(n.step.arguments));
  }
  std::uint32_t operator()(const Tested& n) const { return std::max(of(n.input), of(n.arguments)); }
  std::uint32_t operator()(const Unary& n) const { return of(n.operand); }
  std::uint32_t operator()(const Arithmetic& n) const { return std::max(of(n.first), of(n.rest)); }
  std::uint32_t operator()(const Concatenation& n) const { return of(n.parts); }
  std::uint32_t operator()(const Comparison& n) const { return std::max(of(n.first), of(n.rest)); }
  std::uint32_t operator()(const Logic& n) const { return of(n.operands); }
  std::uint32_t operator()(const Conditional& n) const {
    return std::max({of(n.test), of(n.yes), of(n.no)});
  }

 private:
  static std::uint32_t of(const ExpressionPtr& child) { return child ? child->depth : 0; }
  static std::uint32_t of(const ArgumentNode& argument) { return of(argument.value); }
  template <class Operator>
  static std::uint32_t of(const std::pair<Operator, ExpressionPtr>& operand) {
    return of(operand.second);
  }
  template <class Child>
  static std::uint32_t of(const std::vector<Child>& children) {
    std::uint32_t depth = 0;
    for (const Child& child : children) depth = std::max(depth, of(child));
    return depth;
  }
};

std::optional<ArithmeticOperator> product_operator(std::string_view op) {
  if (op == "*") return ArithmeticOperator::multiply;
  if (op == "/") return ArithmeticOperator::divide;
  if (op == "//") return ArithmeticOperator::floor_divide;
  if (op == "%") return ArithmeticOperator::modulo;
  return std::nullopt;
}

std::optional<ComparisonOperator> comparison_operator(std::string_view op) {
  if (op == "==") return ComparisonOperator::equal;
  if (op == "!=") return ComparisonOperator::not_equal;
  if (op == "<") return ComparisonOperator::less;
  if (op == "<=") return ComparisonOperator::less_equal;
  if (op == ">") return ComparisonOperator::greater;
  if (op == ">=") return ComparisonOperator::greater_equal;
  return std::nullopt;
}

}  // namespace

void Parser::finish(Expression& expression) const {
  expression.depth = std::visit(ChildDepth{}, expression.node) + 1;
  if (expression.depth > kMaxNesting) fail("an expression is nested too deeply");
}

bool Parser::at_tuple_end() const {
  const Token::Kind kind = current().kind;
  return kind == Token::Kind::print_end || kind == Token::Kind::block_end || is_op(")") ||
         kind == Token::Kind::end;
}

ExpressionPtr Parser::parse_tuple(bool with_conditional, bool parenthesised) {
  const std::uint32_t line = current().line;
  std::vector<ExpressionPtr> items;
  bool tuple = false;
  while (!at_tuple_end() && !(tuple && is_name("recursive"))) {
    items.push_back(parse_expression(with_conditional));
    if (!skip_op(",")) break;
    tuple = true;
  }
  if (!tuple && !items.empty()) return std::move(items.front());
  if (!tuple && !parenthesised) fail("expected an expression, got " + describe());
  return make(ListLiteral{true, std::move(items)}, line);
}

ExpressionPtr Parser::parse_expression(bool with_conditional) {
  const Level level(*this);
  const std::uint32_t line = current().line;
  ExpressionPtr value = parse_logic(true);
  while (with_conditional && skip_name("if")) {
    ExpressionPtr test = parse_logic(true);
    ExpressionPtr otherwise = skip_name("else") ? parse_expression() : nullptr;
    value = make(Conditional{std::move(test), std::move(value), std::move(otherwise)}, line);
  }
  return value;
}

ExpressionPtr Parser::parse_logic(bool any) {
  const std::uint32_t line = current().line;
  const auto operand = [&] { return any ? parse_logic(false) : parse_not(); };
  std::vector<ExpressionPtr> operands;
  operands.push_back(operand());
  while (skip_name(any ? "or" : "and")) operands.push_back(operand());
  if (operands.size() == 1) return std::move(operands.front());
  return make(Logic{any, std::move(operands)}, line);
}

ExpressionPtr Parser::parse_not() {
  const std::uint32_t line = current().line;
  if (!skip_name("not")) return parse_comparison();
  const Level level(*this);
  return make(Unary{Unary::Operator::logical_not, parse_not()}, line);
}

ExpressionPtr Parser::parse_comparison() {
  const std::uint32_t line = current().line;
  ExpressionPtr first = parse_sum();
  std::vector<std::pair<ComparisonOperator, ExpressionPtr>> rest;
  for (;;) {
    std::optional<ComparisonOperator> op;
    if (current().kind == Token::Kind::op) op = comparison_operator(current().text);
    if (is_name("in")) op = ComparisonOperator::in;
    if (is_name("not") && ahead().kind == Token::Kind::name && ahead().text == "in") {
      op = ComparisonOperator::not_in;
      advance();
    }
    if (!op) break;
    advance();
    rest.emplace_back(*op, parse_sum());
  }
  if (rest.empty()) return first;
  return make(Comparison{std::move(first), std::move(rest)}, line);
}

ExpressionPtr Parser::parse_sum() {
  const std::uint32_t line = current().line;
  ExpressionPtr first = parse_concatenation();
  std::vector<std::pair<ArithmeticOperator, ExpressionPtr>> rest;
  while (is_op("+") || is_op("-")) {
    const auto op = is_op("+") ? ArithmeticOperator::add : ArithmeticOperator::subtract;
    advance();
    rest.emplace_back(op, parse_concatenation());
  }
  if (rest.empty()) return first;
  return make(Arithmetic{std::move(first), std::move(rest)}, line);
}

ExpressionPtr Parser::parse_concatenation() {
  const std::uint32_t line = current().line;
  std::vector<ExpressionPtr> parts;
  parts.push_back(parse_product());
  while (skip_op("~")) parts.push_back(parse_product());
  if (parts.size() == 1) return std::move(parts.front());
  return make(Concatenation{std::move(parts)}, line);
}

ExpressionPtr Parser::parse_product() {
  const std::uint32_t line = current().line;
  ExpressionPtr first = parse_power();
  std::vector<std::pair<ArithmeticOperator, ExpressionPtr>> rest;
  while (current().kind == Token::Kind::op) {
    const std::optional<ArithmeticOperator> op = product_operator(current().text);
    if (!op) break;
    advance();
    rest.emplace_back(*op, parse_power());
  }
  if (rest.empty()) return first;
  return make(Arithmetic{std::move(first), std::move(rest)}, line);
}

ExpressionPtr Parser::parse_power() {
  const std::uint32_t line = current().line;
  ExpressionPtr first = parse_unary();
  std::vector<std::pair<ArithmeticOperator, ExpressionPtr>> rest;
  while (skip_op("**")) rest.emplace_back(ArithmeticOperator::power, parse_unary());
  if (rest.empty()) return first;
  return make(Arithmetic{std::move(first), std::move(rest)}, line);
}

ExpressionPtr Parser::parse_unary(bool with_filters) {
  const Level level(*this);
  const std::uint32_t line = current().line;
  ExpressionPtr value;
  if (skip_op("-")) {
    value = make(Unary{Unary::Operator::negate, parse_unary(false)}, line);
  } else if (skip_op("+")) {
    value = make(Unary{Unary::Operator::plus, parse_unary(false)}, line);
  } else {
    value = parse_primary();
  }
  value = parse_postfix(std::move(value));
  return with_filters ? parse_filters(std::move(value)) : std::move(value);
}

ExpressionPtr Parser::parse_primary() {
  const Token token = current();
  switch (token.kind) {
    case Token::Kind::name: {
      advance();
      if (token.text == "true" || token.text == "True") return make(Constant{true}, token.line);
      if (token.text == "false" || token.text == "False") return make(Constant{false}, token.line);
      if (token.text == "none" || token.text == "None") return make(Constant{None{}}, token.line);
      note_use(token.text);
      return make(Variable{symbol(token.text)}, token.line);
    }
    case Token::Kind::string: {
      std::string text;
      while (current().kind == Token::Kind::string) {
        text += current().text;
        advance();
      }
      return make(Constant{literal_text(std::move(text))}, token.line);
    }
    case Token::Kind::number:
      advance();
      return make(Constant{token.number}, token.line);
    default:
      break;
  }
  if (is_op("[")) return parse_list();
  if (is_op("{")) return parse_dict();
  if (!skip_op("(")) fail("unexpected " + describe());
  ExpressionPtr value = parse_tuple(true, true);
  expect_op(")");
  return value;
}

ExpressionPtr Parser::parse_list() {
  const std::uint32_t line = current().line;
  expect_op("[");
  std::vector<ExpressionPtr> items;
  while (!is_op("]")) {
    items.push_back(parse_expression());
    if (!is_op("]")) expect_op(",");
  }
  expect_op("]");
  return make(ListLiteral{false, std::move(items)}, line);
}

ExpressionPtr Parser::parse_dict() {
  const std::uint32_t line = current().line;
  expect_op("{");
  DictLiteral dict;
  while (!is_op("}")) {
    ExpressionPtr key = parse_expression();
    expect_op(":");
    dict.entries.emplace_back(std::move(key), parse_expression());
    if (!is_op("}")) expect_op(",");
  }
  expect_op("}");
  return make(std::move(dict), line);
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr value) {
  for (;;) {
    const std::uint32_t line = current().line;
    if (is_op(".") || is_op("[")) {
      value = parse_element(std::move(value));
    } else if (is_op("(")) {
      value = make(Call{std::move(value), parse_arguments()}, line);
    } else {
      return value;
    }
  }
}

ExpressionPtr Parser::parse_filters(ExpressionPtr value) {
  for (;;) {
    const std::uint32_t line = current().line;
    if (skip_op("|")) {
      value = make(Filtered{std::move(value), parse_filter_step()}, line);
    } else if (is_name("is")) {
      value = parse_test(std::move(value));
    } else if (is_op("(")) {
      value = make(Call{std::move(value), parse_arguments()}, line);
    } else {
      return value;
    }
  }
}

ExpressionPtr Parser::parse_element(ExpressionPtr value) {
  const std::uint32_t line = current().line;
  if (skip_op(".")) {
    const Token token = current();
    advance();
    if (token.kind == Token::Kind::name) {
      return make(AttributeAccess{std::move(value), token.text}, line);
    }
    if (token.kind != Token::Kind::number || !token.number.is_int()) {
      fail("expected a name or a number after '.'");
    }
    return make(ItemAccess{std::move(value), make(Constant{token.number}, line)}, line);
  }
  expect_op("[");
  ExpressionPtr start = is_op(":") ? nullptr : parse_expression();
  if (skip_op("]")) return make(ItemAccess{std::move(value), std::move(start)}, line);
  if (is_op(",")) {
    std::vector<ExpressionPtr> keys;
    keys.push_back(std::move(start));
    while (skip_op(",")) keys.push_back(parse_expression());
    expect_op("]");
    return make(ItemAccess{std::move(value), make(ListLiteral{true, std::move(keys)}, line)}, line);
  }
  expect_op(":");
  ExpressionPtr stop = is_op(":") || is_op("]") ? nullptr : parse_expression();
  ExpressionPtr step;
  if (skip_op(":") && !is_op("]")) step = parse_expression();
  expect_op("]");
  return make(SliceAccess{std::move(value), std::move(start), std::move(stop), std::move(step)},
              line);
}

ExpressionPtr Parser::parse_test(ExpressionPtr value) {
  const std::uint32_t line = current().line;
  advance();  // is
  const bool negated = skip_name("not");
  Tested test;
  test.input = std::move(value);
  test.name = expect_name();
  while (skip_op(".")) test.name += "." + expect_name();
  test.function = find_test(test.name);
  const Token::Kind kind = current().kind;
  const bool starts_value = kind == Token::Kind::name || kind == Token::Kind::string ||
                            kind == Token::Kind::number || is_op("[") || is_op("{");
  if (is_op("(")) {
    test.arguments = parse_arguments();
  } else if (is_name("is")) {
    fail("tests cannot be chained with 'is'; use 'and'");
  } else if (starts_value && !is_name("else") && !is_name("or") && !is_name("and")) {
    // `x is divisibleby 3`
    test.arguments.push_back({ArgumentNode::Kind::positional, {}, parse_postfix(parse_primary())});
  }
  ExpressionPtr result = make(std::move(test), line);
  if (!negated) return result;
  return make(Unary{Unary::Operator::logical_not, std::move(result)}, line);
}

FilterStep Parser::parse_filter_step() {
  FilterStep step;
  step.name = expect_name();
  while (skip_op(".")) step.name += "." + expect_name();
  step.function = find_filter(step.name);
  if (is_op("(")) step.arguments = parse_arguments();
  return step;
}

std::vector<ArgumentNode> Parser::parse_arguments() {
  using Kind = ArgumentNode::Kind;
  expect_op("(");
  std::vector<ArgumentNode> arguments;
  Kind last =
      Kind::positional;  // the kinds must come in their order, except that * may follow name=
  bool spread = false;
  while (!is_op(")")) {
    ArgumentNode argument;
    if (skip_op("*")) {
      argument.kind = Kind::spread;
    } else if (skip_op("**")) {
      argument.kind = Kind::spread_named;
    } else if (current().kind == Token::Kind::name && ahead().kind == Token::Kind::op &&
               ahead().text == "=") {
      argument.kind = Kind::named;
      argument.name = expect_name();
      advance();
    }
    const bool repeated_spread = argument.kind == Kind::spread && spread;
    const bool late_positional =
        argument.kind == Kind::positional && (last != Kind::positional || spread);
    if (last == Kind::spread_named || repeated_spread || late_positional) {
      fail("the arguments of a call must be values, then name=value, then *list, then **dict");
    }
    spread = spread || argument.kind == Kind::spread;
    last = argument.kind == Kind::spread ? last : argument.kind;
    argument.value = parse_expression();
    arguments.push_back(std::move(argument));
    if (!is_op(")")) expect_op(",");
  }
  expect_op(")");
  return arguments;
}

}  // namespace nemo::text::jinja
