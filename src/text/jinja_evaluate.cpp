// Evaluation of expressions.
#include "src/text/jinja_interpreter.hpp"
#include "src/text/jinja_operations.hpp"

namespace nemo::text::jinja {

Value Interpreter::evaluate(const Expression& expression) {
  const Level level(*this);
  budget_.step();
  line_ = expression.line;
  return std::visit([this](const auto& node) { return evaluate(node); }, expression.node);
}

Value Interpreter::lookup(Symbol symbol) {
  for (Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    for (const auto& [name, value] : scope->variables) {
      if (name == symbol) return value;
    }
  }
  if (globals_[symbol]) return *globals_[symbol];
  return undefined_value("'" + program_.names[symbol] + "' is undefined");
}

Value Interpreter::evaluate(const Variable& node) { return lookup(node.symbol); }

Value Interpreter::evaluate(const ListLiteral& node) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExpressionPtr& item : node.items) items.push_back(evaluate(*item));
  return node.tuple ? tuple(std::move(items)) : list(std::move(items));
}

Value Interpreter::evaluate(const DictLiteral& node) {
  auto dict = std::make_shared<Dict>(&budget_);
  for (const auto& [key, value] : node.entries) {
    Value key_value = evaluate(*key);
    dict->set(std::move(key_value), evaluate(*value));
  }
  return DictPtr(std::move(dict));
}

Value Interpreter::evaluate(const AttributeAccess& node) {
  return get_attribute(*this, evaluate(*node.object), node.name);
}

Value Interpreter::evaluate(const ItemAccess& node) {
  const Value object = evaluate(*node.object);
  return get_item(*this, object, evaluate(*node.key));
}

Value Interpreter::evaluate(const SliceAccess& node) {
  const Value object = evaluate(*node.object);
  const auto bound = [this](const ExpressionPtr& part) { return part ? evaluate(*part) : Value(); };
  const Value start = bound(node.start);
  const Value stop = bound(node.stop);
  return get_slice(*this, object, start, stop, bound(node.step));
}

Value Interpreter::evaluate(const Call& node) {
  const Value callee = evaluate(*node.callee);
  return call(callee, evaluate(node.arguments));
}

Arguments Interpreter::evaluate(const std::vector<ArgumentNode>& nodes) {
  Arguments arguments;
  for (const ArgumentNode& node : nodes) {
    Value value = evaluate(*node.value);
    switch (node.kind) {
      case ArgumentNode::Kind::positional:
        arguments.positional.push_back(std::move(value));
        break;
      case ArgumentNode::Kind::named:
        arguments.named.emplace_back(node.name, std::move(value));
        break;
      case ArgumentNode::Kind::spread:
        for (Value& item : items_of(*this, value)) arguments.positional.push_back(std::move(item));
        break;
      case ArgumentNode::Kind::spread_named: {
        const DictPtr dict = value.dict();
        if (dict == nullptr)
          throw Failure("argument after ** must be a mapping, not " + value.type_name());
        for (const auto& [key, item] : dict->entries()) {
          if (!key.is_text()) throw Failure("keywords must be strings");
          arguments.named.emplace_back(key.text()->view(), item);
        }
        break;
      }
    }
  }
  return arguments;
}

Value Interpreter::apply(const FilterStep& step, const Value& input) {
  if (step.function == nullptr) throw Failure("no filter named '" + step.name + "'");
  return step.function(*this, input, evaluate(step.arguments));
}

Value Interpreter::evaluate(const Filtered& node) {
  return apply(node.step, evaluate(*node.input));
}

Value Interpreter::evaluate(const Tested& node) {
  if (node.function == nullptr) throw Failure("no test named '" + node.name + "'");
  const Value input = evaluate(*node.input);
  return node.function(*this, input, evaluate(node.arguments));
}

Value Interpreter::evaluate(const Unary& node) {
  const Value operand = evaluate(*node.operand);
  switch (node.op) {
    case Unary::Operator::negate:
      return negate(operand);
    case Unary::Operator::plus:
      return plus(operand);
    default:
      return !operand.truthy();
  }
}

Value Interpreter::evaluate(const Arithmetic& node) {
  Value result = evaluate(*node.first);
  for (const auto& [op, operand] : node.rest) {
    result = arithmetic(*this, op, result, evaluate(*operand));
  }
  return result;
}

Value Interpreter::evaluate(const Concatenation& node) {
  TextBuilder builder(budget_);
  for (const ExpressionPtr& part : node.parts) print_value(*this, evaluate(*part), builder);
  return builder.finish();
}

Value Interpreter::evaluate(const Comparison& node) {
  Value left = evaluate(*node.first);
  for (const auto& [op, operand] : node.rest) {
    Value right = evaluate(*operand);
    if (!compare(*this, op, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate(const Logic& node) {
  Value result;
  for (const ExpressionPtr& operand : node.operands) {
    result = evaluate(*operand);
    if (result.truthy() == node.any) break;
  }
  return result;
}

Value Interpreter::evaluate(const Conditional& node) {
  if (evaluate(*node.test).truthy()) return evaluate(*node.yes);
  if (node.no) return evaluate(*node.no);
  return undefined_value("the condition of an inline 'if' is false and it has no 'else'");
}

}  // namespace nemo::text::jinja
