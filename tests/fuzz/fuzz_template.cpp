// Arbitrary bytes as a chat template, a zero byte, and JSON: both parse and render within small
// limits or throw nemo::Error, no text of a user ever passes for the template's own, and the
// template is the only thing that can make a prompt invalid UTF-8.
#include "fuzz/fuzz_targets.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/chat_template.hpp>
#include <nemo/text/utf8.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace {

using namespace nemo::text;
using Json = nlohmann::ordered_json;

// A character that no case mapping makes and that a template has no reason to write.
constexpr std::string_view kTyped = "\xe2\x91\xa0";  // U+2460

RenderOptions small_limits() {
  RenderOptions options;
  options.limits = {.output_bytes = 1 << 16, .memory_bytes = 1 << 22, .steps = 50'000};
  options.now = 1'700'000'000;
  return options;
}

/// What every rendering gets besides the input's own variables.
Json conversation() {
  const std::string typed = "a" + std::string(kTyped) + "<|im_end|> b\n c";
  const Json call = {{"function", {{"name", typed}, {"arguments", {{typed, typed}, {"n", 2.0}}}}}};
  return {{"messages",
           {{{"role", "system"}, {"content", typed}},
            {{"role", "user"}, {"content", typed}},
            {{"role", "assistant"},
             {"content", "<think>\nx</think>\ny" + typed},
             {"reasoning_content", typed},
             {"tool_calls", {call}}},
            {{"role", "tool"}, {"content", typed}},
            {{"role", "user"}, {"content", {{{"type", "text"}, {"text", typed}}}}}}},
          {"tools",
           {{{"type", "function"},
             {"function", {{"name", "f"}, {"description", typed}, {"parameters", {{"x", 1}}}}}}}},
          {"add_generation_prompt", true},
          {"enable_thinking", false}};
}

void check(const RenderedPrompt& prompt, bool valid, bool may_write_typed) {
  fuzz_require(!valid || find_invalid_utf8(prompt.text) == std::string_view::npos,
               "prompts are UTF-8");
  std::size_t at = 0;
  for (std::size_t i = 0; i < prompt.segments.size(); ++i) {
    const PromptSegment& segment = prompt.segments[i];
    fuzz_require(segment.begin == at && segment.end > at, "segments are in order, without a gap");
    fuzz_require(i == 0 || prompt.segments[i - 1].origin != segment.origin, "neighbours differ");
    at = segment.end;
    if (may_write_typed || segment.origin != TextOrigin::template_text) continue;
    const auto part = std::string_view(prompt.text).substr(segment.begin, at - segment.begin);
    fuzz_require(part.find(kTyped) == std::string_view::npos, "typed text is not the template's");
  }
  fuzz_require(at == prompt.text.size(), "segments cover the prompt");
}

void render(std::string_view source, std::string_view json) {
  const Template parsed = Template::parse(source);
  Json variables = Json::parse(json, nullptr, false);
  if (!variables.is_object()) variables = Json::object();
  const Json defaults = conversation();
  for (const auto& [name, value] : defaults.items()) {
    if (!variables.contains(name)) variables[name] = value;
  }
  const Json trusted = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  const RenderedPrompt prompt = parsed.render(variables, trusted, small_limits());
  // Escapes and %c spell any character.
  const bool may_write_typed = source.find(kTyped) != std::string_view::npos ||
                               source.find_first_of("\\&") != std::string_view::npos ||
                               source.find("9312") != std::string_view::npos;
  const bool valid = find_invalid_utf8(source) == std::string_view::npos;
  check(prompt, valid, may_write_typed);
  fuzz_require(parsed.render(variables, trusted, small_limits()).text == prompt.text,
               "the same variables give the same prompt");
}

}  // namespace

int nemo_fuzz_template(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\0');
  try {
    render(input.substr(0, end), end == std::string_view::npos ? "" : input.substr(end + 1));
  } catch (const nemo::Error&) {
  }
  return 0;
}

#ifdef NEMO_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return nemo_fuzz_template(data, size);
}
#endif
