// An event parser that recognises the paths model.vocab and model.merges by depth and key.
#include "src/text/tokenizer_json_file.hpp"

#include <nemo/base/error.hpp>

namespace nemo::text::tokenizer_file {

namespace {

using Json = nlohmann::json;

[[noreturn]] void bad(const std::string& what) {
  throw Error(ErrorCode::bad_file, "tokenizer.json." + what);
}

class FileParser final : public nlohmann::json_sax<Json> {
 public:
  TokenizerFile take() { return std::move(file_); }

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return value(v); }
  bool number_float(number_float_t v, const string_t& /*text*/) override { return value(v); }
  bool binary(binary_t& /*v*/) override { return value(nullptr); }

  bool number_unsigned(number_unsigned_t v) override {
    if (list_ != List::vocab) return value(v);
    if (v > kMaxTokenId) bad("model.vocab." + shown(key_) + " has an id above 2^30");
    file_.vocab.emplace_back(std::move(key_), static_cast<std::int32_t>(v));
    return true;
  }

  bool string(string_t& v) override {
    if (list_ != List::merges) return value(std::move(v));
    if (in_pair_ == 0) {
      // A header that old files carry over from merges.txt.
      if (v.starts_with("#version")) return true;
      file_.merges.push_back(std::move(v));
    } else {
      // Byte-level tokens hold no space, so joining with one loses nothing.
      if (in_pair_ > 2 || v.empty() || v.find(' ') != std::string::npos) bad_merge();
      if (in_pair_ == 1)
        file_.merges.push_back(std::move(v));
      else
        file_.merges.back().append(" ").append(v);
      ++in_pair_;
    }
    return true;
  }

  bool start_object(std::size_t /*elements*/) override {
    refuse_in_list();
    if (open_.size() == 2 && in_model_ && key_ == "vocab") {
      list_ = List::vocab;
      file_.has_vocab = true;
      return true;
    }
    return open(Json::object());
  }

  bool start_array(std::size_t /*elements*/) override {
    if (list_ == List::merges && in_pair_ == 0) {
      in_pair_ = 1;
      return true;
    }
    refuse_in_list();
    if (open_.size() == 2 && in_model_ && key_ == "merges") {
      list_ = List::merges;
      file_.has_merges = true;
      return true;
    }
    return open(Json::array());
  }

  bool key(string_t& v) override {
    key_ = std::move(v);
    if (list_ == List::none && open_.size() == 1) in_model_ = key_ == "model";
    return true;
  }

  bool end_object() override { return close(); }

  bool end_array() override {
    if (list_ == List::merges && in_pair_ != 0) {
      if (in_pair_ != 3) bad_merge();
      in_pair_ = 0;
      return true;
    }
    return close();
  }

  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    throw Error(ErrorCode::bad_file,
                std::string("tokenizer.json is not valid JSON: ") + error.what());
  }

 private:
  enum class List { none, vocab, merges };

  [[noreturn]] void bad_merge() const {
    bad("model.merges[" + std::to_string(file_.merges.size() - (in_pair_ > 1 ? 1 : 0)) +
        "] must be \"left right\" or [\"left\", \"right\"] without further spaces");
  }
  void refuse_in_list() const {
    if (list_ == List::vocab) bad("model.vocab." + shown(key_) + " must be a token id");
    if (list_ == List::merges) bad_merge();
  }

  Json& add(Json&& v) {
    if (open_.empty()) return file_.rest = std::move(v);
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return parent.back();
    }
    return parent[key_] = std::move(v);
  }
  bool value(Json&& v) {
    refuse_in_list();
    add(std::move(v));
    return true;
  }
  bool open(Json&& empty) {
    open_.push_back(&add(std::move(empty)));
    return true;
  }
  bool close() {
    if (list_ == List::none) open_.pop_back();
    list_ = List::none;
    return true;
  }

  TokenizerFile file_;
  std::vector<Json*> open_;  // the containers around the current value
  std::string key_;
  bool in_model_ = false;
  List list_ = List::none;
  int in_pair_ = 0;  // 0: outside a pair, 1: before left, 2: before right, 3: after right
};

}  // namespace

std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 60;
  std::string out = "'";
  for (const char c : text.substr(0, kShown)) {
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + (text.size() > kShown ? "...'" : "'");
}

Json parse_json(std::string_view text, const char* file) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::bad_file, std::string(file) + " is not valid JSON: " + error.what());
  }
}

TokenizerFile parse_tokenizer_file(std::string_view text) {
  FileParser parser;
  Json::sax_parse(text, &parser);
  return parser.take();
}

}  // namespace nemo::text::tokenizer_file
