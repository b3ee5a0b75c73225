// The statements of the template language.
#include "src/text/jinja_parser.hpp"

#include <algorithm>

namespace nemo::text::jinja {

Program Parser::run() {
  program_.loop = symbol("loop");
  program_.caller = symbol("caller");
  program_.varargs = symbol("varargs");
  program_.kwargs = symbol("kwargs");
  program_.body = parse_block({});
  return std::move(program_);
}

const Token& Parser::ahead() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }

bool Parser::is_op(std::string_view op) const {
  return current().kind == Token::Kind::op && current().text == op;
}

bool Parser::is_name(std::string_view name) const {
  return current().kind == Token::Kind::name && current().text == name;
}

bool Parser::skip_op(std::string_view op) {
  if (!is_op(op)) return false;
  advance();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  advance();
  return true;
}

void Parser::expect_op(std::string_view op) {
  if (!skip_op(op)) fail("expected '" + std::string(op) + "', got " + describe());
}

void Parser::expect_block_end() {
  if (current().kind != Token::Kind::block_end) fail("expected '%}', got " + describe());
  advance();
}

std::string Parser::expect_name() {
  if (current().kind != Token::Kind::name) fail("expected a name, got " + describe());
  std::string name = current().text;
  advance();
  return name;
}

void Parser::fail(const std::string& message) const { fail_at(current().line, message); }

std::string Parser::describe() const {
  switch (current().kind) {
    case Token::Kind::text:
      return "text";
    case Token::Kind::print_begin:
      return "'{{'";
    case Token::Kind::print_end:
      return "'}}'";
    case Token::Kind::block_begin:
      return "'{%'";
    case Token::Kind::block_end:
      return "'%}'";
    case Token::Kind::string:
      return "a string";
    case Token::Kind::number:
      return "a number";
    case Token::Kind::end:
      return "the end of the template";
    default:
      return "'" + current().text.substr(0, 60) + "'";
  }
}

Symbol Parser::symbol(const std::string& name) {
  const auto [found, added] = symbols_.emplace(name, static_cast<Symbol>(program_.names.size()));
  if (added) program_.names.push_back(name);
  return found->second;
}

void Parser::note_use(const std::string& name) {
  for (MacroNode* macro : open_macros_) {
    macro->uses_caller = macro->uses_caller || name == "caller";
    macro->uses_varargs = macro->uses_varargs || name == "varargs";
    macro->uses_kwargs = macro->uses_kwargs || name == "kwargs";
  }
}

// Statements up to a tag in `ends`, which stays the current token; without `ends` up to the end.
Block Parser::parse_block(const std::vector<std::string_view>& ends) {
  const Level level(*this);
  Block block;
  for (;;) {
    const Token& token = current();
    const std::uint32_t line = token.line;
    switch (token.kind) {
      case Token::Kind::text:
        block.push_back({TextNode{literal_text(token.text)}, line});
        advance();
        break;
      case Token::Kind::print_begin: {
        advance();
        ExpressionPtr value = parse_tuple(true);
        if (current().kind != Token::Kind::print_end) {
          fail("expected '}}', got " + describe());
        }
        advance();
        block.push_back({Print{std::move(value)}, line});
        break;
      }
      case Token::Kind::block_begin: {
        advance();
        const bool ended = std::any_of(ends.begin(), ends.end(),
                                       [&](std::string_view name) { return is_name(name); });
        if (ended) return block;
        block.push_back(parse_statement());
        expect_block_end();
        break;
      }
      default:
        if (ends.empty()) return block;
        fail("the template ends where {% " + std::string(ends.back()) + " %} is needed");
    }
  }
}

// The rest of an opening tag, then statements up to a tag in `ends`.
Block Parser::parse_body(const std::vector<std::string_view>& ends) {
  static_cast<void>(skip_op(":"));
  expect_block_end();
  return parse_block(ends);
}

Statement Parser::parse_statement() {
  const std::uint32_t line = current().line;
  if (current().kind != Token::Kind::name) fail("expected a tag name, got " + describe());
  const std::string tag = current().text;
  if (tag == "if") return {parse_if(), line};
  if (tag == "for") return {parse_for(), line};
  if (tag == "macro") return {parse_macro(), line};
  if (tag == "call") return {parse_call_block(), line};
  if (tag == "with") return {parse_with(), line};
  if (tag == "set") {
    return std::visit([&](auto node) { return Statement{std::move(node), line}; }, parse_set());
  }
  if (tag == "filter") {
    advance();
    FilterBlock block;
    block.filters = parse_filter_steps(true);
    block.body = parse_body({"endfilter"});
    advance();
    return {std::move(block), line};
  }
  if (tag == "generation") {
    advance();
    Scoped scoped{parse_body({"endgeneration"})};
    advance();
    return {std::move(scoped), line};
  }
  if (tag == "autoescape") {
    advance();
    const ExpressionPtr wanted = parse_expression();
    const auto* constant = std::get_if<Constant>(&wanted->node);
    if (constant == nullptr || constant->value.truthy()) {
      fail_at(line, "automatic HTML escaping is not supported");
    }
    Scoped scoped{parse_body({"endautoescape"})};
    advance();
    return {std::move(scoped), line};
  }
  if (tag == "print") {
    advance();
    return {Print{parse_tuple(true)}, line};
  }
  if (tag == "break" || tag == "continue") {
    if (loops_ == 0) fail("'" + tag + "' outside of a loop");
    advance();
    if (tag == "break") return {Break{}, line};
    return {Continue{}, line};
  }
  if (tag == "extends" || tag == "include" || tag == "import" || tag == "from" || tag == "block") {
    fail("'" + tag + "' needs other templates, which a chat template does not have");
  }
  fail("unknown or misplaced tag '" + tag.substr(0, 60) + "'");
}

