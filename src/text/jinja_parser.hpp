// Turns the tokens of a template into its syntax tree.
//
// Precedence, loosest first: if-else, or, and, not, comparisons and in, + -, ~, * / // %, ** (from
// left to right, unlike Python), unary - +, then filters, tests, calls, attributes and elements.
#pragma once

#include "src/text/jinja_ast.hpp"
#include "src/text/jinja_lexer.hpp"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::text::jinja {

/// Parses one template; every error is an Error{bad_input} with the line.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  [[nodiscard]] Program run();

 private:
  // Nesting of brackets, operators and blocks together; real templates stay below 20.
  static constexpr unsigned kMaxNesting = 150;

  // Counts one level of recursion.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting) parser_.fail("nested too deeply");
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --parser_.nesting_; }

   private:
    Parser& parser_;
  };

  // Tokens.
  [[nodiscard]] const Token& current() const { return tokens_[position_]; }
  [[nodiscard]] const Token& ahead() const;
  [[nodiscard]] bool is_op(std::string_view op) const;
  [[nodiscard]] bool is_name(std::string_view name) const;
  [[nodiscard]] bool skip_op(std::string_view op);
  [[nodiscard]] bool skip_name(std::string_view name);
  void expect_op(std::string_view op);
  void expect_block_end();
  [[nodiscard]] std::string expect_name();
  void advance() { position_ += position_ + 1 < tokens_.size() ? 1 : 0; }
  [[noreturn]] void fail(const std::string& message) const;
  [[nodiscard]] std::string describe() const;

  // Names.
  [[nodiscard]] Symbol symbol(const std::string& name);
  void note_use(const std::string& name);

  // Statements (jinja_parser_statements.cpp).
  [[nodiscard]] Block parse_block(const std::vector<std::string_view>& ends);
  [[nodiscard]] Block parse_body(const std::vector<std::string_view>& ends);
  [[nodiscard]] Statement parse_statement();
  [[nodiscard]] If parse_if();
  [[nodiscard]] For parse_for();
  [[nodiscard]] std::variant<Set, SetBlock> parse_set();
  [[nodiscard]] MacroDefinition parse_macro();
  [[nodiscard]] CallBlock parse_call_block();
  [[nodiscard]] With parse_with();
  [[nodiscard]] std::vector<FilterStep> parse_filter_steps(bool first_without_pipe);
  void parse_parameters(MacroNode& macro);
  void parse_macro_body(MacroNode& macro, std::string_view end);
  [[nodiscard]] Target parse_target(bool with_namespace);
  [[nodiscard]] Target parse_target_item(bool with_namespace);

  // Expressions (jinja_parser_expressions.cpp).
  [[nodiscard]] ExpressionPtr parse_tuple(bool with_conditional, bool parenthesised = false);
  [[nodiscard]] ExpressionPtr parse_expression(bool with_conditional = true);
  [[nodiscard]] ExpressionPtr parse_logic(bool any);
  [[nodiscard]] ExpressionPtr parse_not();
  [[nodiscard]] ExpressionPtr parse_comparison();
  [[nodiscard]] ExpressionPtr parse_sum();
  [[nodiscard]] ExpressionPtr parse_concatenation();
  [[nodiscard]] ExpressionPtr parse_product();
  [[nodiscard]] ExpressionPtr parse_power();
  [[nodiscard]] ExpressionPtr parse_unary(bool with_filters = true);
  [[nodiscard]] ExpressionPtr parse_primary();
  [[nodiscard]] ExpressionPtr parse_list();
  [[nodiscard]] ExpressionPtr parse_dict();
  [[nodiscard]] ExpressionPtr parse_postfix(ExpressionPtr value);
  [[nodiscard]] ExpressionPtr parse_filters(ExpressionPtr value);
  [[nodiscard]] ExpressionPtr parse_element(ExpressionPtr value);
  [[nodiscard]] ExpressionPtr parse_test(ExpressionPtr value);
  [[nodiscard]] FilterStep parse_filter_step();
  [[nodiscard]] std::vector<ArgumentNode> parse_arguments();
  [[nodiscard]] bool at_tuple_end() const;

  template <class Node>
  [[nodiscard]] ExpressionPtr make(Node node, std::uint32_t line) {
    auto expression = std::make_unique<Expression>();
    expression->node = std::move(node);
    expression->line = line;
    finish(*expression);
    return expression;
  }
  void finish(Expression& expression) const;

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  unsigned nesting_ = 0;
  unsigned loops_ = 0;  // open for bodies, for break and continue
  Program program_;
  std::map<std::string, Symbol, std::less<>> symbols_;
  std::vector<MacroNode*> open_macros_;
};

}  // namespace nemo::text::jinja
