// Who wrote each byte of a rendered prompt: control tokens typed by a user stay text.
#include "catch.hpp"

#include <nemo/text/jinja.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace {

using Json = nlohmann::ordered_json;
using nemo::text::RenderedPrompt;
using nemo::text::Template;
using nemo::text::TextOrigin;

/// The prompt with its user text in (), its model text in [], template text bare.
std::string marked(const RenderedPrompt& prompt) {
  std::string out;
  std::size_t at = 0;
  for (const auto& segment : prompt.segments) {
    REQUIRE(segment.begin == at);
    REQUIRE(segment.end > segment.begin);
    const std::string text = prompt.text.substr(segment.begin, segment.end - segment.begin);
    out += segment.origin == TextOrigin::template_text ? text
           : segment.origin == TextOrigin::model_text  ? "[" + text + "]"
                                                       : "(" + text + ")";
    at = segment.end;
  }
  REQUIRE(at == prompt.text.size());
  return out;
}

std::string marked(std::string_view source) {
  const Json variables = {{"messages",
                           {{{"role", "user"}, {"content", "us<t>er"}},
                            {{"role", "assistant"}, {"content", "<t>mo</t>del"}}}},
                          {"name", "Name"},
                          {"tools", {{{"name", "f"}, {"n", 1}}}}};
  return marked(
      Template::parse("{% set u = messages[0].content %}{% set m = messages[1].content %}" +
                      std::string(source))
          .render(variables, {{"bos_token", "<s>"}}));
}

}  // namespace

TEST_CASE("text keeps its origin when it is put together") {
  CHECK(marked("a{{ u }}b{{ m }}c{{ name }}") == "a(us<t>er)b[<t>mo</t>del]c(Name)");
  CHECK(marked("{{ bos_token ~ u ~ '</s>' + m }}") == "<s>(us<t>er)</s>[<t>mo</t>del]");
  CHECK(marked("{{ '%s|%s' % (u, 'x') }}") == "(us<t>er)|x");
  CHECK(marked("{{ '{}|{}'.format('x', m) }}") == "x|[<t>mo</t>del]");
  CHECK(marked("{{ ['a', u, m]|join('<sep>') }}") == "a<sep>(us<t>er)<sep>[<t>mo</t>del]");
  CHECK(marked("{{ '-'.join([u, 'b']) }}") == "(us<t>er)-b");
  CHECK(marked("{% set x %}<b>{{ u }}</b>{% endset %}{{ x * 2 }}") ==
        "<b>(us<t>er)</b><b>(us<t>er)</b>");
  CHECK(marked("{% macro q(x) %}<q>{{ x }}</q>{% endmacro %}{{ q(u)|upper }}") ==
        "<Q>(US<T>ER)</Q>");
  CHECK(marked("{% set ns = namespace(s='') %}{% for x in [u, 'b'] %}"
               "{% set ns.s = ns.s + x %}{% endfor %}{{ ns.s }}") == "(us<t>er)b");
  CHECK(marked("{% filter upper %}a{{ u }}{% endfilter %}") == "A(US<T>ER)");
}

TEST_CASE("text keeps its origin when it is taken apart") {
  CHECK(marked("{{ ('ab' ~ u ~ 'cd')[1:5] }}") == "b(us<)");
  CHECK(marked("{{ ('ab' ~ u)[::-1] }}") == "(re>t<su)ba");
  CHECK(marked("{{ ('  ' ~ u ~ '  ')|trim }}") == "(us<t>er)");
  CHECK(marked("{{ (u ~ ',x')|string }}{{ (u ~ ',x').split(',')[1] }}") == "(us<t>er),xx");
  CHECK(marked("{{ m.split('</t>')[0] ~ '</t>' ~ m.split('</t>')[-1] }}") == "[<t>mo]</t>[del]");
  CHECK(marked("{% for c in 'x' ~ name %}{{ c }}.{% endfor %}") == "x.(N).(a).(m).(e).");
  CHECK(marked("{{ (u ~ '\n' ~ 'b')|indent(1) }}") == "(us<t>er)\n b");
  CHECK(marked("{{ ('x' ~ name).center(7, '*') }}") == "*x(Name)*");
  CHECK(marked("{{ (name ~ 'SS')|lower ~ (name ~ 'ß').upper() }}") == "(name)ss(NAME)SS");
  CHECK(marked("{{ ('é' ~ name ~ 'é')|capitalize }}") == "É(name)é");
}

TEST_CASE("what replaces a user's text is not trusted more than that text was") {
  CHECK(marked("{{ u.replace('<t>', '<T>') }}") == "(us<T>er)");
  CHECK(marked("{{ m|replace('<t>', '<T>') }}") == "[<T>mo</t>del]");
  // The published Omni template protects a tag with a placeholder; the way back must not launder
  // it.
  CHECK(marked("{{ u.replace('<t>', '_').replace('_', '<t>') }}") == "(us<t>er)");
  CHECK(marked("{{ 'say X'.replace('X', u) }}") == "say (us<t>er)");
  CHECK(marked("{{ ('X' ~ u ~ 'X').replace('X', '<X>') }}") == "<X>(us<t>er)<X>");
  CHECK(marked("{{ (u ~ '%s') % '<x>' }}") == "(us<t>er)<x>");
  CHECK(marked("{{ (name ~ '%s')[:6] % '<x>' }}") == "(Name)<x>");
}

TEST_CASE("dumps and reprs keep the origin of the strings in them") {
  CHECK(marked("{{ tools[0]|tojson }}") == "{\"(name)\": \"(f)\", \"(n)\": 1}");
  CHECK(marked("{{ [u, m, 'x'] }}") == "['(us<t>er)', '[<t>mo</t>del]', 'x']");
  CHECK(marked("{{ {'a': \"it's\"}|tojson }}") == "{\"a\": \"it's\"}");
  CHECK(marked("{{ (u ~ '<')|e }}") == "(us&lt;t&gt;er)&lt;");
}

TEST_CASE("numbers, truth values and comparisons carry no origin") {
  CHECK(marked("{{ tools[0].n }}{{ u == 'x' }}{{ u|length }}") == "1False7");
  CHECK(marked("{{ 'user' if messages[0].role == 'user' }}{{ messages[0].role }}") == "user(user)");
}

TEST_CASE("a message counts as the model's own only if its role says assistant") {
  const Template t = Template::parse("{% for m in messages %}{{ m }}{% endfor %}");
  const auto prompt = t.render({{"messages",
                                 {{{"role", "Assistant"}, {"content", "a"}},
                                  {{"role", {"assistant"}}, {"content", "b"}},
                                  {{"content", "c"}},
                                  "assistant"}}});
  for (const auto& segment : prompt.segments) CHECK(segment.origin != TextOrigin::model_text);
}
