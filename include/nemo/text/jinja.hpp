// Jinja templates as Hugging Face chat templates use them: parse once, render many times, with the
// origin of every byte of the result.
//
// The language is what jinja2 3.1 accepts in transformers' environment (an immutable sandbox with
// trim_blocks, lstrip_blocks, loop controls, {% generation %}, tojson without HTML escapes,
// raise_exception, strftime_now), without template inheritance, imports and gettext. Results follow
// Python: True, None, 2.0, //, %, repr of lists.
#pragma once

#include <nemo/text/rendered_prompt.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string_view>

namespace nemo::text {

namespace jinja {
struct Program;
}

/// What one rendering may use before it fails with ErrorCode::capacity. The defaults leave room for
/// prompts of millions of tokens and stop a runaway template within seconds.
struct RenderLimits {
  std::size_t output_bytes = std::size_t{64} << 20;   // the prompt, and any single string
  std::size_t memory_bytes = std::size_t{768} << 20;  // all live values together
  std::uint64_t steps = 50'000'000;  // evaluated nodes, visited items, 64-byte blocks
};

/// Everything but the variables that a rendering depends on.
struct RenderOptions {
  RenderLimits limits;
  std::optional<std::time_t> now;  // the time strftime_now() shows; the clock's if not given
};

/// A parsed template: immutable, cheap to copy, usable from several threads at once.
class Template {
 public:
  /// Throws Error{bad_input} with the line when `source` is not a valid template.
  [[nodiscard]] static Template parse(std::string_view source);

  /// Renders with the members of `variables` (an object) as variables. `trusted` (an object, or
  /// null for none) holds further variables that count as template text, such as bos_token.
  ///
  /// Strings below an element of variables["messages"] whose "role" is "assistant" are model_text,
  /// all other strings of `variables` user_text. A string keeps its marks through concatenation,
  /// slicing, trimming, splitting, joining and case mapping; what replaces a piece of text is never
  /// more trusted than that piece was.
  ///
  /// Throws Error{bad_input} with the line when the template fails (also through raise_exception),
  /// Error{capacity} when a limit is hit.
  [[nodiscard]] RenderedPrompt render(const nlohmann::ordered_json& variables,
                                      const nlohmann::ordered_json& trusted = nullptr,
                                      const RenderOptions& options = {}) const;

 private:
  explicit Template(std::shared_ptr<const jinja::Program> program);
  std::shared_ptr<const jinja::Program> program_;
};

}  // namespace nemo::text
