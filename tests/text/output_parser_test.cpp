// Every golden parser case, whole, one character at a time, in every two-way split and as given.
#include "catch.hpp"

#include <nemo/text/output_parser.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Json = nlohmann::ordered_json;
using nemo::text::OutputParser;

struct Result {
  std::string reasoning, content;
  std::vector<nemo::text::ToolCall> calls;

  void add(nemo::text::OutputDelta delta) {
    reasoning += delta.reasoning;
    content += delta.content;
    for (auto& call : delta.tool_calls) calls.push_back(std::move(call));
  }
  [[nodiscard]] Json json() const {
    Json list = Json::array();
    for (const auto& call : calls)
      list.push_back({{"name", call.name}, {"arguments", call.arguments}});
    return {{"reasoning_content", reasoning}, {"content", content}, {"tool_calls", list}};
  }
};

Result parse(const Json& c, const std::vector<std::string>& pieces) {
  OutputParser parser(c.at("mode") == "think", c.value("tools", Json(nullptr)));
  Result result;
  for (const std::string& piece : pieces) result.add(parser.push(piece));
  result.add(parser.finish(c.value("finish", "stop") == "length"));
  return result;
}

/// Equal as JSON values, whatever the order of members; numbers numerically.
bool same(const Json& a, const Json& b) {
  if (a.is_object() && b.is_object()) {
    if (a.size() != b.size()) return false;
    for (const auto& [key, value] : a.items()) {
      if (!b.contains(key) || !same(value, b[key])) return false;
    }
    return true;
  }
  if (a.is_array() && b.is_array()) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!same(a[i], b[i])) return false;
    }
    return true;
  }
  return a == b;
}

bool matches(const Json& c, const Json& actual) {
  std::vector<Json> accepted = {c.at("expected")};
  if (c.contains("accept") && c["accept"].is_array()) {
    for (const Json& a : c["accept"]) accepted.push_back(a);
  }
  for (const Json& expected : accepted) {
    bool all = true;
    for (const char* field : {"reasoning_content", "content", "tool_calls"}) {
      bool checked = true;
      if (c.contains("unchecked") && c["unchecked"].is_array()) {
        for (const Json& u : c["unchecked"]) checked = checked && u != field;
      }
      const Json none = std::string_view(field) == "tool_calls" ? Json::array() : Json("");
      if (checked && !same(expected.value(field, none), actual.at(field))) all = false;
    }
    if (all) return true;
  }
  return false;
}

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> out;
  for (const char ch : text) out.emplace_back(1, ch);
  return out;
}

Json golden_cases() {
  std::ifstream file(std::string(NEMO_SOURCE_DIR) + "/tests/data/text/parse.json");
  return Json::parse(file);
}

std::string call(const std::string& inside) { return "<tool_call>\n" + inside + "\n</tool_call>"; }

}  // namespace

TEST_CASE("golden parser cases come out alike however the text is cut") {
  for (const Json& c : golden_cases()) {
    const auto text = c.at("text").get<std::string>();
    INFO(c.at("id") << ": " << c.at("text"));
    const Json whole = parse(c, {text}).json();
    INFO(whole.dump());
    CHECK(matches(c, whole));
    CHECK(parse(c, characters(text)).json() == whole);
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      if (parse(c, {text.substr(0, cut), text.substr(cut)}).json() != whole) {
        FAIL("cut at byte " << cut);
      }
    }
    if (c.contains("chunkings")) {
      for (const Json& chunks : c["chunkings"]) {
        CHECK(parse(c, chunks.get<std::vector<std::string>>()).json() == whole);
      }
    }
  }
}

TEST_CASE("text flows out as soon as it cannot be part of a tag") {
  OutputParser parser(true);
  CHECK(parser.push("a <b").reasoning == "a <b");
  CHECK(parser.push(" </thi").reasoning.empty());
  const auto delta = parser.push("nk>\n Hello <tool");
  CHECK(delta.reasoning.empty());
  CHECK(delta.content == "Hello");
  CHECK(parser.push("box>").content == " <toolbox>");
}

TEST_CASE("a megabyte of white space and of unfinished tags takes linear time") {
  OutputParser parser(true);
  Result result;
  for (int i = 0; i < 1'000'000; ++i) result.add(parser.push(" "));
  for (int i = 0; i < 200'000; ++i) result.add(parser.push("</th"));
  result.add(parser.finish(false));
  CHECK(result.reasoning.size() == 1'800'000);
}

TEST_CASE("arguments follow unions, references, enums and nullable types") {
  const Json tools = Json::parse(R"([{"name": "f", "parameters": {"type": "object", "properties": {
      "r": {"$ref": "#/$defs/size"}, "e": {"enum": [1, 2]}, "m": {"type": "integer", "nullable": true},
      "x": {"oneOf": [{"type": "number"}, {"type": "array"}]}, "loop": {"$ref": "#/properties/loop"},
      "t": {"type": ["boolean", "string"]}, "any": {}},
      "$defs": {"size": {"type": "integer"}}}}])");
  OutputParser parser(false, tools);
  Result result;
  result.add(parser.push(
      call("<function=f>\n<parameter=r>\n+5\n</parameter>\n<parameter=e>\n2\n</parameter>\n"
           "<parameter=m>\nNULL\n</parameter>\n<parameter=x>\n[1]\n</parameter>\n"
           "<parameter=loop>\n1\n</parameter>\n<parameter=t>\nmaybe\n</parameter>\n"
           "<parameter=any>\n7\n</parameter>\n</function>")));
  result.add(parser.finish(false));
  REQUIRE(result.calls.size() == 1);
  CHECK(result.calls[0].arguments ==
        Json::parse(
            R"({"r": 5, "e": 2, "m": null, "x": [1], "loop": "1", "t": "maybe", "any": "7"})"));
}

TEST_CASE("deeply nested arguments stay a string") {
  const Json tools =
      Json::parse(R"([{"name": "f", "parameters": {"properties": {"a": {"type": "array"}}}}])");
  OutputParser parser(false, tools);
  const std::string deep(100'000, '[');
  const auto delta =
      parser.push(call("<function=f><parameter=a>" + deep + "</parameter></function>"));
  REQUIRE(delta.tool_calls.size() == 1);
  CHECK(delta.tool_calls[0].arguments["a"] == deep);
}

TEST_CASE("a call without closing tags counts when the model stopped, not when it was cut short") {
  const std::string open = "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n";
  for (const bool cut_short : {false, true}) {
    OutputParser parser(false);
    Result result;
    result.add(parser.push(open));
    result.add(parser.finish(cut_short));
    CHECK(result.calls.size() == (cut_short ? 0U : 1U));
  }
}
