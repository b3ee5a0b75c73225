// Execution of statements, macros and loops.
#include "src/text/jinja_interpreter.hpp"
#include "src/text/jinja_objects.hpp"
#include "src/text/jinja_operations.hpp"

#include <algorithm>

namespace nemo::text::jinja {

Interpreter::Flow Interpreter::execute(const Block& block) {
  const Level level(*this);
  for (const Statement& statement : block) {
    budget_.step();
    line_ = statement.line;
    const Flow flow =
        std::visit([this](const auto& node) { return execute(node); }, statement.node);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const TextNode& node) {
  output_->append(*node.text);
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const Print& node) {
  const Value value = evaluate(*node.value);
  print_value(*this, value, *output_);
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const If& node) {
  for (const auto& [test, body] : node.branches) {
    if (evaluate(*test).truthy()) return execute(body);
  }
  return execute(node.otherwise);
}

Interpreter::Flow Interpreter::execute(const For& node) {
  run_loop(node, evaluate(*node.iterable), 0);
  return Flow::next;
}

void Interpreter::run_loop(const For& node, const Value& iterable, std::size_t depth) {
  Scope* const outer = scope_;
  const auto pull = [this, &node, outer, cursor = Cursor(*this, iterable)](Value& item) mutable {
    while (cursor.next(item)) {
      if (node.filter == nullptr) return true;
      const NewScope scope(*this, outer);
      assign(node.target, item);
      if (evaluate(*node.filter).truthy()) return true;
    }
    return false;
  };
  const auto loop =
      std::make_shared<Loop>(pull, node.filter == nullptr ? length_of(iterable) : std::nullopt,
                             depth, iterable.depth() + 1);
  if (node.recursive) {
    loop->set_recurse([this, &node, outer, depth](const Value& nested) {
      return recurse(node, outer, nested, depth + 1);
    });
  }
  // Whoever keeps `loop` beyond this point must not be able to pull through dead scopes.
  struct Detach {
    Loop& loop;
    ~Detach() { loop.detach(); }
  } const detach{*loop};

  bool empty = true;
  Value item;
  while (loop->advance(item)) {
    empty = false;
    const NewScope scope(*this, outer);
    scope_->set(program_.loop, ObjectPtr(loop));
    assign(node.target, item);
    if (execute(node.body) == Flow::leave_loop) break;
  }
  if (empty) {
    const NewScope scope(*this, outer);
    execute(node.otherwise);
  }
}

Value Interpreter::recurse(const For& loop, Scope* scope, const Value& iterable,
                           std::size_t depth) {
  const Level level(*this);
  const std::uint32_t line = line_;
  Capture output(*this);
  {
    const NewScope inner(*this, scope);
    run_loop(loop, iterable, depth);
  }
  line_ = line;
  return output.finish();
}

Interpreter::Flow Interpreter::execute(const Set& node) {
  assign(node.target, evaluate(*node.value));
  return Flow::next;
}

TextPtr Interpreter::capture(const Block& block) {
  Capture output(*this);
  const NewScope scope(*this, scope_);
  execute(block);
  return output.finish();
}

Interpreter::Flow Interpreter::execute(const SetBlock& node) {
  Value value = capture(node.body);
  for (const FilterStep& step : node.filters) value = apply(step, value);
  assign(node.target, value);
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const FilterBlock& node) {
  Value value = capture(node.body);
  for (const FilterStep& step : node.filters) value = apply(step, value);
  print_value(*this, value, *output_);
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const With& node) {
  // The values are those outside of the block, whatever it assigns.
  std::vector<Value> values;
  for (const auto& [target, value] : node.assignments) values.push_back(evaluate(*value));
  const NewScope scope(*this, scope_);
  for (std::size_t i = 0; i < values.size(); ++i) assign(node.assignments[i].first, values[i]);
  return execute(node.body);
}

Interpreter::Flow Interpreter::execute(const Scoped& node) {
  const NewScope scope(*this, scope_);
  return execute(node.body);
}

Interpreter::Flow Interpreter::execute(const MacroDefinition& node) {
  scope_->set(node.symbol, make_macro(node.macro));
  return Flow::next;
}

Interpreter::Flow Interpreter::execute(const CallBlock& node) {
  const auto& call_node = std::get<Call>(node.call->node);
  const Value callee = evaluate(*call_node.callee);
  Arguments arguments = evaluate(call_node.arguments);
  arguments.named.emplace_back("caller", make_macro(node.caller));
  print_value(*this, call(callee, arguments), *output_);
  return Flow::next;
}

Value Interpreter::make_macro(const MacroNode& macro) {
  for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->parent) {
    scope->captured = true;
    budget_.grow(sizeof(Scope) + scope->variables.size() * sizeof(scope->variables.front()));
  }
  return ObjectPtr(std::make_shared<Macro>(macro, scope_));
}

Value Interpreter::call_macro(const MacroNode& macro, Scope* scope, const Arguments& arguments) {
  const Level level(*this);
  const std::uint32_t line = line_;
  Capture output(*this);
  {
    const NewScope inner(*this, scope);
    bind_parameters(macro, arguments);
    execute(macro.body);
  }
  line_ = line;
  return output.finish();
}

void Interpreter::bind_parameters(const MacroNode& macro, const Arguments& arguments) {
  const std::string name = macro.name.empty() ? "caller" : macro.name;
  std::vector<std::pair<std::string, Value>> named = arguments.named;
  const auto take = [&named](std::string_view wanted) -> std::optional<Value> {
    const auto found = std::find_if(named.begin(), named.end(),
                                    [&](const auto& entry) { return entry.first == wanted; });
    if (found == named.end()) return std::nullopt;
    Value value = std::move(found->second);
    named.erase(found);
    return value;
  };
  const std::size_t given = std::min(arguments.positional.size(), macro.parameters.size());
  bool has_caller_parameter = false;
  for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    has_caller_parameter = has_caller_parameter || parameter.name == "caller";
    std::optional<Value> value;
    if (i < given) {
      value = arguments.positional[i];
    } else {
      value = take(parameter.name);
    }
    if (!value && parameter.fallback) value = evaluate(*parameter.fallback);
    if (!value) value = undefined_value("parameter '" + parameter.name + "' was not provided");
    scope_->set(parameter.symbol, std::move(*value));
  }
  if (macro.uses_caller && !has_caller_parameter) {
    std::optional<Value> caller = take("caller");
    if (!caller || caller->is_none()) caller = undefined_value("no caller defined");
    scope_->set(program_.caller, std::move(*caller));
  }
  if (macro.uses_kwargs) {
    auto rest = std::make_shared<Dict>(&budget_);
    for (const auto& [key, value] : named) rest->set(text(key), value);
    scope_->set(program_.kwargs, DictPtr(std::move(rest)));
  } else if (!named.empty()) {
    throw Failure("macro '" + name + "' takes no keyword argument '" + named.front().first + "'");
  }
  if (macro.uses_varargs) {
    scope_->set(program_.varargs,
                tuple({arguments.positional.begin() + static_cast<std::ptrdiff_t>(given),
                       arguments.positional.end()}));
  } else if (arguments.positional.size() > given) {
    throw Failure("macro '" + name + "' takes not more than " +
                  std::to_string(macro.parameters.size()) + " argument(s)");
  }
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (const Symbol* symbol = std::get_if<Symbol>(&target.node)) {
    scope_->set(*symbol, value);
    return;
  }
  if (const auto* attribute = std::get_if<NamespaceTarget>(&target.node)) {
    const auto object = lookup(attribute->object).as<Namespace>();
    if (object == nullptr) {
      throw Failure("cannot assign to '" + program_.names[attribute->object] + "." +
                    attribute->attribute + "': only attributes of a namespace() can change");
    }
    object->set(attribute->attribute, value);
    return;
  }
  const auto& targets = std::get<std::vector<Target>>(target.node);
  const std::vector<Value> items = items_of(*this, value);
  if (items.size() != targets.size()) {
    throw Failure("cannot unpack " + std::to_string(items.size()) + " value(s) into " +
                  std::to_string(targets.size()) + " variable(s)");
  }
  for (std::size_t i = 0; i < items.size(); ++i) assign(targets[i], items[i]);
}

}  // namespace nemo::text::jinja
