// Streaming detokenization: text comes out as soon as its characters are complete, never half a
// character, and the pieces together are exactly Tokenizer::decode() of all the ids.
#pragma once

#include <nemo/text/tokenizer.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace nemo::text {

/// Turns chunks of bytes into valid UTF-8, holding back at most three bytes.
class Utf8Stream {
 public:
  /// Everything that became certain with `bytes`; broken sequences are U+FFFD.
  [[nodiscard]] std::string push(std::string_view bytes);
  /// The rest: U+FFFD if a character was cut off, else nothing.
  [[nodiscard]] std::string flush();

 private:
  std::string pending_;  // the start of a character
};

/// Decodes one token after the other.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, SpecialText special = SpecialText::keep)
      : tokenizer_(std::move(tokenizer)), special_(special) {}

  /// Text that became certain with `id`. An id outside the vocabulary gives nothing: a model's
  /// output layer may be wider than its vocabulary.
  [[nodiscard]] std::string push(std::int32_t id);
  /// The rest, at the end of the stream; the decoder is then as new.
  [[nodiscard]] std::string flush() { return bytes_.flush(); }

 private:
  Tokenizer tokenizer_;
  SpecialText special_;
  Utf8Stream bytes_;
};

}  // namespace nemo::text
