// One rendering of a template: variables, output, evaluation.
#pragma once

#include "src/text/jinja_ast.hpp"
#include "src/text/jinja_value.hpp"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::text::jinja {

class Namespace;

/// Variables of one block. Loop iterations, macros and blocks have their own; `if` does not.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<Symbol, Value>> variables;
  bool captured = false;  // a macro refers to it, so it lives until the rendering ends

  void set(Symbol symbol, Value value);
};

/// range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
void set_global_functions(Interpreter& in);

/// Renders one Program once.
class Interpreter {
 public:
  Interpreter(const Program& program, const RenderOptions& options);
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  ~Interpreter();

  void set_global(std::string_view name, Value value);
  [[nodiscard]] RenderedPrompt render();

  [[nodiscard]] Budget& budget() noexcept { return budget_; }
  [[nodiscard]] const RenderOptions& options() const noexcept { return options_; }
  /// Line of the statement or call being evaluated, for messages.
  [[nodiscard]] std::uint32_t line() const noexcept { return line_; }

  // Making values.
  [[nodiscard]] Value text(std::string_view bytes, TextOrigin origin = TextOrigin::template_text);
  [[nodiscard]] Value list(std::vector<Value> items);
  [[nodiscard]] Value tuple(std::vector<Value> items);
  /// Keeps the namespace alive until the rendering ends, so that cycles through it can be cut.
  void adopt(std::shared_ptr<Namespace> object);

  /// callee(arguments).
  Value call(const Value& callee, const Arguments& arguments);
  /// The body of a macro; `scope` is where it was defined.
  Value call_macro(const MacroNode& macro, Scope* scope, const Arguments& arguments);
  /// One more run of a recursive loop over `iterable`; `scope` is where the loop stands.
  Value recurse(const For& loop, Scope* scope, const Value& iterable, std::size_t depth);

  /// Counts one level of recursion for as long as it lives.
  class Level {
   public:
    explicit Level(Interpreter& in);
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --in_.level_; }

   private:
    Interpreter& in_;
  };

 private:
  // Deep enough for 50 macros inside one another; 1,200 levels need less than 1 MiB of stack.
  static constexpr unsigned kMaxLevel = 1200;

  enum class Flow : std::uint8_t { next, leave_loop, next_iteration };

  // A scope that ends with the C++ block.
  class NewScope {
   public:
    NewScope(Interpreter& in, Scope* parent);
    NewScope(const NewScope&) = delete;
    NewScope& operator=(const NewScope&) = delete;
    ~NewScope();

   private:
    Interpreter& in_;
    Scope* before_;
  };

  // Collects what is printed while it lives.
  class Capture {
   public:
    explicit Capture(Interpreter& in) : in_(in), before_(in.output_), builder_(in.budget_) {
      in.output_ = &builder_;
    }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    ~Capture() { in_.output_ = before_; }
    [[nodiscard]] TextPtr finish() { return builder_.finish(); }

   private:
    Interpreter& in_;
    TextBuilder* before_;
    TextBuilder builder_;
  };

  // Expressions (jinja_evaluate.cpp).
  [[nodiscard]] Value evaluate(const Expression& expression);
  [[nodiscard]] Value evaluate(const Constant& node) { return node.value; }
  [[nodiscard]] Value evaluate(const Variable& node);
  [[nodiscard]] Value evaluate(const ListLiteral& node);
  [[nodiscard]] Value evaluate(const DictLiteral& node);
  [[nodiscard]] Value evaluate(const AttributeAccess& node);
  [[nodiscard]] Value evaluate(const ItemAccess& node);
  [[nodiscard]] Value evaluate(const SliceAccess& node);
  [[nodiscard]] Value evaluate(const Call& node);
  [[nodiscard]] Value evaluate(const Filtered& node);
  [[nodiscard]] Value evaluate(const Tested& node);
  [[nodiscard]] Value evaluate(const Unary& node);
  [[nodiscard]] Value evaluate(const Arithmetic& node);
  [[nodiscard]] Value evaluate(const Concatenation& node);
  [[nodiscard]] Value evaluate(const Comparison& node);
  [[nodiscard]] Value evaluate(const Logic& node);
  [[nodiscard]] Value evaluate(const Conditional& node);
  [[nodiscard]] Arguments evaluate(const std::vector<ArgumentNode>& nodes);
  [[nodiscard]] Value apply(const FilterStep& step, const Value& input);
  [[nodiscard]] Value lookup(Symbol symbol);

  // Statements (jinja_execute.cpp).
  Flow execute(const Block& block);
  Flow execute(const TextNode& node);
  Flow execute(const Print& node);
  Flow execute(const If& node);
  Flow execute(const For& node);
  Flow execute(const Set& node);
  Flow execute(const SetBlock& node);
  Flow execute(const MacroDefinition& node);
  Flow execute(const CallBlock& node);
  Flow execute(const FilterBlock& node);
  Flow execute(const With& node);
  Flow execute(const Scoped& node);
  Flow execute(const Break&) { return Flow::leave_loop; }
  Flow execute(const Continue&) { return Flow::next_iteration; }
  void run_loop(const For& node, const Value& iterable, std::size_t depth);
  [[nodiscard]] TextPtr capture(const Block& block);
  void assign(const Target& target, const Value& value);
  void bind_parameters(const MacroNode& macro, const Arguments& arguments);
  [[nodiscard]] Value make_macro(const MacroNode& macro);

  const Program& program_;
  const RenderOptions& options_;
  Budget budget_;
  std::vector<std::optional<Value>> globals_;  // by Symbol
  std::vector<std::unique_ptr<Scope>> scopes_;
  std::vector<Scope*> free_scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  Scope* scope_ = nullptr;
  TextBuilder* output_ = nullptr;
  std::uint32_t line_ = 1;
  unsigned level_ = 0;
};

}  // namespace nemo::text::jinja
