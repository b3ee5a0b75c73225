// A checkpoint's chat template: turns an OpenAI-style request into the prompt the model was trained
// on.
#pragma once

#include <nemo/text/jinja.hpp>
#include <nemo/text/rendered_prompt.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace nemo::text {

class ChatTemplate {
 public:
  /// `source`: Jinja text; empty: the built-in default, which follows the Nemotron-3 Nano rules.
  /// `bos` and `eos` are what templates see as bos_token and eos_token. Throws Error{bad_input}
  /// when the source is no template.
  explicit ChatTemplate(std::string source = {}, std::string bos = {}, std::string eos = {});

  /// `request`: an object with `messages` (an array of objects with a `role`), optionally `tools`
  /// and any template variables (enable_thinking, add_generation_prompt, ...); an object
  /// `chat_template_kwargs` is visible as such and its members as variables. What is absent is
  /// undefined to the template. Throws Error{bad_input} for another shape or when the template
  /// refuses.
  [[nodiscard]] RenderedPrompt render(const nlohmann::ordered_json& request) const;

  [[nodiscard]] const std::string& source() const noexcept { return source_; }
  [[nodiscard]] static std::string_view default_source() noexcept;

 private:
  std::string source_;
  Template template_;
  nlohmann::ordered_json trusted_;
};

/// Whether a prompt leaves the model inside an open think block.
[[nodiscard]] bool opens_reasoning(std::string_view prompt) noexcept;

}  // namespace nemo::text
