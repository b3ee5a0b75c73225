// Puts the parts together: added tokens cut the text, the pre-tokenizer cuts what is between them,
// BPE encodes the pieces.
#include <nemo/base/error.hpp>
#include <nemo/text/added_tokens.hpp>
#include <nemo/text/bpe.hpp>
#include <nemo/text/byte_alphabet.hpp>
#include <nemo/text/pretokenizer.hpp>
#include <nemo/text/tokenizer.hpp>
#include <nemo/text/utf8.hpp>

#include <algorithm>
#include <array>
#include <unordered_map>

namespace nemo::text {

namespace {

// Marks of the chat format. A file that calls one of them user-defined or normal is mistaken;
// believing it would let a user's text end the turn. (llama.cpp overrides these types, too.)
constexpr std::array<std::string_view, 3> kAlwaysControl = {"<|im_start|>", "<|im_end|>", "</s>"};

// End an answer wherever they exist: files list one of them as eos and forget the other.
constexpr std::array<std::string_view, 2> kEndTokens = {"</s>", "<|im_end|>"};

// What a reasoning and tool-call parser must see although files may call it special.
constexpr std::array<std::string_view, 8> kTags = {
    "<think>",         "</think>",         "<tool_call>", "</tool_call>",
    "<tool_response>", "</tool_response>", "<TOOLCALL>",  "</TOOLCALL>"};

template <class List>
bool listed(const List& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

/// The unknown token if text may become it. Some files name their end token; text that the
/// vocabulary cannot spell must not end the turn.
std::optional<std::int32_t> harmless_unk(const TokenizerData& data) {
  if (!data.unk || data.unk == data.bos || data.unk == data.eos) return std::nullopt;
  const bool ends =
      std::find(data.end_ids.begin(), data.end_ids.end(), *data.unk) != data.end_ids.end();
  if (ends || listed(kAlwaysControl, data.tokens[static_cast<std::size_t>(*data.unk)])) {
    return std::nullopt;
  }
  return data.unk;
}

/// `data` with the types made consistent, checked for ids out of range.
TokenizerData checked(TokenizerData data) {
  const auto fail = [](const std::string& what) {
    throw Error(ErrorCode::bad_file, "tokenizer: " + what);
  };
  if (data.tokens.empty()) fail("the vocabulary is empty");
  if (data.tokens.size() > (1u << 30)) fail("the vocabulary has more than 2^30 entries");
  if (data.types.empty()) data.types.resize(data.tokens.size(), TokenType::normal);
  if (data.types.size() != data.tokens.size()) {
    fail(std::to_string(data.tokens.size()) + " tokens but " + std::to_string(data.types.size()) +
         " token types");
  }
  const auto size = static_cast<std::int32_t>(data.tokens.size());
  const auto check = [&](std::int32_t id, const char* what) {
    if (id < 0 || id >= size) {
      fail(std::string(what) + " is id " + std::to_string(id) + " but the vocabulary has " +
           std::to_string(size) + " entries");
    }
  };
  if (data.bos) check(*data.bos, "the BOS token");
  if (data.eos) check(*data.eos, "the EOS token");
  if (data.unk) check(*data.unk, "the unknown token");
  if (data.pad) check(*data.pad, "the padding token");
  for (const std::int32_t id : data.end_ids) check(id, "an end token");
  for (const std::int32_t id : data.prefix) check(id, "a token put in front of prompts");
  for (const std::int32_t id : data.suffix) check(id, "a token put after prompts");

  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    TokenType& type = data.types[id];
    const bool text = type == TokenType::normal || type == TokenType::user_defined;
    if (text && listed(kAlwaysControl, data.tokens[id])) type = TokenType::control;
  }
  // Files often call <unk> a control token.
  if (const auto unk = harmless_unk(data)) {
    TokenType& type = data.types[static_cast<std::size_t>(*unk)];
    if (type == TokenType::control) type = TokenType::unknown;
  }
  if (data.added) {
    for (const AddedToken& token : *data.added) check(token.id, "an added token");
  } else {
    data.added.emplace();
    for (std::size_t id = 0; id < data.tokens.size(); ++id) {
      const TokenType type = data.types[id];
      const bool special = type == TokenType::control || type == TokenType::unknown;
      if (!special && type != TokenType::user_defined) continue;
      data.added->push_back({.id = static_cast<std::int32_t>(id),
                             .content = data.tokens[id],
                             .special = special,
                             .in_plain_text = !special});
    }
  }
  return data;
}

}  // namespace

struct Tokenizer::Model {
  explicit Model(TokenizerData data);

  void encode(std::string_view text, std::span<const TrustRange> ranges,
              std::vector<std::int32_t>& out) const;
  void collect_specials();
  void resolve_prefix(bool add_bos_by_name);

  TokenizerData data;
  GgufPreTokenizer named;  // what data.pre_name implies; nothing with explicit splits
  PreTokenizer pretokenizer;
  Bpe bpe;
  AddedTokens added;
  std::vector<bool> special;  // [id]: left out by SpecialText::skip
  std::unordered_map<std::string_view, std::int32_t> literal;  // tokens that are not plain text
  std::vector<std::int32_t> end_tokens;
};

Tokenizer::Model::Model(TokenizerData source)
    : data(std::move(source)),
      named(data.splits ? GgufPreTokenizer{*data.splits} : gguf_pretokenizer(data.pre_name)),
      pretokenizer(named.splits),
      bpe(data, data.ignore_merges.value_or(named.ignore_merges), harmless_unk(data)),
      added(*data.added) {
  data.merges = {};  // the largest part, now in `bpe`
  collect_specials();
  resolve_prefix(named.add_bos);
}

void Tokenizer::Model::collect_specials() {
  special.resize(data.tokens.size());
  for (const AddedToken& token : *data.added) {
    special[static_cast<std::size_t>(token.id)] = token.special;
  }
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.types[id] != TokenType::normal) {
      literal.emplace(data.tokens[id], static_cast<std::int32_t>(id));
    }
  }
  end_tokens = data.end_ids;
  if (data.eos) end_tokens.push_back(*data.eos);
  for (const std::string_view text : kEndTokens) {
    if (const auto it = literal.find(text); it != literal.end()) end_tokens.push_back(it->second);
  }
  std::sort(end_tokens.begin(), end_tokens.end());
  end_tokens.erase(std::unique(end_tokens.begin(), end_tokens.end()), end_tokens.end());
}

