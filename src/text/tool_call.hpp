// Reading the body of a tool call: function names, parameters, values typed by the tool's schema.
#pragma once

#include <nemo/text/output_parser.hpp>

#include <optional>
#include <string_view>

namespace nemo::text {

/// The calls in `body` (the text between <tool_call> and </tool_call>), and how much of it they
/// take. Nothing when it holds no call. `open`: the closing tag of the call is missing, so its last
/// function must be closed itself unless `lenient`.
struct ParsedCalls {
  std::vector<ToolCall> calls;
  std::size_t end = 0;
};
[[nodiscard]] std::optional<ParsedCalls> parse_calls(std::string_view body,
                                                     const nlohmann::ordered_json& tools, bool open,
                                                     bool lenient);

/// `text` as a value of the type that `schema` (of one parameter, inside `parameters`) asks for;
/// text that does not fit stays a string.
[[nodiscard]] nlohmann::ordered_json typed_value(std::string_view text,
                                                 const nlohmann::ordered_json& schema,
                                                 const nlohmann::ordered_json& parameters);

}  // namespace nemo::text
