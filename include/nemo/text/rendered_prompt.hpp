// A rendered prompt with the origin of every byte, so that a tokenizer can tell the control tokens
// a template wrote from look-alikes that somebody typed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace nemo::text {

/// Who wrote a piece of a prompt, from the most to the least trusted.
enum class TextOrigin : std::uint8_t {
  template_text,  // literals of the chat template and what it computes from them alone
  model_text,     // strings of assistant messages: the model's own earlier output
  user_text,      // every other string of the request
};

/// Bytes [begin, end) of a prompt, all of one origin.
struct PromptSegment {
  std::size_t begin = 0;
  std::size_t end = 0;
  TextOrigin origin = TextOrigin::user_text;
};

/// A prompt and where its bytes come from.
///
/// A control token may be recognised only where all of its bytes are template_text; think and tool
/// tags also where all are model_text (the model printed them itself, and reading them as the same
/// tokens keeps the prefix of the conversation reusable). Pre-tokenization and merges run over the
/// whole text: a segment border is no border between tokens.
struct RenderedPrompt {
  std::string text;
  std::vector<PromptSegment> segments;  // in order, covering `text`; neighbours differ in origin
};

}  // namespace nemo::text
