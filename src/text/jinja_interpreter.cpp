// Setting up and finishing a rendering.
#include "src/text/jinja_interpreter.hpp"

#include "src/text/jinja_objects.hpp"
#include "src/text/jinja_operations.hpp"

#include <algorithm>

namespace nemo::text::jinja {

void Scope::set(Symbol symbol, Value value) {
  for (auto& [name, old] : variables) {
    if (name == symbol) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(symbol, std::move(value));
}

Interpreter::Interpreter(const Program& program, const RenderOptions& options)
    : program_(program),
      options_(options),
      budget_(options.limits),
      globals_(program.names.size()) {}

Interpreter::~Interpreter() {
  // Macros refer to scopes and namespaces to anything, in circles; emptied one by one, nothing
  // keeps anything else alive and no destructor recurses through a chain of them.
  for (const auto& scope : scopes_) scope->variables.clear();
  for (const auto& object : namespaces_) object->clear();
}

void Interpreter::set_global(std::string_view name, Value value) {
  const auto found = std::find(program_.names.begin(), program_.names.end(), name);
  if (found == program_.names.end()) return;  // the template never asks for it
  globals_[static_cast<std::size_t>(found - program_.names.begin())] = std::move(value);
}

RenderedPrompt Interpreter::render() {
  TextBuilder output(budget_);
  output_ = &output;
  {
    const NewScope scope(*this, nullptr);
    execute(program_.body);
  }
  output_ = nullptr;
  RenderedPrompt prompt;
  prompt.text = output.bytes();
  std::size_t begin = 0;
  for (const Run& run : output.runs()) {
    prompt.segments.push_back({begin, run.end, run.origin});
    begin = run.end;
  }
  return prompt;
}

Value Interpreter::text(std::string_view bytes, TextOrigin origin) {
  return make_text(budget_, bytes, origin);
}

Value Interpreter::list(std::vector<Value> items) {
  return SequencePtr(
      std::make_shared<const Sequence>(Sequence::Type::list, std::move(items), &budget_));
}

Value Interpreter::tuple(std::vector<Value> items) {
  return SequencePtr(
      std::make_shared<const Sequence>(Sequence::Type::tuple, std::move(items), &budget_));
}

void Interpreter::adopt(std::shared_ptr<Namespace> object) {
  namespaces_.push_back(std::move(object));
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  require_defined(callee);
  const ObjectPtr object = callee.object();
  if (object == nullptr) throw Failure("'" + callee.type_name() + "' object is not callable");
  return object->call(*this, arguments);
}

Interpreter::Level::Level(Interpreter& in) : in_(in) {
  if (in_.level_ >= kMaxLevel) {
    throw OutOfBudget("calls are nested too deeply (endless recursion?)");
  }
  ++in_.level_;
}

Interpreter::NewScope::NewScope(Interpreter& in, Scope* parent) : in_(in), before_(in.scope_) {
  if (in_.free_scopes_.empty()) {
    in_.scopes_.push_back(std::make_unique<Scope>());
    in_.free_scopes_.push_back(in_.scopes_.back().get());
  }
  in_.scope_ = in_.free_scopes_.back();
  in_.free_scopes_.pop_back();
  in_.scope_->parent = parent;
}

Interpreter::NewScope::~NewScope() {
  if (!in_.scope_->captured) {
    in_.scope_->variables.clear();
    in_.free_scopes_.push_back(in_.scope_);
  }
  in_.scope_ = before_;
}

}  // namespace nemo::text::jinja
