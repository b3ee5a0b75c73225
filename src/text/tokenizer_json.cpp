// tokenizer.json: model (vocab, merges), added_tokens, pre_tokenizer, post_processor, decoder. The
// meaning of every field is that of huggingface/tokenizers.
#include "src/text/tokenizer_json_node.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/tokenizer_json.hpp>

#include <unordered_map>
#include <utility>

namespace nemo::text {

namespace {

using namespace tokenizer_file;

class Reader {
 public:
  explicit Reader(TokenizerFile file)
      : file_(std::move(file)), root_{&file_.rest, "tokenizer.json"} {}

  TokenizerData read(const Json* config) {
    root_.object();
    read_vocab();
    read_added_tokens();
    if (config != nullptr) read_config_tokens(Node{config, "tokenizer_config.json"});
    fill_gaps();
    read_model();
    read_merges();
    read_normalizer(root_["normalizer"]);
    data_.splits = read_split_rules(root_["pre_tokenizer"]);
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
      bad(where.path, shown(text) + " is id " + std::to_string(id) + ", far beyond the other ids");
    }
    if (index >= data_.tokens.size()) {
      data_.tokens.resize(index + 1);
      data_.types.resize(index + 1, TokenType::unused);
      taken_.resize(index + 1);
    }
    if (taken_[index]) {
      bad(where.path,
          shown(text) + " has id " + std::to_string(id) + " like " + shown(data_.tokens[index]));
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
    if (!file_.has_vocab) bad(model.path + ".vocab", "must be an object");
    expected_ = file_.vocab.size();
    ids_.reserve(expected_);
    for (auto& [text, id] : file_.vocab) {
      place({nullptr, model.path + ".vocab"}, id, text, TokenType::normal);
      ids_.emplace(std::move(text), id);
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
    if (!file_.has_merges) bad(root_.path + ".model.merges", "must be an array");
    data_.merges = std::move(file_.merges);
  }

  // ---- normalizer, post-processor, decoder ----

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

  TokenizerFile file_;
  Node root_;
  TokenizerData data_;
  std::vector<bool> taken_;
  std::size_t tokens_placed_ = 0;
  std::size_t expected_ = 0;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::unordered_map<std::int32_t, bool> added_ids_;
};

}  // namespace

TokenizerData load_tokenizer_json(std::string_view tokenizer_json,
                                  std::string_view tokenizer_config_json) {
  TokenizerFile file = parse_tokenizer_file(tokenizer_json);
  if (tokenizer_config_json.empty()) return Reader(std::move(file)).read(nullptr);
  const Json config = parse_json(tokenizer_config_json, "tokenizer_config.json");
  return Reader(std::move(file)).read(&config);
}

}  // namespace nemo::text
