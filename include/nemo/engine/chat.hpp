// A conversation: keeps the messages, renders them with the model's own chat template, generates,
// and splits what comes out into reasoning, answer and tool calls. The turns' common beginning is
// computed once (PrefixSession).
#pragma once

#include <nemo/engine/generator.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/engine/prefix_session.hpp>
#include <nemo/text/chat_template.hpp>
#include <nemo/text/output_parser.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// The library's defaults overlaid with what the checkpoint recommends (generation_config.json,
/// GGUF general.sampling.*).
[[nodiscard]] SamplingOptions default_sampling(const Checkpoint& checkpoint);

/// Token ids of a rendered prompt. Control tokens come from the template's own text only, think and
/// tool tags also from the model's earlier answers, nothing from what users wrote.
[[nodiscard]] std::vector<std::int32_t> encode_prompt(const text::Tokenizer& tokenizer,
                                                      const text::RenderedPrompt& prompt);

struct ChatOptions {
  GenerateOptions generate;
  std::string system;                         // system prompt; empty: none
  bool thinking = true;                       // enable_thinking of the template
  nlohmann::ordered_json tools;               // OpenAI-style definitions, or null
  nlohmann::ordered_json template_variables;  // an object of further variables, or null
};

struct ChatReply {
  std::string reasoning;
  std::string content;
  std::vector<text::ToolCall> tool_calls;
  GenerateResult generation;  // its text is the raw output
};

class Chat {
 public:
  /// Samples as the checkpoint recommends.
  explicit Chat(std::shared_ptr<const Model> model);
  Chat(std::shared_ptr<const Model> model, ChatOptions options);
  /// On a session from elsewhere; tokenizer and template must outlive the chat.
  Chat(std::unique_ptr<Session> session, const text::Tokenizer& tokenizer,
       const text::ChatTemplate& chat_template, ChatOptions options);

  /// Adds a user message and generates the answer, handing out its content and its reasoning as
  /// they come; a callback that returns false ends the answer, which stays in the history as far as
  /// it got. Throws Error{bad_input} for text that is not UTF-8 or that the template refuses,
  /// {capacity} when the conversation outgrows the context; the history is then as before.
  ChatReply say(std::string_view text, const PieceCallback& on_content = {},
                const PieceCallback& on_reasoning = {});

  /// Generates an answer to the messages as they are, for example after add() of tool results.
  ChatReply respond(const PieceCallback& on_content = {}, const PieceCallback& on_reasoning = {});

  /// Appends an OpenAI-style message: {"role": ..., "content": ...}. Throws Error{bad_input} for
  /// anything without a role.
  void add(nlohmann::ordered_json message);

  /// Forgets all messages but keeps the system prompt.
  void reset();
  /// Sets the system prompt of this and later turns.
  void system(std::string text);
  [[nodiscard]] const std::string& system() const noexcept { return options_.system; }
  void thinking(bool enabled) { options_.thinking = enabled; }
  [[nodiscard]] bool thinking() const noexcept { return options_.thinking; }

  [[nodiscard]] GenerateOptions& generate_options() noexcept { return options_.generate; }
  /// The messages so far, without the system prompt.
  [[nodiscard]] const nlohmann::ordered_json& messages() const noexcept { return messages_; }
  [[nodiscard]] const Session& session() const noexcept { return session_.session(); }

 private:
  [[nodiscard]] text::RenderedPrompt render(bool add_generation_prompt) const;
  void remember(const ChatReply& reply);

  std::shared_ptr<const Model> model_;  // keeps what the references below point to; may be null
  const text::Tokenizer* tokenizer_;
  const text::ChatTemplate* template_;
  PrefixSession session_;
  ChatOptions options_;
  nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();
  std::uint64_t turns_ = 0;
};

}  // namespace nemo
