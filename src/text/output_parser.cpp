// The streaming splitter: one character at a time, holding back white space and possible tags.
#include "src/text/tool_call.hpp"

#include <nemo/text/output_parser.hpp>

#include <utility>

namespace nemo::text {
namespace {

constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";
constexpr std::string_view kCall = "<tool_call>";
constexpr std::string_view kEndCall = "</tool_call>";
constexpr std::string_view kFunction = "<function=";
constexpr std::string_view kEndFunction = "</function>";
// Every tag has its only '<' in front: a failed match is text and the next '<' starts afresh.
constexpr std::string_view kTags[] = {kThink, kEndThink, kCall, kEndCall, kFunction, kEndFunction};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace

nlohmann::ordered_json to_json(const std::vector<ToolCall>& calls) {
  auto list = nlohmann::ordered_json::array();
  for (const ToolCall& call : calls) {
    list.push_back(
        {{"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return list;
}

OutputParser::OutputParser(bool in_reasoning, nlohmann::ordered_json tools)
    : state_(in_reasoning ? State::reasoning_start : State::content), tools_(std::move(tools)) {}

bool OutputParser::active(std::string_view tag) const {
  switch (state_) {
    case State::reasoning_start:
      return tag == kThink || tag == kEndThink || tag == kCall;
    case State::reasoning:
      return tag == kEndThink || tag == kCall;
    // A function without its <tool_call> is a call only if functions were offered.
    case State::content:
      return tag == kCall || (tag == kFunction && tools_.is_array() && !tools_.empty());
    case State::call:
      return tag == kEndCall;
    case State::bare_call:
      return tag == kEndFunction;
  }
  return false;
}

bool OutputParser::may_become_tag() const {
  for (const std::string_view tag : kTags) {
    if (active(tag) && tag.starts_with(held_tag_)) return true;
  }
  return false;
}

OutputDelta OutputParser::push(std::string_view piece) {
  for (const char c : piece) take(c);
  return std::exchange(delta_, {});
}

void OutputParser::take(char c) {
  if (!held_tag_.empty()) {
    held_tag_ += c;
    if (may_become_tag()) {
      for (const std::string_view name : kTags) {
        if (held_tag_ == name && active(name)) {
          held_tag_.clear();
          tag(name);
          return;
        }
      }
      return;
    }
    held_tag_.pop_back();
    release(std::exchange(held_tag_, {}));
  }
  if (c == '<') {
    held_tag_ = c;
  } else {
    text(c);
  }
}

void OutputParser::tag(std::string_view name) {
  held_space_.clear();
  skip_space_ = true;
  if (name == kThink) {
    state_ = State::reasoning;  // the model repeats the prompt's tag
  } else if (name == kEndThink) {
    state_ = State::content;
  } else if (name == kCall) {
    state_ = State::call;
  } else if (name == kFunction) {
    state_ = State::bare_call;
    body_ = kFunction;
  } else {
    end_call(false, false);
  }
}

void OutputParser::text(char c) {
  if (state_ == State::call || state_ == State::bare_call) {
    body_ += c;
    return;
  }
  if (is_space(c)) {
    if (!skip_space_) held_space_ += c;
    return;
  }
  skip_space_ = false;
  if (state_ == State::reasoning_start) state_ = State::reasoning;
  std::string& out = state_ == State::reasoning ? delta_.reasoning : delta_.content;
  out += held_space_;
  held_space_.clear();
  out += c;
}

void OutputParser::release(std::string_view raw) {
  for (const char c : raw) text(c);
}

void OutputParser::end_call(bool at_end, bool cut_short) {
  const bool bare = state_ == State::bare_call;
  std::string body = std::exchange(body_, {});
  if (bare && !at_end) body += kEndFunction;
  state_ = State::content;
  auto parsed = parse_calls(body, tools_, at_end, !cut_short);
  if (!parsed) {
    skip_space_ = false;
    if (!bare) release(kCall);
    release(body);
    if (!bare && !at_end) release(kEndCall);
    return;
  }
  for (ToolCall& call : parsed->calls) delta_.tool_calls.push_back(std::move(call));
  if (at_end) release(std::string_view(body).substr(parsed->end));
}

OutputDelta OutputParser::finish(bool cut_short) {
  // A closing tag that the end cuts off in mid-word belongs to no one.
  const bool in_call = state_ == State::call || state_ == State::bare_call;
  const std::string partial = std::exchange(held_tag_, {});
  if (in_call) {
    if (state_ == State::bare_call || cut_short || partial.size() < 2) body_ += partial;
    end_call(true, cut_short);
  } else {
    release(partial);
  }
  held_space_.clear();
  return std::exchange(delta_, {});
}

}  // namespace nemo::text
