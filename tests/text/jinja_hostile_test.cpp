// Templates made to hang, to fill memory or to crash: each gives an error or a bounded text, soon.
#include <gtest/gtest.h>

#include <random>

#include "base/bounded.h"
#include "text/jinja/parser.h"
#include "text/jinja/template.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

// "a fraction of a second and less than 300 MB" (limits.h), with room for a slow machine.
constexpr double kMostSeconds = 2.0;
constexpr std::size_t kMostMebibytes = 300;

std::string times(std::string_view text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

Result<std::string> rendered(std::string_view source, const RenderLimits& limits = {}) {
  Dict variables;
  EXPECT_TRUE(variables.set_text("x", Value("text")));
  TG_ASSIGN(const Template made, Template::parse(source, "hostile"));
  return made.render(variables, std::nullopt, limits);
}

void expect_refused(const std::string& source, ErrorCode code, std::string_view part,
                    const RenderLimits& limits = {}) {
  const Bounded bounded;
  const auto text = rendered(source, limits);
  bounded.expect_within(kMostSeconds, kMostMebibytes, source.substr(0, 200));
  ASSERT_FALSE(text) << source.substr(0, 200) << "\ngives " << text->size() << " bytes";
  EXPECT_EQ(text.error().code, code) << text.error().text();
  EXPECT_NE(text.error().text().find(part), std::string::npos) << text.error().text();
  EXPECT_TRUE(text.error().text().starts_with("hostile: line ")) << text.error().text();
}

TEST(JinjaHostile, NestingIsBounded) {
  const auto deep = [](const std::string& source) {
    expect_refused(source, ErrorCode::kOutOfCapacity, "nested deeper than 200");
  };
  deep("{{ " + times("(", 100'000) + times(")", 100'000) + " }}");
  deep("{{ " + times("[", 100'000) + times("]", 100'000) + " }}");
  deep("{{ " + times("{1:", 100'000) + times("}", 100'000) + " }}");
  deep("{{ " + times("not ", 100'000) + "x }}");
  deep("{{ " + times("-", 100'000) + "1 }}");
  deep("{{ 1" + times(" + 1", 100'000) + " }}");
  deep("{{ 1" + times(" ** 1", 100'000) + " }}");
  deep("{{ x" + times(".a", 100'000) + " }}");
  deep("{{ x" + times("[0]", 100'000) + " }}");
  deep("{{ x" + times("()", 100'000) + " }}");
  deep("{{ x" + times("|trim", 100'000) + " }}");
  deep("{{ x" + times(" is defined", 50'000) + " }}");
  deep("{{ x" + times(" or x", 100'000) + " }}");
  deep("{{ x" + times(" if x else x", 50'000) + " }}");
  deep("{{ x" + times(" if x", 50'000) + " }}");
  deep("{{ x" + times("[x", 100'000) + times("]", 100'000) + " }}");
  deep(times("{% if x %}", 50'000));
  deep(times("{% for x in x %}", 50'000) + times("{% endfor %}", 20'000));
  deep(times("{% macro a() %}", 50'000));
  deep(times("{% set a %}", 50'000));
}

TEST(JinjaHostile, LongButFlatIsFine) {
  EXPECT_EQ(rendered("{{ 'a'" + times(" ~ 'a'", 50'000) + " }}").value(), times("a", 50'001));
  EXPECT_EQ(rendered("{{ 1" + times(" < 1", 50'000) + " }}").value(), "False");
  EXPECT_EQ(rendered("{% if 0 %}" + times("{% elif 0 %}", 50'000) + "{% endif %}").value(), "");
  EXPECT_EQ(rendered("{{ [" + times("1, ", 100'000) + "] | length }}").value(), "100000");
  EXPECT_EQ(rendered(times("{{ x }}", 50'000)).value().size(), 200'000U);
  EXPECT_EQ(rendered(times("{", 1'000'000)).error().code, ErrorCode::kBadInput);
  EXPECT_EQ(rendered(times("{ ", 500'000)).value().size(), 1'000'000U);
}

TEST(JinjaHostile, LoopsAndRecursionAreBounded) {
  const auto refused = [](const std::string& source, std::string_view part) {
    expect_refused(source, ErrorCode::kOutOfCapacity, part);
  };
  refused("{% for i in range(10 ** 12) %}{% endfor %}", "range() of more than 100000");
  refused(times("{% for i in range(100000) %}", 5) + times("{% endfor %}", 5), "steps");
  refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nests calls deeper than 300");
  refused("{% macro m(a=m()) %}{% endmacro %}{{ m() }}", "nests calls deeper than 300");
  refused(
      "{% macro a() %}{{ b() }}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}"
      "{{ a() }}",
      "nests calls deeper than 300");
  refused(
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
      "{{ f(60) }}",
      "steps");
  refused(
      "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{{ caller }}{% endmacro %}"
      "{{ m() }}",
      "nests calls deeper than 300");
  refused("{{ 'a' | map(" + times("'map', ", 2'000) + "'upper') | list }}",
          "nests calls deeper than 300");
  refused("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "nests calls deeper than 300");
  refused("{% for x in range(100000) recursive %}{{ loop(range(100000)) }}{% endfor %}", "steps");
  refused(
      "{% macro m() %}{{ varargs }}{% endmacro %}{% for i in range(99) %}"
      "{{ m(*range(100000)) }}{% endfor %}",
      "steps");
}

TEST(JinjaHostile, MemoryIsBounded) {
  const auto refused = [](const std::string& source, std::string_view part) {
    expect_refused(source, ErrorCode::kOutOfCapacity, part);
  };
  const std::string doubling =
      "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(99) %}";
  refused(doubling + "{% set ns.s = ns.s + ns.s %}{% endfor %}", "bytes of text");
  refused(doubling + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}", "bytes of text");
  refused(doubling + "{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}", "more than");
  refused(doubling + "{% set ns.s = ns.s | replace('', ns.s) %}{% endfor %}", "more than");
  refused(doubling + "{% set ns.s = ns.s.join([ns.s, ns.s, ns.s]) %}{% endfor %}", "bytes of text");
  refused(doubling + "{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}", "bytes of text");
  refused(doubling + "{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}", "bytes of text");
  refused(doubling + "{% set ns.s = ns.s | tojson | tojson %}{% endfor %}", "more than");
  refused(doubling + "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}", "bytes of text");
  refused("{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", "more than");
  refused("{{ 'x' * 10 ** 15 }}", "bytes of text");
  refused("{{ [0] * 10 ** 15 }}", "steps");
  refused("{{ 'x'.ljust(10 ** 15) }}", "bytes of text");
  refused("{{ 'x' | indent(10 ** 15, true) }}", "bytes of text");
}

TEST(JinjaHostile, MemoryOfIndents) {
  expect_refused("{{ ('a\n' * 100000) | indent(1000000) }}", ErrorCode::kOutOfCapacity,
                 "more than");
  expect_refused("{{ [[[[[1] * 1000] * 9]]] | tojson(indent=1000000) }}", ErrorCode::kOutOfCapacity,
                 "more than");
  expect_refused("{{ [1] | batch(10 ** 15, 0) | list }}", ErrorCode::kOutOfCapacity, "steps");
  expect_refused("{{ ('ab' * 900000) | batch(1) | list }}", ErrorCode::kOutOfCapacity, "steps");
  expect_refused("{{ [1] | slice(10 ** 18) | list }}", ErrorCode::kOutOfCapacity, "steps");
  expect_refused("{{ ('a' * 1900000) | list | join(',') }}", ErrorCode::kOutOfCapacity, "steps");
  expect_refused("{{ ('\\x00' * 16000000) | tojson }}", ErrorCode::kOutOfCapacity, "bytes of text");
}

TEST(JinjaHostile, LongTextsCostTheirLength) {
  RenderLimits limits;
  limits.steps = 500'000;  // a quarter, because there are many cases
  const auto refused = [&](const std::string& body) {
    expect_refused(
        "{% set s = 'a' * 8000000 %}{% set b = 'a' * 4000000 ~ 'b' %}"
        "{% for i in range(100000) %}" +
            body + "{% endfor %}",
        ErrorCode::kOutOfCapacity, "steps", limits);
  };
  for (const std::string expression : {"s.startswith(s)",
                                       "s == s ~ ''",
                                       "s.find(b)",
                                       "s.rfind(b)",
                                       "s.split(b)",
                                       "s.rsplit(b)",
                                       "s.count(b)",
                                       "b in s",
                                       "s.replace(b, '')",
                                       "s.partition(b)",
                                       "s.strip(b)",
                                       "s[5]",
                                       "s[:1]",
                                       "s | length",
                                       "s.upper() is upper",
                                       "s | trim",
                                       "s | first",
                                       "{s[:60000]: 1}",
                                       "s[:60000] in {}",
                                       "{}.get(s[:60000])",
                                       "s.isspace()",
                                       "s.islower()",
                                       "s.zfill(5)",
                                       "[s] | unique | list",
                                       "[s, s] | sort | length",
                                       "s < b",
                                       "s is eq s ~ ''",
                                       "s | string ~ ''",
                                       "[s] | map('upper') | list",
                                       "s | int",
                                       "s | float",
                                       "s | wordcount",
                                       "s.splitlines()",
                                       "s.isalpha()",
                                       "s % ()",
                                       "s | indent",
                                       "s.format()",
                                       "s | default(b) ~ s"}) {
    refused("{% if " + expression + " %}{% endif %}");
  }
}

TEST(JinjaHostile, SharedPartsDoNotMultiplyTheWork) {
  const std::string shared =
      "{% set ns = namespace(v=[1]) %}{% for i in range(100) %}{% set ns.v = [ns.v, ns.v] %}"
      "{% endfor %}";
  for (const std::string use :
       {"{{ ns.v }}", "{{ ns.v | tojson }}", "{{ ns.v == [ns.v[0], ns.v[1]] }}",
        "{{ ns.v | string | length }}"}) {
    expect_refused(shared + use, ErrorCode::kOutOfCapacity, "steps");
  }
  expect_refused(
      "{% set ns = namespace(v=(1,)) %}{% for i in range(100) %}"
      "{% set ns.v = (ns.v, ns.v) %}{% endfor %}{{ {ns.v: 1} }}",
      ErrorCode::kOutOfCapacity, "dictionary key");
  expect_refused(
      "{% set ns = namespace(v=[]) %}{% for i in range(1000) %}"
      "{% set ns.v = [ns.v] %}{% endfor %}",
      ErrorCode::kOutOfCapacity, "nested deeper than 128");
}

TEST(JinjaHostile, CirclesAndChainsOfNamespacesEnd) {
  EXPECT_EQ(rendered("{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.l = [ns] %}"
                     "{{ ns.me.me.l[0].me is defined }}{{ ns.l | length }}")
                .value(),
            "True1");
  EXPECT_TRUE(
      rendered("{% set ns = namespace() %}{% for i in range(50000) %}"
               "{% set next = namespace(last=ns.last) %}{% set ns.last = next %}{% endfor %}"));
  EXPECT_TRUE(
      rendered("{% set ns = namespace() %}{% macro m() %}{{ ns.m }}{% endmacro %}"
               "{% set ns.m = m %}{{ ns }}{{ ns.m() }}"));
  // A macro outlives the scope in which it was made.
  EXPECT_EQ(rendered("{% set ns = namespace() %}{% for i in [7] %}{% set j = i %}"
                     "{% macro m() %}{{ j }}{{ i }}{% endmacro %}{% set ns.m = m %}{% endfor %}"
                     "{{ ns.m() }}")
                .value(),
            "77");
  // So does a loop, also one that can be called.
  EXPECT_EQ(rendered("{% set ns = namespace() %}{% for y in [7] %}{% set q = y %}"
                     "{% for x in [1] recursive %}{% set ns.l = loop %}{{ q }}{% endfor %}"
                     "{% endfor %}{{ ns.l([5, 6]) }}{{ ns.l.index }}")
                .value(),
            "7772");
  EXPECT_EQ(
      rendered("{% set ns = namespace() %}{% for i in [7, 8] %}{% set ns.l = loop %}{% endfor %}"
               "{{ ns.l.index }}{{ ns.l.previtem }}{{ ns.l.cycle(1, 2) }}")
          .value(),
      "272");
}

TEST(JinjaHostile, BytesThatAreNoText) {
  expect_refused("a\xff", ErrorCode::kBadInput, "not UTF-8");
  expect_refused("{{ '\xed\xa0\x80' }}", ErrorCode::kBadInput, "not UTF-8");
  expect_refused("{{ '\\ud800' }}", ErrorCode::kBadInput, "no character");
  const std::string nul("a\0{{ 'b\0' ~ x }}", 16);
  EXPECT_EQ(rendered(nul).value(), std::string("a\0b\0text", 8));
  expect_refused(std::string("{{ \0 }}", 7), ErrorCode::kBadInput, "unexpected character");
  expect_refused("{{ raise_exception('a\nb\x01' ~ 'é' * 100000) }}", ErrorCode::kBadInput, "a b ");
  EXPECT_LT(rendered("{{ raise_exception('é' * 100000) }}").error().message.size(), 600U);
}

TEST(JinjaHostile, LimitsCanBeSet) {
  RenderLimits limits;
  limits.output_bytes = 10;
  EXPECT_EQ(rendered("0123456789", limits).value(), "0123456789");
  EXPECT_EQ(rendered("0123456789{{ 1 }}", limits).error().message,
            "the template makes more than 10 bytes of text");
  limits = {};
  limits.steps = 20;
  EXPECT_EQ(rendered("{% for i in range(100) %}{% endfor %}", limits).error().message,
            "the template needs more than 20 steps");
}

// Cuts and changes of a template that uses everything: whatever comes out, nothing crashes.
TEST(JinjaHostile, TenThousandBrokenTemplates) {
  const std::string whole =
      "{# c #}{% set ns = namespace(a=1, b='x') -%}\n  {%- macro m(a, b=2) %}{{ a ~ b }}{{ varargs "
      "}}"
      "{% endmacro %}{% for k, v in {'a': [1, 2.5], 'b': (3,)}.items() if v %}{{ loop.index }}"
      "{{ k | upper | replace('A', 'b') }}{{ v[::-1] }}{% if loop.last and not v is none %}"
      "{% break %}{% elif k in 'ab' %}{% continue %}{% endif %}{% else %}e{% endfor %}"
      "{% raw %}{{ }}{% endraw %}{{ m(1, b=-3) if ns.a == 1 else x[1:2] }}{% set ns.b %}q{% endset "
      "%}"
      "{{ ns.b }}{{ [1, 'a\\n', none] | tojson(indent=2) }}{% call m(1) %}c{% endcall %}"
      "{{ '%s-%d' % (x, 5) }}{{ x.split('e')[-1] | indent(2) }}{% filter trim %} z {% endfilter %}"
      "{% with q = 2 ** 3 // 2 %}{{ q }}{% endwith %}{% generation %}g{% endgeneration %}";
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  int texts = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string source = whole;
    for (std::size_t changes = 1 + below(3); changes > 0 && !source.empty(); --changes) {
      const std::size_t at = below(source.size());
      switch (below(4)) {
        case 0:
          source.erase(at, 1 + below(12));
          break;
        case 1:
          source.insert(at, source.substr(below(source.size()), 1 + below(12)));
          break;
        case 2:
          source[at] = "{}%#'\"[]()|.,:=-+*~ \n0a"[below(23)];
          break;
        default:
          source.resize(std::max<std::size_t>(at, 1));
      }
    }
    RenderLimits limits;
    limits.steps = 20'000;
    const auto text = rendered(source, limits);
    if (text) {
      ++texts;
    } else {
      EXPECT_TRUE(text.error().text().starts_with("hostile: line ")) << text.error().text();
    }
  }
  EXPECT_GT(texts, 100);
  EXPECT_LT(texts, 9'000);
}

}  // namespace
}  // namespace tg::jinja