If Parser::parse_if() {
  If node;
  do {
    advance();  // if or elif
    ExpressionPtr test = parse_tuple(false);
    Block body = parse_body({"elif", "else", "endif"});
    node.branches.emplace_back(std::move(test), std::move(body));
  } while (is_name("elif"));
  if (skip_name("else")) node.otherwise = parse_body({"endif"});
  advance();
  return node;
}

For Parser::parse_for() {
  advance();
  For node;
  if (is_name("loop")) fail("cannot assign to 'loop' in a for");
  node.target = parse_target(false);
  if (!skip_name("in")) fail("expected 'in', got " + describe());
  node.iterable = parse_tuple(false);
  if (skip_name("if")) node.filter = parse_expression();
  node.recursive = skip_name("recursive");
  ++loops_;
  node.body = parse_body({"else", "endfor"});
  --loops_;
  if (skip_name("else")) node.otherwise = parse_body({"endfor"});
  advance();
  return node;
}

std::variant<Set, SetBlock> Parser::parse_set() {
  advance();
  Target target = parse_target(true);
  if (skip_op("=")) return Set{std::move(target), parse_tuple(true)};
  SetBlock block;
  block.target = std::move(target);
  block.filters = parse_filter_steps(false);
  block.body = parse_body({"endset"});
  advance();
  return block;
}

MacroDefinition Parser::parse_macro() {
  advance();
  MacroDefinition node;
  node.macro.name = expect_name();
  node.symbol = symbol(node.macro.name);
  parse_parameters(node.macro);
  parse_macro_body(node.macro, "endmacro");
  return node;
}

CallBlock Parser::parse_call_block() {
  const std::uint32_t line = current().line;
  advance();
  CallBlock node;
  if (is_op("(")) parse_parameters(node.caller);
  node.call = parse_expression();
  if (!std::holds_alternative<Call>(node.call->node)) fail_at(line, "expected a call");
  parse_macro_body(node.caller, "endcall");
  return node;
}

With Parser::parse_with() {
  advance();
  With node;
  while (current().kind != Token::Kind::block_end) {
    if (!node.assignments.empty()) expect_op(",");
    Target target = parse_target_item(false);
    expect_op("=");
    node.assignments.emplace_back(std::move(target), parse_expression());
  }
  node.body = parse_body({"endwith"});
  advance();
  return node;
}

std::vector<FilterStep> Parser::parse_filter_steps(bool first_without_pipe) {
  std::vector<FilterStep> steps;
  if (first_without_pipe) steps.push_back(parse_filter_step());
  while (skip_op("|")) steps.push_back(parse_filter_step());
  return steps;
}

void Parser::parse_parameters(MacroNode& macro) {
  open_macros_.push_back(&macro);
  expect_op("(");
  while (!is_op(")")) {
    if (!macro.parameters.empty()) expect_op(",");
    Parameter parameter;
    parameter.name = expect_name();
    parameter.symbol = symbol(parameter.name);
    if (skip_op("=")) {
      parameter.fallback = parse_expression();
    } else if (!macro.parameters.empty() && macro.parameters.back().fallback != nullptr) {
      fail("a parameter without default follows one with a default");
    }
    macro.parameters.push_back(std::move(parameter));
  }
  expect_op(")");
  open_macros_.pop_back();
}

void Parser::parse_macro_body(MacroNode& macro, std::string_view end) {
  open_macros_.push_back(&macro);
  const unsigned outer_loops = std::exchange(loops_, 0U);
  macro.body = parse_body({end});
  loops_ = outer_loops;
  open_macros_.pop_back();
  advance();
}

// One target or several separated by commas.
Target Parser::parse_target(bool with_namespace) {
  std::vector<Target> targets;
  bool tuple = false;
  while (targets.empty() || tuple) {
    if (is_op("=") || at_tuple_end() || (tuple && is_name("in"))) break;
    targets.push_back(parse_target_item(with_namespace));
    if (!skip_op(",")) break;
    tuple = true;
  }
  if (targets.empty()) fail("expected a name, got " + describe());
  if (!tuple) return std::move(targets.front());
  return {std::move(targets)};
}

Target Parser::parse_target_item(bool with_namespace) {
  const Level level(*this);
  if (skip_op("(")) {
    Target target = parse_target(with_namespace);
    expect_op(")");
    return target;
  }
  const std::string name = expect_name();
  static constexpr std::string_view kReserved[] = {"true", "false", "none",
                                                   "True", "False", "None"};
  if (std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved)) {
    fail("cannot assign to '" + name + "'");
  }
  if (with_namespace && skip_op(".")) return {NamespaceTarget{symbol(name), expect_name()}};
  return {symbol(name)};
}

}  // namespace nemo::text::jinja
