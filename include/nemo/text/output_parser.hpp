// Splits a model's raw output, as it streams, into reasoning, answer and tool calls.
//
//   think mode     reasoning </think> content
//   anywhere       <tool_call> <function=NAME> <parameter=KEY> value </parameter> </function>
//   </tool_call>
//
// The result does not depend on how the text is cut into pieces, and no delta shows a part of a
// tag.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace nemo::text {

struct ToolCall {
  std::string name;
  nlohmann::ordered_json arguments;  // an object
};

/// As a chat template reads them back: [{"type": "function", "function": {name, arguments}}].
[[nodiscard]] nlohmann::ordered_json to_json(const std::vector<ToolCall>& calls);

/// What became certain with a piece of text. Concatenated over a stream these are the whole result.
struct OutputDelta {
  std::string reasoning;
  std::string content;
  std::vector<ToolCall> tool_calls;  // complete ones
};

class OutputParser {
 public:
  /// `in_reasoning`: the prompt ended inside an open think block. Otherwise nothing is reasoning
  /// and think tags are text. `tools`: OpenAI-style list (bare functions accepted) whose schemas
  /// type the arguments; null or empty: all arguments are strings.
  explicit OutputParser(bool in_reasoning, nlohmann::ordered_json tools = nullptr);

  [[nodiscard]] OutputDelta push(std::string_view piece);

  /// The end of the stream: releases what was held back as a possible tag. A call that the end cuts
  /// inside a name or a value is no call; one that only lacks closing tags is, unless `cut_short`
  /// (the output hit a length limit). What is no call becomes content as it was written.
  [[nodiscard]] OutputDelta finish(bool cut_short);

 private:
  enum class State { reasoning_start, reasoning, content, call, bare_call };

  void take(char c);
  void tag(std::string_view name);
  void text(char c);
  void end_call(bool at_end, bool cut_short);
  void release(std::string_view raw);
  [[nodiscard]] bool active(std::string_view tag) const;
  [[nodiscard]] bool may_become_tag() const;

  State state_;
  bool skip_space_ = false;  // white space here belongs to the tag before it
  std::string held_space_;   // dropped if a tag or the end follows
  std::string held_tag_;     // a prefix of an active tag
  std::string body_;         // of the open call
  nlohmann::ordered_json tools_;
  OutputDelta delta_;
};

}  // namespace nemo::text
