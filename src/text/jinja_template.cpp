// The public face of the template engine: parsing, and rendering with JSON variables.
#include "src/text/jinja_interpreter.hpp"
#include "src/text/jinja_lexer.hpp"
#include "src/text/jinja_parser.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/jinja.hpp>

namespace nemo::text {
namespace {

using jinja::Budget;
using jinja::Dict;
using jinja::Interpreter;
using jinja::Value;
using Json = nlohmann::ordered_json;

Value value_of(Budget& budget, const Json& json, TextOrigin origin, unsigned depth = 0) {
  jinja::check_depth(depth);
  budget.step();
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return static_cast<Int>(json.get<std::int64_t>());
    case Json::value_t::number_unsigned:
      return static_cast<Int>(json.get<std::uint64_t>());
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return jinja::make_text(budget, json.get_ref<const std::string&>(), origin);
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(value_of(budget, item, origin, depth + 1));
      return jinja::SequencePtr(std::make_shared<const jinja::Sequence>(jinja::Sequence::Type::list,
                                                                        std::move(items), &budget));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>(&budget);
      for (const auto& [key, item] : json.items()) {
        dict->set(jinja::make_text(budget, key, origin), value_of(budget, item, origin, depth + 1));
      }
      return jinja::DictPtr(std::move(dict));
    }
    default:
      return {};
  }
}

// The list of messages, where what the assistant said counts as the model's own text.
Value messages_of(Budget& budget, const Json& messages) {
  if (!messages.is_array()) return value_of(budget, messages, TextOrigin::user_text);
  std::vector<Value> items;
  for (const Json& message : messages) {
    const auto role = message.is_object() ? message.find("role") : message.end();
    const bool assistant = message.is_object() && role != message.end() && *role == "assistant";
    items.push_back(
        value_of(budget, message, assistant ? TextOrigin::model_text : TextOrigin::user_text, 1));
  }
  return jinja::SequencePtr(std::make_shared<const jinja::Sequence>(jinja::Sequence::Type::list,
                                                                    std::move(items), &budget));
}

void require_object(const Json& json, const char* what) {
  if (!json.is_object() && !json.is_null()) {
    throw Error(ErrorCode::bad_input, std::string(what) + " must be a JSON object");
  }
}

}  // namespace

Template::Template(std::shared_ptr<const jinja::Program> program) : program_(std::move(program)) {}

Template Template::parse(std::string_view source) {
  jinja::Parser parser(jinja::tokenize(source));
  return Template(std::make_shared<const jinja::Program>(parser.run()));
}

RenderedPrompt Template::render(const Json& variables, const Json& trusted,
                                const RenderOptions& options) const {
  require_object(variables, "the variables of a template");
  require_object(trusted, "the trusted variables of a template");
  Interpreter interpreter(*program_, options);
  try {
    jinja::set_global_functions(interpreter);
    for (const auto& [name, value] : trusted.items()) {
      interpreter.set_global(name,
                             value_of(interpreter.budget(), value, TextOrigin::template_text));
    }
    for (const auto& [name, value] : variables.items()) {
      interpreter.set_global(
          name, name == "messages" ? messages_of(interpreter.budget(), value)
                                   : value_of(interpreter.budget(), value, TextOrigin::user_text));
    }
    return interpreter.render();
  } catch (const jinja::OutOfBudget& failure) {
    throw Error(ErrorCode::capacity, "chat template, line " + std::to_string(interpreter.line()) +
                                         ": " + failure.what());
  } catch (const jinja::Failure& failure) {
    jinja::fail_at(interpreter.line(), failure.what());
  }
}

}  // namespace nemo::text