void Tokenizer::Model::resolve_prefix(bool add_bos_by_name) {
  const auto require = [](const std::optional<std::int32_t>& id, const char* flag,
                          const char* token) {
    if (id) return;
    throw Error(ErrorCode::bad_file, std::string("tokenizer: ") + flag + " is true but the file " +
                                         "names no " + token + " token");
  };
  if (data.add_bos.value_or(false)) require(data.bos, "add_bos_token", "BOS");
  if (data.add_eos.value_or(false)) require(data.eos, "add_eos_token", "EOS");
  if (data.prefix.empty() && data.bos && data.add_bos.value_or(add_bos_by_name)) {
    data.prefix = {*data.bos};
  }
  if (data.suffix.empty() && data.eos && data.add_eos.value_or(false)) data.suffix = {*data.eos};
}

void Tokenizer::Model::encode(std::string_view text, std::span<const TrustRange> ranges,
                              std::vector<std::int32_t>& out) const {
  PieceSplitter splitter(pretokenizer);
  const PieceSink sink = [&](std::string_view piece) { bpe.encode(piece, out); };
  for (const Fragment& fragment : added.find(text, ranges)) {
    if (fragment.id >= 0) {
      out.push_back(fragment.id);
    } else {
      splitter.split(text.substr(fragment.begin, fragment.end - fragment.begin), sink);
    }
  }
}

Tokenizer::Tokenizer(TokenizerData data)
    : model_(std::make_shared<const Model>(checked(std::move(data)))) {}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  require_utf8(text, "the text");
  std::vector<std::int32_t> ids;
  if (options.add_bos) ids = model_->data.prefix;
  const std::array ranges = {
      TrustRange{text.size(), options.parse_special ? Trust::all : Trust::plain_text}};
  model_->encode(text, ranges, ids);
  if (options.add_eos) {
    ids.insert(ids.end(), model_->data.suffix.begin(), model_->data.suffix.end());
  }
  return ids;
}

std::vector<std::int32_t> Tokenizer::encode_segments(std::span<const Segment> segments) const {
  std::string text;
  std::vector<TrustRange> ranges;
  for (const Segment& segment : segments) {
    if (segment.text.empty()) continue;
    text += segment.text;
    const Trust trust = segment.parse_special ? Trust::all : Trust::none;
    ranges.push_back({text.size(), trust});
  }
  require_utf8(text, "the prompt");
  std::vector<std::int32_t> ids;
  model_->encode(text, ranges, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, SpecialText special) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    const std::string_view each = token_bytes(id);
    if (is_shown(id, special)) bytes += each;
  }
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_text(std::int32_t id) const {
  if (contains(id)) return model_->data.tokens[static_cast<std::size_t>(id)];
  throw Error(ErrorCode::bad_input, "token id " + std::to_string(id) +
                                        " is outside the vocabulary of " +
                                        std::to_string(vocab_size()) + " entries");
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  (void)token_text(id);
  return model_->bpe.bytes(static_cast<std::size_t>(id));
}

std::optional<std::int32_t> Tokenizer::find(std::string_view text) const {
  if (const auto it = model_->literal.find(text); it != model_->literal.end()) return it->second;
  const std::int32_t id = model_->bpe.find(from_alphabet(text).value_or(std::string(text)));
  if (id < 0) return std::nullopt;
  return id;
}

bool Tokenizer::contains(std::int32_t id) const noexcept { return id >= 0 && id < vocab_size(); }

TokenType Tokenizer::type(std::int32_t id) const {
  (void)token_text(id);
  return model_->data.types[static_cast<std::size_t>(id)];
}

bool Tokenizer::is_control(std::int32_t id) const noexcept {
  return contains(id) && model_->data.types[static_cast<std::size_t>(id)] == TokenType::control;
}

bool Tokenizer::is_shown(std::int32_t id, SpecialText special) const noexcept {
  if (!contains(id) || special == SpecialText::keep) return true;
  const auto index = static_cast<std::size_t>(id);
  if (!model_->special[index]) return true;
  return special == SpecialText::tags_only && listed(kTags, model_->data.tokens[index]);
}

std::int32_t Tokenizer::vocab_size() const noexcept {
  return static_cast<std::int32_t>(model_->data.tokens.size());
}
std::optional<std::int32_t> Tokenizer::bos() const noexcept { return model_->data.bos; }
std::optional<std::int32_t> Tokenizer::eos() const noexcept { return model_->data.eos; }
std::optional<std::int32_t> Tokenizer::unk() const noexcept { return model_->data.unk; }
std::optional<std::int32_t> Tokenizer::pad() const noexcept { return model_->data.pad; }
const std::vector<std::int32_t>& Tokenizer::end_tokens() const noexcept {
  return model_->end_tokens;
}
const std::vector<std::int32_t>& Tokenizer::prefix() const noexcept { return model_->data.prefix; }

}  // namespace nemo::text
