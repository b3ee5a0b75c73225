// What a checkpoint says about its tokenizer, independent of the container it came from: filled by
// the GGUF loader or by load_tokenizer_json(), turned into a working Tokenizer by its constructor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nemo::text {

/// Kind of a vocabulary entry; the values are GGUF's `tokenizer.ggml.token_type` codes.
enum class TokenType : std::uint8_t {
  normal = 1,        // text in the GPT-2 byte alphabet
  unknown = 2,       // stands for text the vocabulary cannot spell
  control = 3,       // a mark of the format (<s>, <|im_end|>): never produced by plain text
  user_defined = 4,  // an added word, literal text
  unused = 5,        // padding of the vocabulary ([PADn]): decodes to nothing
  byte = 6,          // <0xXX>
};

/// What happens to the matches of a split expression (Hugging Face's names).
enum class SplitBehavior : std::uint8_t {
  removed,               // matches are dropped
  isolated,              // every match is a piece of its own
  merged_with_previous,  // a match belongs to the text before it
  merged_with_next,      // a match belongs to the text after it
  contiguous,            // adjacent matches form one piece
};

/// One step of pre-tokenization, applied to every piece the step before it left.
struct SplitRule {
  std::string pattern = {};
  bool is_regex = true;  // false: `pattern` is literal text
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;            // the text between matches plays the part of the matches
  bool add_prefix_space = false;  // no split: a piece that does not start with a space gets one
};

/// How an added token is searched for in text before anything else looks at it.
struct AddedToken {
  std::int32_t id = 0;
  std::string content = {};    // literal text
  bool lstrip = false;         // takes the white space before it along
  bool rstrip = false;         // takes the white space after it along
  bool single_word = false;    // only where no word character touches it
  bool normalized = false;     // searched only after all the others
  bool special = true;         // decode may leave it out
  bool in_plain_text = false;  // found even when special tokens are not parsed (GGUF user_defined)
};

/// A tokenizer as its file describes it. `tokens` and `types` are parallel; everything else has a
/// meaningful default. Ids are indices into `tokens`.
struct TokenizerData {
  std::vector<std::string> tokens;  // normal tokens in the GPT-2 byte alphabet, others literal
  std::vector<TokenType> types;     // empty: all normal
  std::vector<std::string> merges;  // "left right" in the byte alphabet, best first

  /// GGUF `tokenizer.ggml.pre` ("pixtral", "gpt-2", ...; see gguf_pretokenizer_names()); empty
  /// means "default" unless `splits` is given. Ignored when `splits` is given.
  std::string pre_name;
  std::optional<std::vector<SplitRule>> splits;  // explicit rules of a tokenizer.json

  /// Added tokens with their flags (tokenizer.json). Without it, the constructor derives them from
  /// `types` as GGUF readers do: control and unknown are special, user_defined is plain text.
  std::optional<std::vector<AddedToken>> added;

  std::optional<bool> ignore_merges;  // absent: what `pre_name` implies
  std::optional<bool> add_bos;        // absent: what `pre_name` implies
  std::optional<bool> add_eos;        // absent: false
  std::vector<std::int32_t> prefix;   // ids put in front of a prompt; wins over add_bos
  std::vector<std::int32_t> suffix;   // ids put after a prompt; wins over add_eos

  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  std::optional<std::int32_t> unk;
  std::optional<std::int32_t> pad;
  std::vector<std::int32_t> end_ids;  // further end tokens (generation_config.json's eos list)
  bool fuse_unk = false;              // neighbouring unknown bytes share one unk token
  bool merges_in_vocab = false;       // a merge whose result is no token is an error
  bool byte_fallback = false;         // bytes without a token are spelled with <0xXX> tokens
};

}  // namespace nemo::text
