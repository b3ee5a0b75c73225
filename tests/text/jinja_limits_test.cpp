// Templates that would run, grow or recurse without end stop with a clear error.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/jinja.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace {

using Json = nlohmann::ordered_json;
using nemo::text::Template;

nemo::text::RenderOptions small_limits() {
  nemo::text::RenderOptions options;
  options.limits.output_bytes = 100'000;
  options.limits.memory_bytes = 4'000'000;
  options.limits.steps = 500'000;
  return options;
}

void must_fail(std::string_view source, const char* what, const Json& variables = Json::object()) {
  INFO(source.substr(0, 200));
  CHECK_THROWS_WITH(Template::parse(source).render(variables, nullptr, small_limits()),
                    Contains(what));
}

std::string repeated(std::string_view piece, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += piece;
  return out;
}

}  // namespace

TEST_CASE("work is bounded") {
  must_fail("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "did not finish");
  must_fail("{{ range(100001)|list }}", "range() of more than 100000 items");
  must_fail("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply");
  must_fail("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}", "nested too deeply");
  must_fail(
      "{% set a = ['x' * 90000] * 30 %}{% for i in range(100000) %}{{ a == [1] ~ a }}"
      "{% endfor %}",
      "more than");
  // Patterns that make a naive search quadratic.
  must_fail(
      "{% set t = 'a' * 60000 %}{% set n = 'a' * 30000 ~ 'b' %}"
      "{% for i in range(100000) %}{{ t.find(n) }}{% endfor %}",
      "did not finish");
}

TEST_CASE("memory and output are bounded") {
  must_fail("{{ 'x' * 10000000000 }}", "a text of more than 100000 bytes");
  must_fail("{{ [0] * 10000000000 }}", "more than");
  must_fail("{{ 'ab'.center(10000000000) }}", "a text of more than");
  must_fail("{{ 'a'|indent(10000000000) }}", "a text of more than");
  must_fail("{{ '%*d' % (1000000000, 1) }}", "out of range");
  must_fail("{{ '{:1000000000}'.format(1) }}", "too large");
  must_fail("{{ 'a\tb'.expandtabs(10000000000) }}", "a text of more than");
  must_fail(
      "{% set ns = namespace(s='ab') %}{% for i in range(100) %}"
      "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "a text of more than");
  must_fail(
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}"
      "{% set ns.l = ns.l + ns.l %}{% endfor %}",
      "MiB of memory");
  must_fail(
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}"
      "{% set ns.l = [ns.l, ns.l] %}{% endfor %}",
      "nested more than 200 deep");
  must_fail(
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
      "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
      "more than");
  must_fail("{% for i in range(100000) %}{{ 'xxxxxxxxxx' }}{% endfor %}", "a text of more than");
  // A chain of namespaces is walked for its depth, which counts as work before it fills the memory.
  must_fail(
      "{% set ns = namespace() %}{% for i in range(100000) %}"
      "{% set ns.n = namespace(before=ns.n, s='x' * 1000) %}{% endfor %}",
      "did not finish");
}

TEST_CASE("nesting in the source is bounded") {
  constexpr int kMany = 100'000;
  must_fail("{{ " + repeated("(", kMany) + "1" + repeated(")", kMany) + " }}", "too deeply");
  must_fail("{{ " + repeated("[", kMany) + repeated("]", kMany) + " }}", "too deeply");
  must_fail("{{ " + repeated("[", kMany) + " }}", "expected ']'");  // found before any nesting
  must_fail("{{ " + repeated("not ", kMany) + "1 }}", "too deeply");
  must_fail("{{ " + repeated("-", kMany) + "1 }}", "too deeply");
  must_fail("{{ x" + repeated(".a", kMany) + " }}", "too deeply");
  must_fail("{{ x" + repeated("|upper", kMany) + " }}", "too deeply");
  must_fail("{{ x" + repeated("[0]", kMany) + " }}", "too deeply");
  must_fail("{{ x" + repeated(" if 1", kMany) + " }}", "too deeply");
  must_fail(repeated("{% if 1 %}", kMany), "too deeply");
  must_fail(repeated("{% for x in y %}", kMany), "too deeply");
  must_fail("{% set " + repeated("(", kMany) + "a" + repeated(")", kMany) + " = 1 %}",
            "too deeply");
  // Chains of one precedence are flat and may be long.
  CHECK(Template::parse("{{ 0" + repeated(" + 1", kMany) + " }}").render({}).text == "100000");
  CHECK(Template::parse("{{ ''" + repeated(" ~ 1", 1000) + " }}").render({}).text.size() == 1000);
  CHECK(Template::parse("{{ 1" + repeated(" and 1", kMany) + " }}").render({}).text == "1");
}

TEST_CASE("deep and wide variables are taken or refused, never fatal") {
  std::string deep = "[";
  for (int i = 0; i < 100'000; ++i) deep += "[";
  for (int i = 0; i < 100'000; ++i) deep += "]";
  must_fail("{{ x }}", "nested more than 200 deep", {{"x", Json::parse(deep + "]")}});
  Json wide = Json::array();
  for (int i = 0; i < 20'000; ++i) wide.push_back(i);
  CHECK(Template::parse("{{ x|sum }}").render({{"x", wide}}).text == "199990000");
}

TEST_CASE("values that refer to themselves are freed and print in bounds") {
  CHECK_NOTHROW(
      Template::parse("{% set ns = namespace() %}{% set ns.a = ns %}{% macro m() %}{{ ns }}"
                      "{% endmacro %}{% set ns.m = m %}{% for x in [1] %}{% set ns.l = loop %}"
                      "{{ loop.changed(loop) }}{% endfor %}{{ ns.l.changed(ns.l) }}")
          .render({}));
  must_fail("{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ ns }}", "nested too deeply");
  must_fail(
      "{% set ns = namespace() %}{% for x in [1, 2] %}{% set ns.l = loop %}{% endfor %}"
      "{{ ns.l([1]) }}",
      "recursive");
}
