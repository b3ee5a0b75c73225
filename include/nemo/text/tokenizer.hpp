// Text to token ids and back, for every byte-level BPE vocabulary:
//   ids = BPE(pieces(text between added tokens)) with the added tokens' ids in their places
#pragma once

#include <nemo/text/tokenizer_data.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::text {

/// How encode() treats a text.
struct EncodeOptions {
  bool parse_special = false;  // control tokens written in the text become tokens
  bool add_bos = false;        // put in front what the checkpoint's own rule says (may be nothing)
  bool add_eos = false;        // likewise behind
};

/// A part of a rendered prompt. In a part with parse_special (the template's own words) all added
/// tokens are recognised, in any other (a user's words) none: not even user-defined ones.
struct Segment {
  std::string_view text;
  bool parse_special = false;
};

/// Which special tokens appear in decoded text.
enum class SpecialText : std::uint8_t {
  keep,       // all of them, as they are written
  skip,       // none
  tags_only,  // only those a reasoning and tool-call parser reads: <think>, <tool_call>, ...
};

/// An immutable tokenizer; copies share everything, any number of threads may use it at once.
class Tokenizer {
 public:
  /// Throws Error{bad_file} when ids, types or merges contradict each other, Error{unsupported} for
  /// a pre-tokenizer that is not known.
  explicit Tokenizer(TokenizerData data);

  /// Ids of `text`. Throws Error{bad_input} unless it is valid UTF-8.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text,
                                                 EncodeOptions options = {}) const;

  /// Ids of the concatenated segments, without BOS. A token is recognised only if all of it is
  /// trusted; everything between recognised tokens is tokenized as one continuous text, whatever
  /// segments it came from. Throws Error{bad_input} unless the whole is valid UTF-8.
  [[nodiscard]] std::vector<std::int32_t> encode_segments(std::span<const Segment> segments) const;

  /// Text of `ids`: their bytes, with U+FFFD for every maximal subpart that is not UTF-8. Throws
  /// Error{bad_input} on an id outside the vocabulary.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids,
                                   SpecialText special = SpecialText::keep) const;

  /// The token as the vocabulary writes it ("Ġthe"), and the bytes it stands for (" the"); both
  /// throw Error{bad_input} on an id outside the vocabulary and live as long as any copy.
  [[nodiscard]] std::string_view token_text(std::int32_t id) const;
  [[nodiscard]] std::string_view token_bytes(std::int32_t id) const;

  /// Id of the token written as `text` in the vocabulary.
  [[nodiscard]] std::optional<std::int32_t> find(std::string_view text) const;

  /// False for ids outside the vocabulary.
  [[nodiscard]] bool contains(std::int32_t id) const noexcept;
  [[nodiscard]] TokenType type(std::int32_t id) const;
  /// A mark of the format, never the result of encoding untrusted text.
  [[nodiscard]] bool is_control(std::int32_t id) const noexcept;
  /// Whether decode() shows the token in this mode; true for all ids that are plain text.
  [[nodiscard]] bool is_shown(std::int32_t id, SpecialText special) const noexcept;

  [[nodiscard]] std::int32_t vocab_size() const noexcept;
  [[nodiscard]] std::optional<std::int32_t> bos() const noexcept;
  [[nodiscard]] std::optional<std::int32_t> eos() const noexcept;
  [[nodiscard]] std::optional<std::int32_t> unk() const noexcept;
  [[nodiscard]] std::optional<std::int32_t> pad() const noexcept;
  /// Ids that end an answer, sorted: eos, the file's further ones, </s> and <|im_end|>. (Files
  /// often list only one of the two.)
  [[nodiscard]] const std::vector<std::int32_t>& end_tokens() const noexcept;
  /// What EncodeOptions::add_bos puts in front.
  [[nodiscard]] const std::vector<std::int32_t>& prefix() const noexcept;

 private:
  struct Model;
  std::shared_ptr<const Model> model_;
};

}  // namespace nemo::text
