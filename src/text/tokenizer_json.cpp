// tokenizer.json: model (vocab, merges), added_tokens, pre_tokenizer, post_processor, decoder. The
// meaning of every field is that of huggingface/tokenizers.
#include <nemo/base/error.hpp>
#include <nemo/text/tokenizer_json.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

namespace nemo::text {

namespace {

using Json = nlohmann::json;

// Sequences inside sequences: real files have one level.
constexpr int kMaxNesting = 16;

// ByteLevel's own expression (GPT-2's), used when use_regex is true.
constexpr std::string_view kByteLevelSplit =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

[[noreturn]] void bad(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::bad_file, where + " " + what);
}
[[noreturn]] void unsupported(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::unsupported, where + ": " + what);
}

/// A value for a one-line message, cut to a readable length.
std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 60;
  std::string out = "'";
  for (const char c : text.substr(0, kShown)) {
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + (text.size() > kShown ? "...'" : "'");
}

/// A JSON value together with its path in the file, for messages.
struct Node {
  const Json* value = nullptr;
  std::string path;

  [[nodiscard]] bool present() const { return value != nullptr && !value->is_null(); }

  /// Member `key`; absent when this is no object or has none.
  [[nodiscard]] Node operator[](const char* key) const {
    Node child{nullptr, path + "." + key};
    if (value != nullptr && value->is_object()) {
      if (const auto it = value->find(key); it != value->end()) child.value = &*it;
    }
    return child;
  }
  [[nodiscard]] Node element(std::size_t i) const {
    return {&(*value)[i], path + "[" + std::to_string(i) + "]"};
  }
  const Node& object() const {
    if (value == nullptr || !value->is_object()) bad(path, "must be an object");
    return *this;
  }
  [[nodiscard]] std::size_t array_size() const {
    if (value == nullptr || !value->is_array()) bad(path, "must be an array");
    return value->size();
  }
  [[nodiscard]] const std::string& string() const {
    if (value == nullptr || !value->is_string()) bad(path, "must be a string");
    return value->get_ref<const std::string&>();
  }
  [[nodiscard]] bool boolean(bool fallback) const {
    if (!present()) return fallback;
    if (!value->is_boolean()) bad(path, "must be true or false");
    return value->get<bool>();
  }
  [[nodiscard]] std::int32_t id() const {
    constexpr std::uint64_t kMaxId = 1u << 30;
    if (value == nullptr || !value->is_number_unsigned() || value->get<std::uint64_t>() > kMaxId) {
      bad(path, "must be a token id (a whole number up to 2^30)");
    }
    return value->get<std::int32_t>();
  }
};

Json parse(std::string_view text, const char* name) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::bad_file, std::string(name) + " is not valid JSON: " + error.what());
  }
}

class Reader {
 public:
  explicit Reader(const Json& root) : root_{&root, "tokenizer.json"} {}

  TokenizerData read(const Json* config) {
    root_.object();
    read_vocab();
    read_added_tokens();
    if (config != nullptr) read_config_tokens(Node{config, "tokenizer_config.json"});
    fill_gaps();
    read_model();
    read_merges();
    read_normalizer(root_["normalizer"]);
    read_pre_tokenizers();
    read_post_processor(root_["post_processor"]);
    read_decoder(root_["decoder"]);
    if (config != nullptr) read_config_names(Node{config, "tokenizer_config.json"});
    guess_missing_names();
    data_.merges_in_vocab = true;
    return std::move(data_);
  }

 private:
  // ---- vocabulary ----

  /// Makes room for `id`; a hole of more ids than there are tokens is a mistake, not padding.
  void place(const Node& where, std::int32_t id, const std::string& text, TokenType type) {
    constexpr std::size_t kHoles = 1u << 16;
    const auto index = static_cast<std::size_t>(id);
    if (index >= 2 * tokens_placed_ + expected_ + kHoles) {
      bad(where.path, "is id " + std::to_string(id) + ", far beyond the other ids");
    }
    if (index >= data_.tokens.size()) {
      data_.tokens.resize(index + 1);
      data_.types.resize(index + 1, TokenType::unused);
      taken_.resize(index + 1);
    }
    if (taken_[index]) {
      bad(where.path, "has id " + std::to_string(id) + " like " + shown(data_.tokens[index]));
    }
    taken_[index] = true;
    ++tokens_placed_;
    data_.tokens[index] = text;
    data_.types[index] = type;
  }

