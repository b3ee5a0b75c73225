// The template language against jinja2's own results, its messages, and use from several threads.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/jinja.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using Json = nlohmann::ordered_json;
using nemo::text::Template;

std::string render(std::string_view source, const Json& variables = Json::object()) {
  return Template::parse(source).render(variables).text;
}

}  // namespace

TEST_CASE("small templates render to what jinja2 makes of them, and fail where it fails") {
  std::ifstream file(NEMO_SOURCE_DIR "/tests/data/text/jinja_cases.json");
  const Json data = Json::parse(file);
  for (const Json& c : data.at("cases")) {
    INFO(c.dump());
    const auto source = c.at("template").get<std::string>();
    if (c.contains("fails")) {
      CHECK_THROWS_AS(render(source, data.at("variables")), nemo::Error);
    } else {
      CHECK_NOTHROW(render(source, data.at("variables")));
      CHECK(render(source, data.at("variables")) == c.at("expected").get<std::string>());
    }
  }
}

TEST_CASE("a failing template names the line and what is wrong") {
  const auto says = [](std::string_view source, const char* what) {
    CHECK_THROWS_WITH(render(source, {{"d", {{"a", 1}}}, {"l", {1, 2}}}), Contains(what));
  };
  says("a\n{{ x.y }}", "chat template, line 2: 'x' is undefined");
  says("{{ d.nope.x }}", "line 1: 'dict object' has no attribute 'nope'");
  says("{{ l[5].x }}", "line 1: list object has no element 5");
  says("\n\n{{ raise_exception('Roles must alternate') }}", "line 3: Roles must alternate");
  says("{% if true %}\n{{ 1", "line 2: a tag is never closed");
  says("{% if true %}\n", "{% endif %} is needed");
  says("{% foo %}", "unknown or misplaced tag 'foo'");
  says("{{ 1 | foo }}", "no filter named 'foo'");
  says("{{ 1 is foo }}", "no test named 'foo'");
  says("{{ 'a' + 1 }}", "unsupported operand types for +: 'str' and 'int'");
  says("{{ l.append(1) }}", "not allowed");
  says("{{ l.__class__.x }}", "not allowed");
  says("{{ 1 / 0 }}", "division by zero");
  says("{% include 'x' %}", "needs other templates");
  says("{% macro m(a) %}\n{{ a.b }}{% endmacro %}\n{{ m() }}", "line 2: parameter 'a'");
  says("{{ 'a\nb' }}{{ x.y }}", "line 2");
}

TEST_CASE("bad variables are refused") {
  CHECK_THROWS_WITH(render("", Json::array()), Contains("must be a JSON object"));
  CHECK(render("{{ messages }}", {{"messages", "none"}}) == "none");
  CHECK(render("{{ messages[0] }}", {{"messages", {nullptr}}}) == "None");
}

TEST_CASE("broken UTF-8 passes through unharmed") {
  const std::string broken = "a\xff\xe3\x80";
  CHECK(render("{{ x }}", {{"x", broken}}) == broken);
  CHECK(render("{{ x|length }}{{ x[::-1]|length }}", {{"x", broken}}) == "44");
  CHECK(render("{{ x|upper|trim }}", {{"x", broken}}) == "A\xff\xe3\x80");
  CHECK(render("{{ x.split('\xff')|length }}", {{"x", broken}}) == "2");
  CHECK(render("{{ [x] }}", {{"x", broken}}) == "['a\\udcff\\udce3\\udc80']");
}

TEST_CASE("integers are exact up to 128 bits") {
  CHECK(render("{{ x }} {{ -y }} {{ x * y }}",
               {{"x", 18446744073709551615ULL}, {"y", 9223372036854775807LL}}) ==
        "18446744073709551615 -9223372036854775807 170141183460469231704017187605319778305");
  CHECK_THROWS_WITH(render("{{ 10 ** 40 }}"), Contains("does not fit"));
}

TEST_CASE("strftime_now shows the given time") {
  nemo::text::RenderOptions options;
  options.now = 86400 * 365;  // 1 January 1971, noon somewhere
  CHECK(
      Template::parse("{{ strftime_now('%Y') }}").render({}, nullptr, options).text.substr(0, 3) ==
      "197");
}

TEST_CASE("one template renders in several threads at once") {
  const Template shared = Template::parse(
      "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s ~ m.content ~ 'x' %}"
      "{% endfor %}{{ ns.s }}");
  Json messages = Json::array();
  for (int i = 0; i < 50; ++i) messages.push_back({{"role", "user"}, {"content", i}});
  const Json variables = {{"messages", messages}};
  const std::string expected = shared.render(variables).text;
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  for (std::string& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) result = shared.render(variables).text;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& result : results) CHECK(result == expected);
}
