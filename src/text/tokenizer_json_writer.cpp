// The reverse of tokenizer_json.cpp: vocabulary and merges as they are, split rules as a Sequence
// that ends in ByteLevel, ids around the text as a TemplateProcessing.
#include <nemo/base/error.hpp>
#include <nemo/text/pretokenizer.hpp>
#include <nemo/text/tokenizer_json_writer.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace nemo::text {
namespace {

using Json = nlohmann::ordered_json;

TokenType type_of(const TokenizerData& data, std::size_t id) {
  return data.types.empty() ? TokenType::normal : data.types[id];
}

Json added_tokens(const TokenizerData& data) {
  Json list = Json::array();
  const auto add = [&list](const AddedToken& token) {
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  };
  if (data.added) {
    for (const AddedToken& token : *data.added) add(token);
    return list;
  }
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const TokenType type = type_of(data, id);
    const bool plain = type == TokenType::user_defined;
    if (!plain && type != TokenType::control && type != TokenType::unknown) continue;
    AddedToken token;
    token.id = static_cast<std::int32_t>(id);
    token.content = data.tokens[id];
    token.special = !plain;
    add(token);
  }
  return list;
}

/// Spelled piece by piece: a hundred thousand entries in an ordered_json would be searched
/// linearly.
std::string vocab_text(const TokenizerData& data) {
  std::string text = "{";
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& token = data.tokens[id];
    if (type_of(data, id) == TokenType::unused && token == "[PAD" + std::to_string(id) + "]") {
      continue;
    }
    text += text.size() > 1 ? ",\n" : "\n";
    text += Json(token).dump() + ":" + std::to_string(id);
  }
  return text + "}";
}

std::string merges_text(const TokenizerData& data) {
  std::string text = "[";
  for (const std::string& merge : data.merges) {
    text += text.size() > 1 ? ",\n" : "\n";
    text += Json(merge).dump();
  }
  return text + "]";
}

const char* name_of(SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::removed:
      return "Removed";
    case SplitBehavior::merged_with_previous:
      return "MergedWithPrevious";
    case SplitBehavior::merged_with_next:
      return "MergedWithNext";
    case SplitBehavior::contiguous:
      return "Contiguous";
    case SplitBehavior::isolated:
      break;
  }
  return "Isolated";
}

Json byte_level(bool add_prefix_space) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", false}};
}

Json pre_tokenizer(const std::vector<SplitRule>& splits) {
  Json list = Json::array();
  bool prefix_space = false;
  for (const SplitRule& rule : splits) {
    if (rule.add_prefix_space) {
      prefix_space = true;
      continue;
    }
    list.push_back({{"type", "Split"},
                    {"pattern", {{rule.is_regex ? "Regex" : "String", rule.pattern}}},
                    {"behavior", name_of(rule.behavior)},
                    {"invert", rule.invert}});
  }
  list.push_back(byte_level(prefix_space));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(list)}};
}

/// Ids around a prompt's text.
Json post_processor(const TokenizerData& data, bool add_bos) {
  std::vector<std::int32_t> before = data.prefix;
  std::vector<std::int32_t> after = data.suffix;
  if (before.empty() && add_bos && data.bos) before.push_back(*data.bos);
  if (after.empty() && data.add_eos.value_or(false) && data.eos) after.push_back(*data.eos);
  Json level = byte_level(true);
  if (before.empty() && after.empty()) return level;
  Json specials = Json::object();
  Json single = Json::array();
  const auto add = [&](const std::vector<std::int32_t>& ids) {
    for (const std::int32_t id : ids) {
      const std::string& name = data.tokens[static_cast<std::size_t>(id)];
      specials[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
      single.push_back({{"SpecialToken", {{"id", name}, {"type_id", 0}}}});
    }
  };
  add(before);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add(after);
  Json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  Json both = Json::array();
  both.push_back(std::move(level));
  both.push_back({{"type", "TemplateProcessing"},
                  {"single", std::move(single)},
                  {"pair", std::move(pair)},
                  {"special_tokens", std::move(specials)}});
  return {{"type", "Sequence"}, {"processors", std::move(both)}};
}

Json token_or_null(const TokenizerData& data, std::optional<std::int32_t> id) {
  if (!id || static_cast<std::size_t>(*id) >= data.tokens.size()) return nullptr;
  return data.tokens[static_cast<std::size_t>(*id)];
}

// Expressions as published tokenizers spell them, with the GGUF name that means the same.
struct Spelling {
  std::string_view expression;
  std::array<std::string_view, 2> names;  // with ignore_merges, without
};
constexpr Spelling kSpellings[] = {
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     {"pixtral", "dbrx"}},
    {"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
     "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     {"tekken", ""}},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     {"", "qwen2"}},
};

bool is_plain(const SplitRule& rule) {
  return rule.is_regex && rule.behavior == SplitBehavior::isolated && !rule.invert &&
         !rule.add_prefix_space;
}

}  // namespace

std::string write_tokenizer_json(const TokenizerData& data) {
  const GgufPreTokenizer named =
      data.splits ? GgufPreTokenizer{*data.splits, false, false} : gguf_pretokenizer(data.pre_name);
  const Json head = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens(data)},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", pre_tokenizer(named.splits)},
                     {"post_processor", post_processor(data, data.add_bos.value_or(named.add_bos))},
                     {"decoder", byte_level(true)}};
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", data.fuse_unk},
                      {"byte_fallback", data.byte_fallback},
                      {"ignore_merges", data.ignore_merges.value_or(named.ignore_merges)}};
  std::string text = head.dump(1);
  text.resize(text.size() - 2);  // the closing brace and its line
  std::string model_text = model.dump();
  model_text.pop_back();
  return text + ",\n \"model\": " + model_text + ",\n\"vocab\": " + vocab_text(data) +
         ",\n\"merges\": " + merges_text(data) + "}}\n";
}

std::string write_tokenizer_config(const TokenizerData& data) {
  const Json json = {
      {"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false},
      {"bos_token", token_or_null(data, data.bos)},   {"eos_token", token_or_null(data, data.eos)},
      {"unk_token", token_or_null(data, data.unk)},   {"pad_token", token_or_null(data, data.pad)}};
  return json.dump(2) + "\n";
}

std::optional<std::string_view> gguf_name_of(const TokenizerData& data) {
  if (!data.splits) return data.pre_name.empty() ? "default" : std::string_view(data.pre_name);
  const bool ignore = data.ignore_merges.value_or(false);
  if (!std::all_of(data.splits->begin(), data.splits->end(), is_plain)) return std::nullopt;
  if (data.splits->size() == 1) {
    for (const Spelling& spelling : kSpellings) {
      const std::string_view name = spelling.names[ignore ? 0 : 1];
      if (spelling.expression == (*data.splits)[0].pattern && !name.empty()) return name;
    }
  }
  for (const std::string_view name : {"pixtral", "dbrx", "tekken", "gpt-2", "qwen2", "qwen35",
                                      "gpt-4o", "seed-coder", "deepseek-v3", "starcoder"}) {
    const GgufPreTokenizer known = gguf_pretokenizer(name);
    const bool same = std::equal(
        known.splits.begin(), known.splits.end(), data.splits->begin(), data.splits->end(),
        [](const SplitRule& a, const SplitRule& b) { return a.pattern == b.pattern; });
    if (same && known.ignore_merges == ignore) return name;
  }
  return std::nullopt;
}

}  // namespace nemo::text