  void read_vocab() {
    const Node model = root_["model"];
    model.object();
    if (const Node type = model["type"]; type.present() && type.string() != "BPE") {
      unsupported(type.path, shown(type.string()) + " is not supported, only BPE");
    }
    const Node vocab = model["vocab"];
    vocab.object();
    expected_ = vocab.value->size();
    ids_.reserve(expected_);
    for (const auto& [text, value] : vocab.value->items()) {
      const Node where{&value, vocab.path};
      if (!value.is_number_unsigned()) bad(vocab.path, "gives no id for " + shown(text));
      place({&value, vocab.path + "." + shown(text)}, where.id(), text, TokenType::normal);
      ids_.emplace(text, where.id());
    }
  }

  void add_token(const Node& entry, std::int32_t id) {
    AddedToken token;
    token.id = id;
    token.content = entry["content"].string();
    if (token.content.empty()) bad(entry.path + ".content", "is empty");
    token.special = entry["special"].boolean(false);
    token.lstrip = entry["lstrip"].boolean(false);
    token.rstrip = entry["rstrip"].boolean(false);
    token.single_word = entry["single_word"].boolean(false);
    token.normalized = entry["normalized"].boolean(!token.special);
    const TokenType type = token.special ? TokenType::control : TokenType::user_defined;
    const auto [it, is_new] = ids_.emplace(token.content, id);
    if (!is_new && it->second != id) {
      bad(entry.path, shown(token.content) + " has id " + std::to_string(id) + " but is also id " +
                          std::to_string(it->second));
    }
    if (is_new) {
      place(entry, id, token.content, type);
    } else {
      data_.types[static_cast<std::size_t>(id)] = type;
    }
    added_ids_.insert_or_assign(id, true);
    data_.added->push_back(std::move(token));
  }

  void read_added_tokens() {
    data_.added.emplace();
    const Node list = root_["added_tokens"];
    if (!list.present()) return;
    for (std::size_t i = 0; i < list.array_size(); ++i) {
      const Node entry = list.element(i);
      entry.object();
      const std::int32_t id = entry["id"].id();
      if (added_ids_.contains(id)) bad(entry.path + ".id", "appears twice");
      add_token(entry, id);
    }
  }

  /// added_tokens_decoder of tokenizer_config.json: {"10": {content, special, ...}}. What
  /// tokenizer.json says about an id comes first.
  void read_config_tokens(const Node& config) {
    config.object();
    const Node decoder = config["added_tokens_decoder"];
    if (!decoder.present()) return;
    decoder.object();
    for (const auto& [key, value] : decoder.value->items()) {
      const Node entry{&value, decoder.path + "." + shown(key)};
      entry.object();
      const bool digits = !key.empty() && key.size() <= 9 &&
                          key.find_first_not_of("0123456789") == std::string::npos;
      if (!digits) bad(entry.path, "is no token id");
      const std::int32_t id = std::stoi(key);
      if (!added_ids_.contains(id)) add_token(entry, id);
    }
  }

