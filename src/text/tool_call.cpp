// The grammar inside a tool call, read tolerantly: closing tags may be missing.
#include "src/text/tool_call.hpp"

namespace nemo::text {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kNone = std::string_view::npos;
constexpr std::string_view kFunction = "<function=";
constexpr std::string_view kEndFunction = "</function>";
constexpr std::string_view kParameter = "<parameter=";
constexpr std::string_view kEndParameter = "</parameter>";
constexpr std::string_view kSpace = " \t\r\n";

std::string_view trimmed(std::string_view s) {
  const std::size_t first = s.find_first_not_of(kSpace);
  if (first == kNone) return {};
  return s.substr(first, s.find_last_not_of(kSpace) - first + 1);
}

/// The function object of an offered tool, or nullptr.
const Json* find_tool(const Json& tools, std::string_view name) {
  if (!tools.is_array()) return nullptr;
  for (const Json& tool : tools) {
    if (!tool.is_object()) continue;
    const auto wrapped = tool.find("function");
    const Json& function = wrapped != tool.end() && wrapped->is_object() ? *wrapped : tool;
    const auto it = function.find("name");
    if (it != function.end() && it->is_string() && it->get_ref<const std::string&>() == name)
      return &function;
  }
  return nullptr;
}

Json typed_parameter(const Json* function, std::string_view key, std::string_view value) {
  static const Json kNothing = nullptr;
  if (function == nullptr) return std::string(value);
  const auto parameters = function->find("parameters");
  if (parameters == function->end() || !parameters->is_object()) return std::string(value);
  const auto properties = parameters->find("properties");
  if (properties == parameters->end() || !properties->is_object()) return std::string(value);
  const auto schema = properties->find(std::string(key));
  return typed_value(value, schema == properties->end() ? kNothing : *schema, *parameters);
}

/// Where the value that starts at `from` ends: at its closing tag; without one at the next line
/// that opens a parameter, at the end of the function or of the body.
struct ValueEnd {
  std::size_t end;   // of the value
  std::size_t next;  // behind its closing tag
  bool closed;       // by anything but the end of the body
};
ValueEnd find_value_end(std::string_view body, std::size_t from) {
  const std::size_t close = body.find(kEndParameter, from);
  std::size_t parameter = from;  // a line's start
  do {
    parameter = body.find(kParameter, parameter == from ? from : parameter + 1);
  } while (parameter != kNone && parameter > from && body[parameter - 1] != '\n');
  if (parameter == from) parameter = kNone;  // an opening tag directly behind another is a value
  if (parameter < close) return {parameter, parameter, true};
  const std::size_t function = body.find(kEndFunction, from);
  if (close != kNone) {
    // </function> may be part of the value, unless another function begins before the close.
    const bool value_holds_it =
        function > close || body.substr(function, close - function).find(kFunction) == kNone;
    if (value_holds_it) return {close, close + kEndParameter.size(), true};
  }
  if (function != kNone) return {function, function, true};
  return {body.size(), body.size(), false};
}

std::string_view without_border_newlines(std::string_view value) {
  if (value.starts_with('\n')) value.remove_prefix(1);
  if (value.ends_with('\n')) value.remove_suffix(1);
  return value;
}

}  // namespace

std::optional<ParsedCalls> parse_calls(std::string_view body, const Json& tools, bool open,
                                       bool lenient) {
  ParsedCalls result;
  std::size_t at = body.find(kFunction);
  while (at != kNone) {
    const std::size_t name_end = body.find('>', at);
    if (name_end == kNone) break;
    const std::string_view name =
        trimmed(body.substr(at + kFunction.size(), name_end - at - kFunction.size()));
    if (name.empty() || name.find('<') != kNone) break;
    ToolCall call{std::string(name), Json::object()};
    const Json* function = find_tool(tools, name);
    std::size_t next = name_end + 1;
    bool whole = true;    // no name or value is cut
    bool closed = false;  // </function> was there
    while (true) {
      const std::size_t parameter = body.find(kParameter, next);
      const std::size_t end = body.find(kEndFunction, next);
      const std::size_t other = body.find(kFunction, next);
      if (parameter == kNone || end < parameter || other < parameter) {
        closed = end != kNone && end < other;
        next = closed ? end + kEndFunction.size() : other == kNone ? body.size() : other;
        break;
      }
      const std::size_t key_end = body.find('>', parameter);
      if (key_end == kNone) {
        whole = false;
        break;
      }
      const std::string_view key = trimmed(
          body.substr(parameter + kParameter.size(), key_end - parameter - kParameter.size()));
      const ValueEnd value = find_value_end(body, key_end + 1);
      // </tool_call> closes a value as well; the end of the stream does not.
      if (!value.closed && open) {
        whole = false;
        break;
      }
      const std::string_view text =
          without_border_newlines(body.substr(key_end + 1, value.end - key_end - 1));
      call.arguments[std::string(key)] = typed_parameter(function, key, text);
      next = value.next;
    }
    if (!whole || (open && !closed && !lenient)) break;
    result.calls.push_back(std::move(call));
    result.end = next;
    at = body.find(kFunction, next);
  }
  if (result.calls.empty()) return std::nullopt;
  return result;
}

}  // namespace nemo::text
