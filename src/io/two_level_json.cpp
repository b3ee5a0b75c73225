// The events of nlohmann's parser, folded into entries of two-level objects.
#include "two_level_json.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/printable.hpp>

#include <nlohmann/json.hpp>

#include <unordered_set>

namespace nemo {
namespace {

using Json = nlohmann::json;
using Kind = JsonEntry::Kind;

class Events final : public nlohmann::json_sax<Json> {
 public:
  Events(const std::string& name, const std::function<void(JsonEntry&)>& entry)
      : name_(name), call_(entry) {}

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 3 || entry_.kind != Kind::numbers) return other();
    entry_.numbers.push_back(value);
    return true;
  }
  bool string(string_t& value) override {
    if (depth_ != 2) return other();
    entry_.kind = Kind::text;
    entry_.text = std::move(value);
    return finish();
  }
  bool start_object(std::size_t) override {
    if (depth_ == 1) inner_keys_.clear();
    if (depth_ >= 2) entry_.kind = Kind::other;
    return open();
  }
  bool start_array(std::size_t) override {
    if (depth_ <= 1) fail("is not an object of objects");
    entry_.kind = depth_ == 2 ? Kind::numbers : Kind::other;
    return open();
  }
  bool end_object() override {
    if (depth_ == 2 && inner_keys_.empty()) {
      entry_.inner.clear();
      finish();
    }
    return close();
  }
  bool end_array() override { return close(); }
  bool key(string_t& value) override {
    if (depth_ > 2) return true;
    auto& keys = depth_ == 1 ? outer_keys_ : inner_keys_;
    if (!keys.insert(value).second) fail("names " + in_quotes(value) + " twice");
    if (depth_ == 1) {
      entry_.outer = std::move(value);
    } else {
      entry_.inner = std::move(value);
    }
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail("is not valid JSON at byte " + std::to_string(position));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::bad_file, name_ + " " + what);
  }
  bool open() {
    constexpr int kMaxDepth = 64;
    if (++depth_ > kMaxDepth) fail("is nested too deeply");
    return true;
  }
  bool close() {
    --depth_;
    return depth_ == 2 ? finish() : true;
  }
  /// A value that is neither text nor part of an array of whole numbers.
  bool other() {
    if (depth_ == 0) fail("is not an object of objects");
    entry_.kind = Kind::other;
    if (depth_ == 1) entry_.inner.clear();
    return depth_ <= 2 ? finish() : true;
  }
  bool finish() {
    call_(entry_);
    entry_.text.clear();
    entry_.numbers.clear();
    entry_.kind = Kind::other;
    return true;
  }

  const std::string& name_;
  const std::function<void(JsonEntry&)>& call_;
  JsonEntry entry_;
  std::unordered_set<std::string> outer_keys_;
  std::unordered_set<std::string> inner_keys_;
  int depth_ = 0;
};

}  // namespace

void read_two_level_json(std::string_view text, const std::string& name,
                         const std::function<void(JsonEntry&)>& entry) {
  Events events(name, entry);
  Json::sax_parse(text.begin(), text.end(), &events);
}

}  // namespace nemo