  void fill_gaps() {
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      if (!taken_[id]) data_.tokens[id] = "[PAD" + std::to_string(id) + "]";
    }
  }

  std::optional<std::int32_t> id_of(const std::string& text) const {
    const auto it = ids_.find(text);
    if (it == ids_.end()) return std::nullopt;
    return it->second;
  }

  // ---- model ----

  void read_model() {
    const Node model = root_["model"];
    data_.ignore_merges = model["ignore_merges"].boolean(false);
    data_.byte_fallback = model["byte_fallback"].boolean(false);
    data_.fuse_unk = model["fuse_unk"].boolean(false);
    if (const Node unk = model["unk_token"]; unk.present()) {
      data_.unk = id_of(unk.string());
      if (!data_.unk) bad(unk.path, shown(unk.string()) + " is not in model.vocab");
    }
    if (const Node dropout = model["dropout"]; dropout.present()) {
      if (!dropout.value->is_number()) bad(dropout.path, "must be a number");
      if (dropout.value->get<double>() != 0) unsupported(dropout.path, "must be null or 0");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Node affix = model[key];
      if (affix.present() && !affix.string().empty()) {
        unsupported(affix.path, "byte-level BPE has none");
      }
    }
    if (data_.byte_fallback) {
      for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
        const std::string& text = data_.tokens[id];
        const bool byte = text.size() == 6 && text.starts_with("<0x") && text.ends_with(">");
        if (byte && data_.types[id] == TokenType::normal) data_.types[id] = TokenType::byte;
      }
    }
  }

  void read_merges() {
    const Node merges = root_["model"]["merges"];
    const std::size_t size = merges.array_size();
    data_.merges.reserve(size);
    for (std::size_t i = 0; i < size; ++i) {
      const Json& rule = (*merges.value)[i];
      if (rule.is_string()) {
        data_.merges.push_back(rule.get_ref<const std::string&>());
        continue;
      }
      const bool pair =
          rule.is_array() && rule.size() == 2 && rule[0].is_string() && rule[1].is_string();
      if (!pair) bad(merges.element(i).path, "must be \"left right\" or [\"left\", \"right\"]");
      const auto& left = rule[0].get_ref<const std::string&>();
      const auto& right = rule[1].get_ref<const std::string&>();
      if (left.find(' ') != std::string::npos || right.find(' ') != std::string::npos) {
        unsupported(merges.element(i).path, "holds a space, which byte-level BPE never does");
      }
      data_.merges.push_back(left + ' ' + right);
    }
  }

  // ---- normalizer, pre-tokenizer, post-processor, decoder ----

  static void check_nesting(const Node& node, int nesting) {
    if (nesting > kMaxNesting) bad(node.path.substr(0, 60) + "...", "is nested too deeply");
  }

  void read_normalizer(const Node& node, int nesting = 0) {
    if (!node.present()) return;
    node.object();
    check_nesting(node, nesting);
    const std::string& type = node["type"].string();
    if (type != "Sequence") unsupported(node.path, "normalizer " + shown(type));
    const Node list = node["normalizers"];
    for (std::size_t i = 0; i < list.array_size(); ++i)
      read_normalizer(list.element(i), nesting + 1);
  }

  void read_pre_tokenizers() {
    data_.splits.emplace();
    const Node node = root_["pre_tokenizer"];
    if (node.present()) read_pre_tokenizer(node);
    if (!byte_level_) {
      unsupported(node.path, "has no ByteLevel part; only byte-level BPE is supported");
    }
  }

  void read_pre_tokenizer(const Node& node, int nesting = 0) {
    node.object();
    check_nesting(node, nesting);
    const std::string& type = node["type"].string();
    if (type == "Sequence") {
      const Node list = node["pretokenizers"];
      for (std::size_t i = 0; i < list.array_size(); ++i)
        read_pre_tokenizer(list.element(i), nesting + 1);
      return;
    }
    if (byte_level_) unsupported(node.path, "follows ByteLevel, which must come last");
    std::vector<SplitRule>& splits = *data_.splits;
    if (type == "ByteLevel") {
      byte_level_ = true;
      if (node["add_prefix_space"].boolean(true))
        splits.push_back({.pattern = {}, .add_prefix_space = true});
      if (node["use_regex"].boolean(true)) {
        splits.push_back({.pattern = std::string(kByteLevelSplit)});
      }
    } else if (type == "Split") {
      splits.push_back(read_split(node));
    } else if (type == "Digits") {
      const bool each = node["individual_digits"].boolean(false);
      splits.push_back({.pattern = "\\p{N}",
                        .behavior = each ? SplitBehavior::isolated : SplitBehavior::contiguous});
    } else if (type == "Punctuation") {
      splits.push_back({.pattern = "[\\p{P}!-/:-@\\[-`{-~]", .behavior = read_behavior(node)});
    } else if (type == "WhitespaceSplit") {
      splits.push_back({.pattern = "\\s", .behavior = SplitBehavior::removed});
    } else if (type == "Whitespace") {
      splits.push_back(
          {.pattern = "\\w+|[^\\w\\s]+", .behavior = SplitBehavior::removed, .invert = true});
    } else {
      unsupported(node.path, "pre-tokenizer " + shown(type));
    }
  }

  static SplitRule read_split(const Node& node) {
    const Node pattern = node["pattern"];
    pattern.object();
    SplitRule rule;
    rule.is_regex = pattern["Regex"].present();
    rule.pattern = (rule.is_regex ? pattern["Regex"] : pattern["String"]).string();
    if (rule.pattern.empty()) bad(pattern.path, "is empty");
    rule.behavior = read_behavior(node);
    rule.invert = node["invert"].boolean(false);
    return rule;
  }

  static SplitBehavior read_behavior(const Node& node) {
    constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kNames = {{
        {"Isolated", SplitBehavior::isolated},
        {"Removed", SplitBehavior::removed},
        {"MergedWithPrevious", SplitBehavior::merged_with_previous},
        {"MergedWithNext", SplitBehavior::merged_with_next},
        {"Contiguous", SplitBehavior::contiguous},
    }};
    const Node behavior = node["behavior"];
    if (!behavior.present()) return SplitBehavior::isolated;
    for (const auto& [name, value] : kNames) {
      if (behavior.string() == name) return value;
    }
    bad(behavior.path, shown(behavior.string()) +
                           " is none of Isolated, Removed, MergedWithPrevious, MergedWithNext, "
                           "Contiguous");
  }

  void read_post_processor(const Node& node, int nesting = 0) {
    if (!node.present()) return;
    node.object();
    check_nesting(node, nesting);
    const std::string& type = node["type"].string();
    if (type == "Sequence") {
      const Node list = node["processors"];
      for (std::size_t i = 0; i < list.array_size(); ++i)
        read_post_processor(list.element(i), nesting + 1);
    } else if (type == "TemplateProcessing") {
      read_template(node);
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
      const auto id = [&](const char* key) {
        const Node pair = node[key];
        if (pair.array_size() != 2) bad(pair.path, "must be [token, id]");
        return known(pair.element(1));
      };
      data_.prefix.insert(data_.prefix.begin(), id("cls"));
      data_.suffix.push_back(id("sep"));
    } else if (type != "ByteLevel") {
      unsupported(node.path, "post-processor " + shown(type));
    }
  }

  /// single: [{"SpecialToken": {"id": name}}, {"Sequence": {"id": "A"}}, ...]; each further
  /// template wraps what is there.
  void read_template(const Node& node) {
    const Node single = node["single"];
    std::vector<std::int32_t> before;
    std::vector<std::int32_t> after;
    bool text_seen = false;
    for (std::size_t i = 0; i < single.array_size(); ++i) {
      const Node item = single.element(i);
      if (item["Sequence"].present()) {
        if (std::exchange(text_seen, true)) bad(single.path, "names the text twice");
        continue;
      }
      const std::string& name = item["SpecialToken"]["id"].string();
      const Node special = node["special_tokens"][name.c_str()];
      const Node ids = special["ids"];
      for (std::size_t k = 0; k < ids.array_size(); ++k) {
        (text_seen ? after : before).push_back(known(ids.element(k)));
      }
    }
    if (!text_seen) bad(single.path, "does not name the text");
    data_.prefix.insert(data_.prefix.begin(), before.begin(), before.end());
    data_.suffix.insert(data_.suffix.end(), after.begin(), after.end());
  }

  std::int32_t known(const Node& node) const {
    const std::int32_t id = node.id();
    if (static_cast<std::size_t>(id) >= data_.tokens.size()) {
      bad(node.path, "is id " + std::to_string(id) + ", which is not in the vocabulary");
    }
    return id;
  }

  static void read_decoder(const Node& node, int nesting = 0) {
    if (!node.present()) return;
    node.object();
    check_nesting(node, nesting);
    const std::string& type = node["type"].string();
    if (type == "Sequence") {
      const Node list = node["decoders"];
      for (std::size_t i = 0; i < list.array_size(); ++i)
        read_decoder(list.element(i), nesting + 1);
    } else if (type != "ByteLevel" && type != "ByteFallback" && type != "Fuse") {
      unsupported(node.path, "decoder " + shown(type));
    }
  }

  // ---- names ----

  void read_config_names(const Node& config) {
    const auto named = [&](const char* key, std::optional<std::int32_t>& id) {
      const Node node = config[key];
      if (!node.present()) return;
      const Node text = node.value->is_object() ? node["content"] : node;
      if (const auto found = id_of(text.string())) id = found;
    };
    named("bos_token", data_.bos);
    named("eos_token", data_.eos);
    named("unk_token", data_.unk);
    named("pad_token", data_.pad);
  }

  void guess_missing_names() {
    if (!data_.bos) data_.bos = id_of("<s>");
    if (!data_.eos) data_.eos = id_of("</s>");
  }

  Node root_;
  TokenizerData data_;
  std::vector<bool> taken_;
  std::size_t tokens_placed_ = 0;
  std::size_t expected_ = 0;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::unordered_map<std::int32_t, bool> added_ids_;
  bool byte_level_ = false;
};

}  // namespace

TokenizerData load_tokenizer_json(std::string_view tokenizer_json,
                                  std::string_view tokenizer_config_json) {
  const Json root = parse(tokenizer_json, "tokenizer.json");
  if (tokenizer_config_json.empty()) return Reader(root).read(nullptr);
  const Json config = parse(tokenizer_config_json, "tokenizer_config.json");
  return Reader(root).read(&config);
}

}  // namespace nemo::text
