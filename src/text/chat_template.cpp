// Checking a request's shape and handing it to the template.
#include <nemo/base/error.hpp>
#include <nemo/text/chat_template.hpp>

#include <utility>

namespace nemo::text {
namespace {

using Json = nlohmann::ordered_json;

void check_messages(const Json& request) {
  const auto fail = [](const std::string& what) {
    throw Error(ErrorCode::bad_input, "request: " + what);
  };
  if (!request.is_object()) fail("must be a JSON object with \"messages\"");
  const auto messages = request.find("messages");
  if (messages == request.end() || !messages->is_array()) fail("needs \"messages\", an array");
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    const std::string where = "messages[" + std::to_string(i) + "]";
    if (!message.is_object()) fail(where + " must be an object");
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string()) fail(where + " needs \"role\", a string");
  }
  const auto tools = request.find("tools");
  if (tools != request.end() && !tools->is_null() && !tools->is_array()) {
    fail("\"tools\" must be an array");
  }
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source, std::string bos, std::string eos)
    : source_(source.empty() ? std::string(default_source()) : std::move(source)),
      template_(Template::parse(source_)),
      trusted_({{"bos_token", std::move(bos)}, {"eos_token", std::move(eos)}}) {}

RenderedPrompt ChatTemplate::render(const Json& request) const {
  check_messages(request);
  const auto nested = request.find("chat_template_kwargs");
  if (nested == request.end() || !nested->is_object()) return template_.render(request, trusted_);
  Json variables = request;
  for (const auto& [name, value] : nested->items()) {
    if (!variables.contains(name)) variables[name] = value;
  }
  return template_.render(variables, trusted_);
}

bool opens_reasoning(std::string_view prompt) noexcept {
  const std::size_t last = prompt.find_last_not_of(" \t\r\n");
  return last != std::string_view::npos && prompt.substr(0, last + 1).ends_with("<think>");
}

}  // namespace nemo::text
