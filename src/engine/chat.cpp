// A turn of a conversation: render, take over what is computed, generate, parse, remember.
#include <nemo/base/error.hpp>
#include <nemo/engine/chat.hpp>
#include <nemo/text/utf8.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;

// Tags that the model writes itself and that keep their meaning in its earlier answers.
constexpr std::array<std::string_view, 4> kModelTags = {"<think>", "</think>", "<tool_call>",
                                                        "</tool_call>"};

// Splits model text into its tags, which are trusted, and the rest, which is not.
void append_model_text(std::string_view text, std::vector<text::Segment>& segments) {
  std::size_t begin = 0;
  for (std::size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at + 1)) {
    const auto tag = std::find_if(kModelTags.begin(), kModelTags.end(), [&](std::string_view t) {
      return text.substr(at, t.size()) == t;
    });
    if (tag == kModelTags.end()) continue;
    if (at > begin) segments.push_back({text.substr(begin, at - begin), false});
    segments.push_back({*tag, true});
    begin = at + tag->size();
    at = begin - 1;
  }
  if (begin < text.size()) segments.push_back({text.substr(begin), false});
}

template <class T, class U>
void take(const std::optional<T>& from, U& to) {
  if (from) to = *from;
}

}  // namespace

SamplingOptions default_sampling(const Checkpoint& checkpoint) {
  SamplingOptions options;
  const SamplingDefaults defaults = checkpoint.sampling();
  take(defaults.temperature, options.temperature);
  take(defaults.top_p, options.top_p);
  take(defaults.min_p, options.min_p);
  take(defaults.top_k, options.top_k);
  take(defaults.repeat_penalty, options.repetition_penalty);
  take(defaults.repeat_last, options.penalty_window);
  try {
    validate(options);
  } catch (const Error& e) {
    throw Error(ErrorCode::bad_file,
                checkpoint.path() + ": its sampling defaults are wrong: " + e.what());
  }
  return options;
}

std::vector<std::int32_t> encode_prompt(const text::Tokenizer& tokenizer,
                                        const text::RenderedPrompt& prompt) {
  std::vector<text::Segment> segments;
  for (const auto& part : prompt.segments) {
    const std::string_view text =
        std::string_view(prompt.text).substr(part.begin, part.end - part.begin);
    if (part.origin == text::TextOrigin::model_text) {
      append_model_text(text, segments);
    } else {
      segments.push_back({text, part.origin == text::TextOrigin::template_text});
    }
  }
  return tokenizer.encode_segments(segments);
}

Chat::Chat(std::shared_ptr<const Model> model)
    : Chat(model, [&] {
        ChatOptions options;
        options.generate.sampling = default_sampling(model->checkpoint());
        return options;
      }()) {}

Chat::Chat(std::shared_ptr<const Model> model, ChatOptions options)
    : model_(std::move(model)),
      tokenizer_(&model_->tokenizer()),
      template_(&model_->chat_template()),
      session_(model_->new_session()),
      options_(std::move(options)) {}

Chat::Chat(std::unique_ptr<Session> session, const text::Tokenizer& tokenizer,
           const text::ChatTemplate& chat_template, ChatOptions options)
    : tokenizer_(&tokenizer),
      template_(&chat_template),
      session_(std::move(session)),
      options_(std::move(options)) {}

void Chat::reset() {
  messages_ = Json::array();
  turns_ = 0;
}

void Chat::system(std::string text) {
  text::require_utf8(text, "the system prompt");
  options_.system = std::move(text);
}

void Chat::add(Json message) {
  if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
    throw Error(ErrorCode::bad_input, "a message must be an object with a \"role\"");
  }
  messages_.push_back(std::move(message));
}

ChatReply Chat::say(std::string_view text, const PieceCallback& on_content,
                    const PieceCallback& on_reasoning) {
  text::require_utf8(text, "the message");
  const std::size_t before = messages_.size();
  messages_.push_back({{"role", "user"}, {"content", text}});
  const auto take_back = [&] {
    messages_.erase(messages_.begin() + static_cast<std::ptrdiff_t>(before), messages_.end());
  };
  try {
    ChatReply reply = respond(on_content, on_reasoning);
    // An answer cancelled before its first token leaves no trace.
    if (messages_.size() == before + 1) take_back();
    return reply;
  } catch (...) {
    take_back();
    throw;
  }
}

text::RenderedPrompt Chat::render(bool add_generation_prompt) const {
  Json variables =
      options_.template_variables.is_object() ? options_.template_variables : Json::object();
  Json messages = Json::array();
  if (!options_.system.empty()) {
    messages.push_back({{"role", "system"}, {"content", options_.system}});
  }
  messages.insert(messages.end(), messages_.begin(), messages_.end());
  variables["messages"] = std::move(messages);
  if (!options_.tools.is_null()) variables["tools"] = options_.tools;
  variables["enable_thinking"] = options_.thinking;
  variables["add_generation_prompt"] = add_generation_prompt;
  return template_->render(variables);
}

ChatReply Chat::respond(const PieceCallback& on_content, const PieceCallback& on_reasoning) {
  const text::RenderedPrompt rendered = render(true);
  const std::vector<std::int32_t> prompt = encode_prompt(*tokenizer_, rendered);
  // Later prompts differ from this one where the answer begins: they repeat the answer without
  // its reasoning. So the state to come back to is the one before the generation prompt.
  const std::vector<std::int32_t> history = encode_prompt(*tokenizer_, render(false));
  const auto shared = std::mismatch(prompt.begin(), prompt.end(), history.begin(), history.end());
  const std::array<std::int64_t, 1> boundary = {shared.first - prompt.begin()};

  text::OutputParser parser(text::opens_reasoning(rendered.text), options_.tools);
  ChatReply reply;
  bool wanted = true;  // both callbacks want more
  const auto hand_out = [&](text::OutputDelta delta) {
    const auto give = [&](const std::string& piece, std::string& whole, const PieceCallback& to) {
      whole += piece;
      if (wanted && to && !piece.empty()) wanted = to(piece);
    };
    give(delta.reasoning, reply.reasoning, on_reasoning);
    give(delta.content, reply.content, on_content);
    for (auto& call : delta.tool_calls) reply.tool_calls.push_back(std::move(call));
    return wanted;
  };
  GenerateOptions options = options_.generate;
  if (options.sampling.seed) *options.sampling.seed += turns_;  // each turn draws its own way
  reply.generation = generate(session_, *tokenizer_, prompt, boundary, options,
                              [&](std::string_view piece) { return hand_out(parser.push(piece)); });
  (void)hand_out(parser.finish(reply.generation.finish == FinishReason::length));
  remember(reply);
  return reply;
}

void Chat::remember(const ChatReply& reply) {
  ++turns_;
  const bool empty = reply.reasoning.empty() && reply.content.empty() && reply.tool_calls.empty();
  if (empty && reply.generation.finish == FinishReason::cancelled) return;
  Json message = {{"role", "assistant"}, {"content", reply.content}};
  if (!reply.reasoning.empty()) message["reasoning_content"] = reply.reasoning;
  if (!reply.tool_calls.empty()) message["tool_calls"] = text::to_json(reply.tool_calls);
  messages_.push_back(std::move(message));
}

}  // namespace nemo
