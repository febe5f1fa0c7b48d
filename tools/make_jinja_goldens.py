"""Renders many small templates with the real Jinja2, set up as Hugging Face's transformers set it up
for chat templates, and writes tests/golden/jinja.json.

    python3 -m venv v && v/bin/pip install jinja2==3.1.6 && v/bin/python tools/make_jinja_goldens.py

A case is [template, text], or [template, null] where Jinja2 raises (any exception). All cases see the
same variables. Cases of which our interpreter says that it does not support them are in a list of
their own: there the test wants an error, not a text.
"""

import copy
import datetime
import json
import pathlib

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 3, 7, 5, 4, 9)

VARIABLES = {
    "s": "Hello",
    "spaced": "  two words \n",
    "empty": "",
    "uni": "Zürich 日本 😀 ÉCOLE straße",
    "n": 7,
    "zero": 0,
    "neg": -3,
    "big": 9007199254740993,
    "f": 2.5,
    "t": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2],
    "words": ["pear", "Apple", "fig", "apple"],
    "none_list": [],
    "d": {"b": 1, "a": 2, "items": 3, "nested": {"x": [10, 20]}},
    "users": [
        {"name": "Ann", "age": 31, "tags": ["x", "y"]},
        {"name": "bob", "age": 7, "tags": []},
        {"name": "Cid", "tags": ["z"]},
    ],
    "messages": [
        {"role": "system", "content": "Be nice."},
        {"role": "user", "content": " Hi <b> & 'you' "},
        {"role": "assistant", "content": "<think>hm</think>\n\nYes", "tool_calls": [
            {"type": "function", "function": {"name": "f", "arguments": {"z": 1, "a": "é"}}}]},
        {"role": "tool", "content": "42"},
    ],
    "tools": [{"type": "function", "function": {"name": "get", "description": "a <b> \"q\" 'x' & \u00e9\t",
               "parameters": {"type": "object", "properties": {}, "required": [], "n": None, "f": 1.0, "t": True}}}],
    "multi": "a\nbb\n\n  c\n",
}

WHITESPACE = r"""
a {% if t %} b {% endif %} c
a {%- if t %} b {%- endif %} c
a {% if t -%} b {% endif -%} c
a {%- if t -%} b {%- endif -%} c
a {{- s }} b
a {{ s -}} b
a {{- s -}} b
a⏎{% if t %}⏎b⏎{% endif %}⏎c
a⏎  {% if t %}⏎  b⏎  {% endif %}⏎  c
a⏎  {%+ if t %}⏎  b⏎  {%+ endif %}⏎  c
a⏎  {% if t +%}⏎  b⏎  {% endif +%}⏎  c
a⏎⏎  {%- if t %}⏎⏎  b⏎  {%- endif %}⏎⏎  c
  {% if t %}x{% endif %}
⇥{% if t %}x{% endif %}
x  {% if t %}y{% endif %}
  {{ s }}
a⏎  {{ s }}⏎  b
a⏎  {{- s }}⏎  b
a⏎  {{ s -}}⏎  b
{{ s }}⏎{{ s }}⏎
{{ s }}⏎⏎
⏎
⏎⏎
x
{% for i in l %}⏎{{ i }}⏎{% endfor %}⏎
{% for i in l %}⏎  {{ i }}⏎{% endfor %}⏎end
{%- for i in l -%}⏎  {{ i }}⏎{%- endfor -%}⏎end
{%- for i in l %}⏎  {{- i }}⏎{%- endfor %}⏎end
a {# comment #} b
a {#- comment -#} b
a⏎  {# comment #}⏎b
a⏎  {#+ comment +#}⏎b
a {# {{ s }} {% if %} #} b
{#-#}x
{# a -#}  x
x {#- a #}  y
{% raw %}{{ s }}{% if %}{% endraw %}
{% raw %}⏎{{ s }}⏎{% endraw %}⏎x
a {%- raw -%}  {{ s }}  {%- endraw -%} b
a⏎  {% raw %}⏎  {{ x }}⏎  {% endraw %}⏎b
{% raw %}{% endrawx %}{% endraw %}
{%raw%}{{{%endraw%}
{%- set x = 1 -%}⏎⏎{{ x }}
{% set x = 1 %}⏎{{ x }}
  {% set x = 1 %}  ⏎{{ x }}
a␍⏎b␍{% if t %}␍⏎c{% endif %}
a⏎⇥ ⏎ {%- if t %}b{% endif %}
a␣{%- if t %}b{% endif %}
{ { x } } { % % } #} }} %}
{{'{{'}}{{ '}}' }}{{ "{%" }}
{{ {'a': {'b': 1}} }}
{{ {'a': {'b': 1}}}}
{{ [1, [2]] }}{{ {} }}
{% if t %}{{ s }}{% endif %}⏎⏎{% if t %}⏎x{% endif %}
{{ s }}{% if t %}⏎{% endif %}{{ s }}
"""

EXPRESSIONS = r"""
{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 7 / 2 }} {{ 6 / 2 }}
{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2 ** -1 }} {{ - 3 + 5 }} {{ -n }} {{ +n }} {{ --n }}
{{ 1.5 + 1 }} {{ 0.1 + 0.2 }} {{ 1e3 }} {{ 1e16 }} {{ 1.5e-7 }} {{ 123456789012345680.0 }} {{ 1e22 }} {{ 5e-324 }} {{ 1.0 }} {{ 100.0 }} {{ 1E5 }} {{ 1_000 }} {{ 0.00001 }} {{ 0.0001 }}
{{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 7 % 2.5 }} {{ 2.0 ** 3 }} {{ 5.0 // 1.0 }}
{{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 0xff_ff }} {{ 00 }}
{{ 017 }}
{{ t + t }} {{ t * 3 }} {{ no + 1 }} {{ -t }}
{{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ 2 * 'x' }} {{ 'x' * 0 }} {{ 'x' * -1 }} {{ [1] * 2 }} {{ [1] + [2] }} {{ (1,) + (2,) }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1] ~ undefined_one }}
{{ 1 ~ 2 + 3 }}
{{ 2 * 3 ~ 4 }}
{{ 1 < 2 }} {{ 2 <= 2 }} {{ 3 > 4 }} {{ 1 == 1.0 }} {{ 1 != 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 > 2 == 2 }}
{{ true == 1 }} {{ 'a' == 1 }} {{ none == none }} {{ [1] == [1.0] }} {{ (1,) == [1] }} {{ {'a': 1} == {'a': 1.0} }} {{ undefined_one == none }} {{ undefined_one == undefined_two }}
{{ 1 in l }} {{ 9 in l }} {{ 9 not in l }} {{ 'ell' in s }} {{ 'a' in d }} {{ 'q' not in d }} {{ '' in '' }} {{ 1 in none_list }} {{ not 1 in l }} {{ 1 in undefined_one }}
{{ t and s }} {{ no and s }} {{ empty or 'dflt' }} {{ no or none }} {{ not t }} {{ not empty }} {{ not no and t }} {{ no or t and no }} {{ 1 and 2 or 3 }}
{{ 'y' if t else 'n' }} {{ 'y' if no else 'n' }} {{ 'y' if no }} {{ 'a' if no else 'b' if no else 'c' }} {{ ('a' if t) ~ 'x' }}
{{ 'y' if not t else 'n' }} {{ (1 if t else 2) + 1 }} {{ 1 if t else 2 + 1 }}
{{ s.upper() }} {{ s['upper']() }} {{ s[0] }} {{ s[-1] }} {{ s[9] }} {{ uni[1] }} {{ uni[7] }} {{ uni[10] }}
{{ l[0] }} {{ l[-1] }} {{ l[9] }} {{ l[-4] }} {{ l[true] }} {{ l['x'] }} {{ l.0 }} {{ l.1 }}
{{ d.a }} {{ d['a'] }} {{ d.missing }} {{ d['missing'] }} {{ d.nested.x[1] }} {{ d['nested']['x'][0] }} {{ d.nested.x.0 }} {{ d['items'] }}
{{ d.items() | list }}
{{ d.missing.deep }}
{{ missing.attr }}
{{ missing['attr'] }}
{{ missing }}|{{ missing or 1 }}|{{ missing is defined }}
{{ nil.x }}|{{ nil['x'] }}|{{ n.x }}
{{ s[1:3] }} {{ s[:2] }} {{ s[-2:] }} {{ s[::-1] }} {{ s[::2] }} {{ s[10:] }} {{ s[:-1] }} {{ s[3:1] }} {{ s[:] }} {{ s[-100:2] }} {{ s[4:0:-2] }}
{{ uni[:6] }} {{ uni[7:9] }} {{ uni[::-1] }} {{ uni[10:11] }}
{{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ l[::2] }} {{ l[5:] }} {{ l[-1:] }} {{ l[none:2] }} {{ (1, 2, 3)[1:] }} {{ l[2:0:-1] }} {{ l[::100] }} {{ l[::-100] }}
{{ l[1:2, 3] }}
{{ l[::0] }}
{{ l['a':] }}
{{ d[1:] }}
{{ [] }} {{ [1, 'a', none, true, 1.5] }} {{ (1, 2) }} {{ (1,) }} {{ () }} {{ 1, 2 }} {{ {'a': 1, 'b': [1]} }} {{ {1: 2, 'x': none,} }} {{ [1, 2,] }}
{{ ["it's", 'say "hi"', 'both \' and "', 'tab\t', 'nl\n', '\\', '\x00', '\x7f', 'é', '日', '\u200b', '\U0001F600', '\xa0'] }}
{{ 'a' 'b' "c" }}
{{ '\n\t\\\'\"\x41\u00e9\U0001F600\101\q\0' }}
{{ "a⏎b" }}
{{ 'a\⏎b' }}
{{ '\u12' }}
{{ "it's" }} {{ 'say "x"' }}
{{ range(3) | list }} {{ range(1, 4) | list }} {{ range(10, 0, -3) | list }} {{ range(0) | list }} {{ range(5, 1) | list }} {{ range(1, 6, 2) | list }}
{{ range(100001) | length }}
{{ range(100000) | length }}
{{ range(1, 2, 0) }}
{{ range('a') }}
{{ range() }}
{{ dict(a=1, b=2) }} {{ dict({'x': 1}, y=2) }} {{ dict([('k', 'v')]) }} {{ dict() }}
{{ namespace(a=1).a }} {{ namespace({'q': 2}).q }} {{ namespace().x }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.0 / 0 }}
{{ 0 ** -1 }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ none + 1 }}
{{ [1] + (2,) }}
{{ missing + 1 }}
{{ 1 + missing }}
{{ missing < 1 }}
{{ 'a' < 1 }}
{{ none < 1 }}
{{ {} < {} }}
{{ -'a' }}
{{ 1 in 5 }}
{{ 1 in 'abc' }}
{{ {[1]: 2} }}
{{ s() }}
{{ missing() }}
{{ n.foo() }}
{{ s.nomethod() }}
{{ l.append(4) }}
{{ d.update({'a': 3}) }}
{{ d.pop('a') }}
{{ l.sort() }}
{{ s.__class__ }}|
{{ s.__class__.__mro__ }}
{{ raise_exception('stop') }}
{{ raise_exception() }}
{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S') }} {{ strftime_now('%A, %B %-d, %Y') }} {{ strftime_now('%j %y %I %p %a %%') }} {{ strftime_now('') }}
{{ s is string and n is number }}
{{ (1, 2)[0] }} {{ [1, 2][1] }} {{ {'a': 5}.a }} {{ 'abc'[1] }} {{ 'abc'.upper() }} {{ [3, 4].index(4) }} {{ [1, 1, 2].count(1) }} {{ (1, 2, 1).count(1) }}
{{ "%s is %d years, %.2f, %5d|%-5d|%05d, %x, %r, %%" % (s, n, f, n, n, n, 255, s) }} {{ '%s' % s }} {{ '%s' % [1, 2] }} {{ '%+d % d' % (1, 2) }} {{ '%5s|%-5s|%.2s' % ('ab', 'ab', 'abc') }}
{{ '%d' % 'x' }}
{{ '%s %s' % 'x' }}
{{ '%s' % ('a', 'b') }}
{{ '%' % 1 }}
{{ '{} {}'.format(1, 'a') }} {{ '{0} {1} {0}'.format(1, 2) }} {{ '{a} {{}}'.format(a=s) }} {{ '{}'.format(none) }}
{{ '{} {}'.format(1) }}
{{ '{'.format(1) }}
{{ t }} {{ no }} {{ nil }} {{ True }} {{ False }} {{ None }} {{ none }}
{{ big }} {{ big + 1 }} {{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }}
{{ d }} {{ users }}
{{ n if n > 5 }} {{ n if n > 50 else }}
{{ l | length + 1 }} {{ -1 | abs }} {{ (-1) | abs }} {{ 1 + -2 | abs }} {{ not s | length > 3 }} {{ s | length > 3 and t }}
{{ 'a' ~ 'b' | upper }} {{ ('a' ~ 'b') | upper }} {{ 'a' + 'b' | upper }}
{{ s | upper | lower | title }} {{ s|length }} {{ 2 * s | length }}
{{ l.index(9) }}
{{ s.find('l') }} {{ s.find('q') }} {{ uni.find('日') }} {{ s.rfind('l') }}
"""

STATEMENTS = r"""
{% if t %}a{% elif s %}b{% else %}c{% endif %}{% if no %}a{% elif s %}b{% else %}c{% endif %}{% if no %}a{% elif no %}b{% else %}c{% endif %}{% if no %}x{% endif %}
{% if l and not none_list %}y{% endif %}{% if d %}d{% endif %}{% if 0.0 %}f{% endif %}{% if '' %}s{% endif %}{% if (0,) %}t{% endif %}{% if none %}n{% endif %}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}
{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}
{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}
{% for x in none_list %}x{% else %}empty{% endfor %} {% for x in l %}x{% else %}empty{% endfor %} {% for x in missing %}x{% else %}none{% endfor %}
{% for x in l if x > 1 %}{{ x }}{{ loop.index }}{{ loop.length }}{{ loop.last }} {% else %}e{% endfor %} {% for x in l if x > 9 %}{{ x }}{% else %}e{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {% for k in d %}{{ k }} {% endfor %} {% for k, v in d | dictsort %}{{ k }}{% endfor %} {% for k, v in d | items %}{{ k }}{% endfor %}
{% for c in 'aé日' %}[{{ c }}]{% endfor %}
{% for (a, b) in [(1, 2), [3, 4]] %}{{ a }}{{ b }} {% endfor %}{% for a, b in ['xy', 'zw'] %}{{ b }}{{ a }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for a, b in [1] %}{{ a }}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for x in nil %}{% endfor %}
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %} {% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %} {% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}{{ x }}{% endfor %}
{% for x in l %}{% for y in 'ab' %}{{ x }}{{ y }}{{ loop.index }} {% endfor %}{{ loop.index }};{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}
{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}
{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{% set ns.new = 5 %}{{ ns.new }}
{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'tool' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set (c, e) = (3, 4) %}{{ c }}{{ e }} {% set a, b = b, a %}{{ a }}{{ b }} {% set q = 1, 2 %}{{ q }}
{% set a, b = 1 %}
{% set d.x = 1 %}
{% set s.x = 1 %}
{% set ns = namespace() %}{% set ns._x = 1 %}
{% set x %}a {{ s }} b{% endset %}[{{ x }}] {% set y | upper | trim %} q {% endset %}[{{ y }}] {{ x is string }}
{% set x %}{% for i in l %}{{ i }},{% endfor %}{% endset %}{{ x | length }}
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c='z') }} {{ m(a=5, b=6) }} {{ m() }}|
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}
{% macro m(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}
{% macro a(n) %}{% if n > 0 %}{{ n }}{{ a(n - 1) }}{% endif %}{% endmacro %}{{ a(4) }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% set g = 'global' %}{% macro m() %}{{ g }}{{ s }}{% endmacro %}{{ m() }}{% set g = 'new' %}{{ m() }}
{% macro m() %}{% set inner = 1 %}{{ inner }}{% endmacro %}{{ m() }}{{ inner is defined }}
{% macro m(x) %}{{ x | upper }}{% endmacro %}{{ m('a') | lower }}{{ m('b') ~ 'c' }}{% set r = m('q') %}{{ r }}{{ r | length }}
{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}
{% macro list_of(items) %}{% for i in items %}<{{ caller(i) }}>{% endfor %}{% endmacro %}{% call(x) list_of(l) %}{{ x }}!{% endcall %}
{% macro w() %}[{{ caller() }}]{% endmacro %}{% call w() %}body {{ s }}{% endcall %}
{% macro w() %}[]{% endmacro %}{% call w() %}body{% endcall %}
{% macro w() %}{{ caller is defined }}{% endmacro %}{{ w() }}
{% filter upper %}abc {{ s }}{% endfilter %} {% filter trim | replace('a', 'b') %} xax {% endfilter %}|
{% with x = 1, y = 2 %}{{ x }}{{ y }}{% endwith %}{{ x is defined }} {% set x = 5 %}{% with x = 1, y = x %}{{ y }}{% endwith %} {% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z is defined }}
{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content | trim }}{% endif %}{% endfor %}
{% generation %}  a⏎{% endgeneration %}⏎b
{% for x in l %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}
{% for x in l %}{{ x }}{{ ", " if not loop.last }}{% endfor %}
{% for m in messages[1:] %}{{ m.role }} {% endfor %}{% for m in messages[::-1] %}{{ m.role }} {% endfor %}{{ messages[-1].role }}{{ messages[0]['role'] }}
{% set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{{ loop_messages | length }}
{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] | trim %}{% endif %}{{ system_message }}
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}x{% else %}y{% endif %}{% endfor %}
{% if 'tool_calls' in messages[2] and messages[2].tool_calls %}{{ messages[2].tool_calls[0].function.name }}{% endif %}
{% set content = messages[2].content.split('</think>')[-1].lstrip('\n') %}{{ content }}
{% set c = messages[2].content %}{% if '</think>' in c %}{{ c.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') }}|{{ c.split('</think>')[-1] }}{% endif %}
{% if messages[2].content is string %}s{% endif %}{% if messages[2]['tool_calls'] is defined and messages[2]['tool_calls'] is not none %}tc{% endif %}{% if messages[0].tool_calls is defined %}no{% endif %}
{% for tc in messages[2].tool_calls %}{% if tc.function is defined %}{% set tc = tc.function %}{% endif %}{"name": "{{ tc.name }}", "arguments": {{ tc.arguments | tojson }}}{% endfor %}
{% for k, v in messages[2].tool_calls[0].function.arguments | items %}{{ k }}={{ v }}{{ "" if loop.last else "," }}{% endfor %}
{% set _ = 1 %}{{ _ }}
{% if %}{% endif %}
{% if t %}
{% endif %}
{% for x in l %}
{% for in l %}{% endfor %}
{% for x l %}{% endfor %}
{% set x %}
{% set 1 = 2 %}
{% set true = 2 %}
{% unknown_tag %}
{% break %}
{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% else %}
{% if t %}{% else %}{% else %}{% endif %}
{{ s
{{ s }
{% if t
{# never closed
{% raw %} never closed
{{ 'never closed }}
{{ (1 }}
{{ 1) }}
{{ [1 }}
{{ }}
{{ 1 2 }}
{{ s | }}
{{ s | nofilter }}
{{ s is notest }}
{% if no %}{{ s | nofilter }}{% endif %}ok
{% if t %}{{ s | nofilter }}{% endif %}
{{ (s | nofilter) if no else 'ok' }}
{% if no %}{{ s is notest }}{% endif %}ok
{{ s. }}
{{ s.1x }}
{{ s['a' }}
{{ f(a=1, 2) }}
{{ @ }}
{{ $ }}
{{ a ? b }}
{{ 1 = 2 }}
{{ not }}
{{ 1 + }}
{{ * 1 }}
{% macro %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m( %}{% endmacro %}
{% call s %}{% endcall %}
{% endfor %}
{% for x in l %}{% endif %}
{% if t %}{% endfor %}
"""

FILTERS = r"""
{{ spaced | trim }}|{{ 'xxaxx' | trim('x') }}|{{ '\u00a0 a \u3000' | trim }}|{{ 5 | trim }}|{{ missing | trim }}|
{{ l | length }} {{ s | length }} {{ d | length }} {{ uni | length }} {{ missing | length }} {{ l | count }} {{ '' | length }}
{{ 5 | length }}
{{ none | length }}
{{ l | map('string') | length }}
{{ s | upper }} {{ s | lower }} {{ uni | upper }} {{ uni | lower }} {{ 'hELLO wORLD' | capitalize }} {{ 'éa' | capitalize }} {{ 'hello big-world (x) it\'s' | title }} {{ 'ÀB ñO' | title }} {{ 5 | upper }} {{ none | lower }}
{{ l | join }} {{ l | join(', ') }} {{ users | join('-', attribute='name') }} {{ 'abc' | join('.') }} {{ none_list | join(',') }} {{ [1, none, 'a', 2.0] | join(' ') }} {{ d | join(',') }} {{ missing | join(',') }} {{ l | join(5) }}
{{ 5 | join }}
{{ 'aaa' | replace('a', 'b') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ s | replace('l', '') }} {{ 'abc' | replace('', '-') }} {{ 5 | replace('5', '6') }} {{ s | replace('x', 'y') }} {{ 'a.b' | replace('.', 1) }}
{{ s | replace('a') }}
{{ missing | default('x') }} {{ none | default('x') }} {{ none | default('x', true) }} {{ '' | default('x', true) }} {{ '' | d('x') }} {{ missing | default }} {{ missing | d(5) }} {{ d.missing | default(d.a) }} {{ missing | default(default_value='k') }} {{ 0 | default(1, boolean=true) }}
{{ missing.x | default('x') }}
{{ d | tojson }} {{ l | tojson }} {{ s | tojson }} {{ none | tojson }} {{ true | tojson }} {{ 1.0 | tojson }} {{ 1e16 | tojson }} {{ uni | tojson }} {{ "<a> & 'b' \"c\" \\ \n\t\r\x00\x1f\x7f\u2028/" | tojson }} {{ (1, 2) | tojson }} {{ {} | tojson }} {{ [] | tojson }}
{{ tools | tojson }}
{{ tools | tojson(indent=4) }}
{{ tools | tojson(indent=2) }}
{{ tools[0] | tojson(indent=0) }}
{{ tools[0] | tojson(indent='\t') }}
{{ {'a': [], 'b': {}, 'c': [[]]} | tojson(indent=2) }}
{{ uni | tojson(ensure_ascii=True) }} {{ uni | tojson(true) }}
{{ d | tojson(separators=(',', ':')) }} {{ d | tojson(sort_keys=true) }} {{ d | tojson(indent=1, separators=(',', ': '), sort_keys=true) }}
{{ {1: 'a', none: 'b', true: 'c', 2.5: 'd'} | tojson }}
{{ missing | tojson }}
{{ l | map('string') | tojson }}
{{ range | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ d | items | list }} {{ missing | items | list }}
{{ l | items | list }}
{{ l | list }} {{ 'abc' | list }} {{ d | list }} {{ (1, 2) | list }} {{ missing | list }}
{{ l | first }} {{ l | last }} {{ 'abc' | first }} {{ 'abc' | last }} {{ none_list | first }} {{ none_list | last }} {{ d | first }} {{ l | map('string') | first }}
{{ l | map('string') | last }}
{{ users | map(attribute='name') | list }} {{ users | map(attribute='age') | list }} {{ users | map(attribute='age', default=0) | list }} {{ users | map(attribute='tags.0') | list }} {{ words | map('upper') | list }} {{ words | map('length') | sum }} {{ words | map('replace', 'a', 'b') | join(',') }} {{ l | map('string') | join('') }}
{{ l | map | list }}
{{ l | map('nofilter') | list }}
{{ users | map(attribute='x.y') | list }}
{{ l | select('odd') | list }} {{ l | reject('odd') | list }} {{ l | select | list }} {{ [0, 1, '', none, 2] | select | list }} {{ [0, 1, '', none, 2] | reject | list }} {{ l | select('gt', 1) | list }} {{ l | select('>', 1) | list }} {{ words | reject('equalto', 'fig') | join(' ') }} {{ words | select('in', ['fig', 'pear']) | list }} {{ [1, missing] | select('defined') | list }}
{{ users | selectattr('age') | map(attribute='name') | list }} {{ users | selectattr('age', 'defined') | list | length }} {{ users | selectattr('name', 'equalto', 'bob') | list }} {{ users | rejectattr('name', 'eq', 'bob') | map(attribute='name') | join }} {{ users | rejectattr('age', 'defined') | map(attribute='name') | first }} {{ messages | selectattr('role', '==', 'user') | list | length }} {{ messages | selectattr('role', 'in', ['user', 'tool']) | map(attribute='role') | list }}
{{ l | select('nofilter') | list }}
{{ users | selectattr('age', 'gt', 1) | list }}
{% if messages | selectattr('role', 'equalto', 'nobody') %}always{% endif %}{% if messages | selectattr('role', 'equalto', 'nobody') | list %}never{% endif %}
{{ multi | indent }}|{{ multi | indent(2) }}|{{ multi | indent(2, true) }}|{{ multi | indent(2, first=True, blank=True) }}|{{ multi | indent('> ') }}|{{ 'x' | indent }}|{{ '' | indent }}|{{ 'a\n' | indent(2) }}|{{ 'a\n\nb' | indent(width=1) }}|{{ '\na' | indent(1, true) }}
{{ 5 | string ~ 1 }} {{ none | string }} {{ [1] | string | length }} {{ 1.0 | string }}
{{ '42' | int }} {{ '4.7' | int }} {{ 'x' | int }} {{ 'x' | int(9) }} {{ 3.99 | int }} {{ -3.99 | int }} {{ true | int }} {{ none | int }} {{ ' 12 ' | int }} {{ '1_000' | int }} {{ '0x1f' | int(base=16) }} {{ 'ff' | int(base=16) }} {{ '0b11' | int(base=2) }} {{ '1e3' | int }} {{ '-5' | int }} {{ '' | int }} {{ [] | int(3) }} {{ '0x1f' | int }} {{ '010' | int }} {{ '0x1f' | int(base=0) }} {{ '+7' | int }} {{ '--7' | int }} {{ 'inf' | int }}
{{ '4.5' | float }} {{ 'x' | float }} {{ 'x' | float(1.5) }} {{ 3 | float }} {{ ' 1e3 ' | float }} {{ none | float }} {{ 'inf' | float }} {{ '-inf' | float }} {{ 'nan' | float }} {{ '1_0.5' | float }} {{ '.5' | float }} {{ '5.' | float }} {{ '1e400' | float }} {{ '+1.5' | float }} {{ '+-1' | float }}
{{ missing | int }}
{{ -3 | abs }} {{ neg | abs }} {{ -2.5 | abs }} {{ (-2.5) | abs }} {{ true | abs }}
{{ 'x' | abs }}
{{ 42.55 | round }} {{ 42.55 | round(1) }} {{ 42.55 | round(1, 'floor') }} {{ 42.55 | round(1, 'ceil') }} {{ 42 | round }} {{ 2.5 | round }} {{ 3.5 | round }} {{ -2.5 | round }} {{ 2.675 | round(2) }} {{ 1234 | round(-2) }} {{ 1250 | round(-2) }} {{ 1234.5 | round(-2) }} {{ 2.1 | round(0, 'ceil') }} {{ 42 | round(method='floor') }} {{ 2.5 | round | int }} {{ 0.5 | round }} {{ -0.4 | round }}
{{ 'x' | round }}
{{ 1.5 | round(1, 'up') }}
{{ l | sort }} {{ l | sort(reverse=true) }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ users | sort(attribute='name') | map(attribute='name') | list }} {{ 'cab' | sort }} {{ d | sort }} {{ [2.5, 1, true] | sort }} {{ [[2, 1], [1, 9]] | sort }}
{{ ['a', 1] | sort }}
{{ users | sort(attribute='age') }}
{{ [1, 2, 1, 1.0, 'a', 'A', 'b'] | unique | list }} {{ words | unique | list }} {{ words | unique(case_sensitive=true) | list }} {{ users | unique(attribute='tags.0') | map(attribute='name') | list }}
{{ [[1]] | unique | list }}
{{ l | reverse | list }} {{ 'aé日' | reverse }} {{ none_list | reverse | list }} {{ d | reverse | list }}
{{ 5 | reverse }}
{{ '<a href="x">\'&' | escape }} {{ '<' | e }} {{ 5 | e }} {{ '<b>' | safe }}
{{ d.nested | dictsort }} {{ {'b': 1, 'A': 3, 'c': 2} | dictsort }} {{ {'b': 1, 'A': 3, 'c': 2} | dictsort(true) }} {{ {'b': 1, 'A': 3, 'c': 2} | dictsort(by='value') }} {{ {'b': 1, 'A': 3} | dictsort(reverse=true) }}
{{ l | dictsort }}
{{ l | min }} {{ l | max }} {{ words | min }} {{ words | max }} {{ words | max(case_sensitive=true) }} {{ users | min(attribute='name') }} {{ none_list | max }} {{ 'hello' | max }}
{{ [1, 'a'] | max }}
{{ l | sum }} {{ [1.5, 2] | sum }} {{ none_list | sum }} {{ users[:2] | sum(attribute='age') }} {{ l | sum(start=10) }} {{ [[1], [2]] | sum(start=[]) }}
{{ ['a'] | sum }}
{{ l | batch(2) | list }} {{ l | batch(2, 'x') | list }} {{ range(5) | batch(3) | list }}
{{ 'one two  three' | wordcount }} {{ "it's, a-b" | wordcount }} {{ '' | wordcount }}
{{ '%s and %d' | format('a', 5) }} {{ '%.1f%%' | format(12.345) }}
{{ s | upper() }} {{ s | trim() | length }}
{{ s | upper(1) }}
{{ s | indent(foo=1) }}
{{ l | join(', ', nope=1) }}
{{ l | first(1, 2, 3) }}
"""

TESTS = r"""
{{ s is defined }} {{ missing is defined }} {{ d.missing is defined }} {{ missing is undefined }} {{ s is not defined }} {{ missing is not defined }} {{ nil is defined }}
{{ nil is none }} {{ s is none }} {{ nil is not none }} {{ missing is none }} {{ s is string }} {{ n is string }} {{ d is mapping }} {{ l is mapping }}
{{ s is iterable }} {{ l is iterable }} {{ d is iterable }} {{ n is iterable }} {{ nil is iterable }} {{ missing is iterable }} {{ (l | map('string')) is iterable }}
{{ s is sequence }} {{ l is sequence }} {{ d is sequence }} {{ n is sequence }} {{ nil is sequence }} {{ (1, 2) is sequence }} {{ (l | map('string')) is sequence }} {{ range(3) is sequence }}
{{ n is number }} {{ f is number }} {{ t is number }} {{ s is number }} {{ n is integer }} {{ t is integer }} {{ f is integer }} {{ f is float }} {{ n is float }} {{ t is boolean }} {{ n is boolean }} {{ nil is boolean }}
{{ t is true }} {{ n is true }} {{ no is false }} {{ zero is false }} {{ 1 is true }} {{ t is false }}
{{ n is odd }} {{ n is even }} {{ zero is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ neg is odd }}
{{ n is eq 7 }} {{ n is equalto 7 }} {{ n is ne 7 }} {{ n is lt 8 }} {{ n is lessthan 7 }} {{ n is le 7 }} {{ n is gt 6 }} {{ n is greaterthan 7 }} {{ n is ge 7 }} {{ n is eq(7) }} {{ n is sameas 7 }} {{ t is sameas true }} {{ 1 is sameas true }}
{{ 1 is in l }} {{ 1 is in(l) }} {{ 9 is not in l }} {{ 'ell' is in 'hello' }} {{ 'a' is in d }}
{{ 'ab' is lower }} {{ 'AB' is lower }} {{ 'AB' is upper }} {{ 'aB' is upper }} {{ '1' is lower }}
{{ range is callable }} {{ s is callable }} {{ s.upper is callable }} {{ s.upper is defined }} {{ s.nothing is defined }}
{{ 'upper' is filter }} {{ 'nofilter' is filter }} {{ 'defined' is test }} {{ 'notest' is test }}
{{ s is defined and s is string }} {{ not s is defined }} {{ s is defined or missing.x }} {{ 'y' if s is defined else 'n' }} {{ s is string == true }} {{ s is not string and t }}
{{ n is divisibleby }}
{{ 'a' is odd }}
{{ n is lt 'a' }}
{{ missing is odd }}
{{ raise_exception is defined }} {{ strftime_now is defined }} {{ namespace is defined }} {{ loop is defined }} {{ caller is defined }}
{{ s is eq 'Hello' and n is eq 7 }} {{ l is eq [3, 1, 2] }} {{ d.nested is eq {'x': [10, 20]} }}
"""

METHODS = r"""
{{ spaced.strip() }}|{{ spaced.lstrip() }}|{{ spaced.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'.lstrip('yx') }}|{{ 'a\n\n'.rstrip('\n') }}|{{ 'éaé'.strip('é') }}|{{ ' a '.strip(none) }}
{{ 'a,b,c'.split(',') }} {{ 'a b  c '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ ' a b c '.split(none, 1) }} {{ 'abc'.split('x') }} {{ ''.split() }} {{ ''.split(',') }} {{ ','.split(',') }} {{ 'a--b'.split('--')[-1] }} {{ 'a b c'.split(maxsplit=1) }} {{ ' a b '.split(none, 0) }} {{ 'a\u3000b\tc'.split() }}
{{ 'a,b,c'.rsplit(',', 1) }} {{ 'a b  c '.rsplit() }} {{ ' a b c '.rsplit(none, 1) }} {{ 'a,b,c'.rsplit(',') }} {{ ' a b '.rsplit(none, 0) }}
{{ 'a'.split('') }}
{{ 'a'.split(1) }}
{{ 'a\nb\r\nc\n'.splitlines() }} {{ 'a\nb\n'.splitlines(true) }} {{ ''.splitlines() }} {{ 'a\u2028b\x0bc'.splitlines() }}
{{ s.startswith('He') }} {{ s.startswith('x') }} {{ s.endswith('lo') }} {{ s.startswith(('x', 'H')) }} {{ s.endswith(('x', 'y')) }} {{ s.startswith('') }}
{{ s.startswith(1) }}
{{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ 'abc'.replace('', '-') }} {{ s.replace('q', '') }} {{ ''.replace('', 'x') }} {{ 'ab'.replace('', '-', 2) }}
{{ s.replace('l') }}
{{ s.replace('l', 1) }}
{{ s.upper() }} {{ s.lower() }} {{ 'hello wORLD it\'s 3rd'.title() }} {{ 'hELLO'.capitalize() }} {{ uni.upper() }} {{ uni.title() }} {{ ''.capitalize() }}
{{ s.find('l') }} {{ s.rfind('l') }} {{ s.find('zz') }} {{ s.count('l') }} {{ 'aaa'.count('aa') }} {{ 'abc'.count('') }} {{ uni.find('日') }} {{ uni.rfind('') }}
{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('=') }} {{ 'abc'.rpartition('=') }}
{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'x'.removeprefix('y') }} {{ 'x'.removesuffix('') }}
{{ ', '.join(['a', 'b']) }} {{ ''.join('abc') }} {{ '-'.join([]) }} {{ '-'.join({'a': 1}) }}
{{ ', '.join([1, 2]) }}
{{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '*') }} {{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'abcd'.ljust(2) }} {{ 'é'.rjust(3) }}
{{ '12'.isdigit() }} {{ 'a1'.isdigit() }} {{ ''.isdigit() }} {{ 'abc'.isalpha() }} {{ 'a1'.isalnum() }} {{ 'a b'.isalnum() }} {{ ' \t'.isspace() }} {{ ''.isspace() }} {{ 'ab1'.islower() }} {{ 'AB'.isupper() }} {{ '1'.isupper() }} {{ 'éa'.islower() }}
{{ d.get('a') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d.get('nested').get('x') }} {{ d.keys() | list }} {{ d.values() | list }} {{ d.items() | list }} {{ d.items() | length }} {{ 'a' in d.keys() }} {{ d.nested.items() | list }}
{{ d.get() }}
{{ d.get([1]) }}
{{ s.upper(1) }}
{{ s.strip(1) }}
"""

TEMPLATES = [
    # The shape of templates of the Llama family, written for this test.
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if t %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{%- if strftime_now is defined %}\n    {%- set date_string = strftime_now(\"%d %b %Y\") %}\n{%- else %}\n"
    "    {%- set date_string = \"26 Jul 2024\" %}\n{%- endif %}\n{{- \"Today Date: \" + date_string }}",
    # tools in a system message, one JSON a line; calls and answers in tags; answers in one user turn
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0].role == 'system' %}\n"
    "        {{- messages[0].content + '\\n\\n' }}\n    {%- endif %}\n    {{- \"# Tools\\n<tools>\" }}\n"
    "    {%- for tool in tools %}\n        {{- \"\\n\" }}\n        {{- tool | tojson }}\n    {%- endfor %}\n"
    "    {{- \"\\n</tools><|im_end|>\\n\" }}\n{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or "
    "(message.role == \"assistant\" and not message.tool_calls) %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "    {%- elif message.role == \"assistant\" %}\n        {{- '<|im_start|>' + message.role }}\n"
    "        {%- if message.content %}\n            {{- '\\n' + message.content }}\n        {%- endif %}\n"
    "        {%- for tool_call in message.tool_calls %}\n            {%- if tool_call.function is defined %}\n"
    "                {%- set tool_call = tool_call.function %}\n            {%- endif %}\n"
    "            {{- '\\n<tool_call>\\n{\"name\": \"' }}\n            {{- tool_call.name }}\n            {{- '\", \"arguments\": ' }}\n"
    "            {{- tool_call.arguments | tojson }}\n            {{- '}\\n</tool_call>' }}\n        {%- endfor %}\n"
    "        {{- '<|im_end|>\\n' }}\n    {%- elif message.role == \"tool\" %}\n"
    "        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != \"tool\") %}\n            {{- '<|im_start|>user' }}\n        {%- endif %}\n"
    "        {{- '\\n<tool_response>\\n' }}\n        {{- message.content }}\n        {{- '\\n</tool_response>' }}\n"
    "        {%- if loop.last or (messages[loop.index0 + 1].role != \"tool\") %}\n            {{- '<|im_end|>\\n' }}\n        {%- endif %}\n"
    "    {%- endif %}\n{%- endfor %}\n{{- '<|im_start|>assistant\\n' }}\n",
    # a state machine over namespaces, reasoning cut off
    "{% set ns = namespace(is_first=false, is_tool=false, system_prompt='') %}{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
    "<bos>{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}"
    "<U>{{ message['content'] }}{%- endif %}{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none %}"
    "{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}<A><calls>{{ tool['type'] }}<sep>{{ tool['function']['name'] }}\n```json\n{{ tool['function']['arguments'] | tojson }}\n```"
    "{%- set ns.is_first = true -%}{%- else %}\nmore{%- endif %}{%- endfor %}<eos>{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}<A>{{ content }}<eos>{%- endif %}"
    "{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}<out>{{ message['content'] }}</out>{%- endif %}{%- endfor -%}"
    "{% if ns.is_tool %}<end>{% endif %}{% if t and not ns.is_tool %}<A>{% endif %}",
    # types of a JSON schema by a recursive macro
    "{%- macro json_type(spec) -%}{%- set types = {'string': 'str', 'integer': 'int', 'object': 'dict'} -%}"
    "{%- if spec.type == 'array' -%}list[{{ json_type(spec['items']) }}]"
    "{%- elif spec.type is iterable and spec.type is not string -%}Union[{%- for ty in spec.type -%}{{ json_type({'type': ty}) }}{%- if not loop.last -%},{%- endif -%}{%- endfor -%}]"
    "{%- elif spec.type in types -%}{{ types[spec.type] }}{%- else -%}Any{%- endif -%}{%- endmacro -%}"
    "{{ json_type({'type': 'array', 'items': {'type': 'array', 'items': {'type': ['string', 'integer']}}}) }} {{ json_type({'type': 'q'}) }}",
    # every letter whose case our tables claim to know
    "{{ letters | upper }}|{{ letters | lower }}",
]

# What a random search over expressions and statements found to differ, once.
FOUND = r"""
{{ range(3) }} {{ range(2, 5) }} {{ range(9, 0, -3) }} {{ range(5, 1) }} {{ [range(1)] }} {{ range(3) == range(0, 3, 1) }} {{ range(3) == [0, 1, 2] }} {{ range(4)[1] }} {{ range(4)[-1] }} {{ range(3) | join }} {{ range(5).index(3) }}
{{ range(3) | tojson }}
{{ range(3) + [1] }}
{{ range(3) * 2 }}
{{ d.keys() }} {{ d.nested.values() }} {{ {'a': 1}.items() }} {{ {}.items() }} {{ {}.keys() }} {{ d.keys() is sequence }} {{ d.keys() is iterable }} {{ d.keys()[0] }}| {{ d.items() | first }} {{ d.values() | last }} {{ d.keys() | reverse | list }} {{ {}.keys() or 'none' }} {{ d.keys() | length }} {{ d.items() | map('first') | list }}
{{ d.keys() | tojson }}
{{ d.items() | tojson }}
{{ d.keys() + d.keys() }}
{{ d.keys()[1:] }}
{{ d.copy() == d }} {{ l.copy() }} {{ d.copy() | length }}
{{ (1, 2).copy() }}
{% for x in l %}{% continue %}{% else %}e{% endfor %} {% for x in l %}{{ x }}{% break %}{% else %}e{% endfor %} {% for x in l %}{% if not loop.first %}{% break %}{% endif %}{{ x }}{% else %}e{% endfor %}
{% for x in l %}{% set loop = 1 %}{% endfor %}
{% for loop in l %}{{ loop }}{% endfor %}
{% for x in l %}{% macro m() %}{% set loop = 1 %}{% endmacro %}{% endfor %}
{% for x in none_list %}x{% else %}{% set loop = 1 %}{% endfor %}
{% for x in l %}{% endfor %}{% set loop = 5 %}{{ loop }}
{{ 5 | indent }}
{{ none | indent }}
{{ missing | indent }}
{{ l | indent(2) }}
{{ n is odd 1 }}
{{ n is even(1) }}
{{ 'upper' is filter(1) }}
{{ s is test 1 }}
{{ -0.0 // 1 }} {{ 0.0 // -2 }} {{ -0.5 // 1 }} {{ 5.5 // -1 }} {{ 7 // 2.0 }} {{ 0.0 // 5 }} {{ -0.0 % 3 }}
{{ 'x' % l }} {{ 'x' % d }} {{ '%s' % d.nested }} {{ '%s' % l }} {{ '%(a)s-%(b)03d' % d }} {{ '%(a)s' % {'a': none} }} {{ '100%%' % {} }} {{ '%s' | format(1) }} {{ '%(x)s!' | format(x='y') }}
{{ '%(q)s' % d }}
{{ '%(a)s' % l }}
{{ '%(a' % d }}
{{ '%s %s' % l }}
{{ '%s' | format(1, x=2) }}
{{ s | center(11) }}|{{ s | center(12) }}|{{ 'ab' | center(5) }}|{{ 'abc' | center(6) }}|{{ s | center(3) }}|{{ s | center | length }}|{{ 'é'.center(4, '日') }}|{{ 5 | center(3) }}|
{{ s.center() }}
{{ 'ab'.ljust() }}
{{ 'ab'.zfill() }}
{{ 'a bc def ghij' | truncate(9, leeway=0) }}|{{ 'a bc def ghij' | truncate(9, true, leeway=0) }}|{{ 'a bc def ghij' | truncate(9) }}|{{ 'abcdefghijklm' | truncate(7, end='~', leeway=0) }}|{{ uni | truncate(10, leeway=2) }}|{{ l | truncate }}|{{ 'x' | truncate(3) }}
{{ 'abcdefghij' | truncate(2) }}
{{ range(7) | slice(3) | list }} {{ range(7) | slice(3, 'x') | list }} {{ 'abc' | slice(5) | list }} {{ none_list | slice(2, 0) | list }}
{{ '<a>' | forceescape }} {{ 5 | forceescape }}
{{ s.index('l') }} {{ s.rindex('l') }} {{ uni.index('日') }} {{ s.find('l', 3) }} {{ s.find('l', 0, 3) }} {{ s.find('l', -2) }} {{ s.rfind('l', 0, -2) }} {{ s.find('', 5) }} {{ s.find('', 6) }} {{ s.find('l', none, none) }} {{ s.count('l', 3) }} {{ s.count('', 2) }} {{ s.count('', 9) }} {{ uni.find('日', 3) }} {{ s.find('o', 4, 99) }} {{ s.find('e', 3, 1) }}
{{ s.index('zz') }}
{{ s.rindex('H', 1) }}
{{ s.startswith('l', 2) }} {{ s.startswith('He', 0, 1) }} {{ s.endswith('l', 0, 4) }} {{ s.startswith('', 9) }} {{ s.endswith('', 5) }} {{ s.startswith(('x', 'e'), 1) }} {{ s.startswith('lo', -2) }}
{{ 'aBc éÉ 1'.swapcase() }} {{ 'Straße ΣΑΣ'.casefold() }} {{ 'Ab Cd'.istitle() }} {{ 'Ab cd'.istitle() }} {{ ''.istitle() }} {{ '1 A'.istitle() }} {{ 'AB'.istitle() }} {{ "It's"  .istitle() }} {{ 'abc'.isascii() }} {{ 'é'.isascii() }} {{ ''.isascii() }} {{ '12'.isdecimal() }} {{ '1a'.isnumeric() }}
{{ ['\u06dd', '\u070f', '\u08e2', '\U000110bd', '\U00013430', '\U0001d173'] }}
{% for x in [[1, [2]], 3] recursive %}{{ loop.depth }}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %} {% for u in users recursive %}{{ loop.depth0 }}{{ u.name }}{% if u.tags %}<{{ loop(u.tags) | upper }}>{% endif %}{% else %}none{% endfor %}
{% set q = 1 %}{% for x in [[1, 2], [3]] if x != 3 recursive %}{% set q = q + 1 %}{{ q }}{% if x is sequence %}{{ loop(x) }}{% endif %}{{ q }} {% else %}empty{% endfor %}{{ q }}
{% for x in l recursive %}{{ loop(5) }}{% endfor %}
{% for x in l recursive %}{{ loop() }}{% endfor %}
{% for x in l %}{{ loop(x) }}{% endfor %}
{% for x in l %}{{ loop is callable }}{% endfor %}
{{ range(*[1, 4]) | list }} {{ range(*(5,)) }} {{ dict(*[{'a': 1}], b=2, **{'c': 3}) }} {{ dict(d, **{'a': 'new'}).a }} {{ s.replace(*['l', 'L']) }} {{ l | join(*['-']) }} {{ users | map(**{'attribute': 'name'}) | list }} {{ 'x'.ljust(3, *['*']) }}
{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(*[1, 2, 3], **{'z': 4}) }} {{ m(**{'b': 1, 'a': 0}) }} {{ m(a=1, *[]) }}
{{ dict(a=1, **{'a': 2}) }}
{{ dict(**{1: 2}) }}
{{ dict(**5) }}
{{ range(*5) }}
{{ range(*l, 1) }}
{{ range(*l, *l) }}
{{ dict(**d, a=1) }}
{{ 'Ș ț Ȟ ǎ Ǜ Ȭ' | upper }} {{ 'Ș ț Ȟ ǎ Ǜ Ȭ' | lower }}
{{ users | sort(attribute='name,age') | map(attribute='name') | list }} {{ [{'a': 1, 'b': 2}, {'a': 1, 'b': 1}, {'a': 0, 'b': 5}] | sort(attribute='a,b') }} {{ [{'a': 1, 'b': 2}, {'a': 1, 'b': 1}, {'a': 0, 'b': 5}] | sort(attribute='a,b', reverse=true) }} {{ [[1, 2], [0, 3]] | sort(attribute='0,1') }} {{ [[1, 2], [0, 3]] | sort(attribute=1) }}
{{ users | sort(attribute='none') | map(attribute='name') | list }} {{ l | sort(attribute='x') }}
{{ [{'a': 1}, {'b': 2}] | sort(attribute='a') }}
{{ missing is callable }} {{ d.missing is callable }} {{ none is callable }}
{{ l | map('string') | reverse }} {{ none_list | map('string') | reverse or 'none' }}
{{ '' % missing }} {{ 'x%%' % [] }} {{ '%s' % missing }} {{ 'x' % range(3) }}
{{ 'x' % d.keys() }}
{{ 'x' % (l | map('string')) }}
{{ '%(a)s' % missing }}
{{ 1e308 | round(300, 'ceil') }}
{{ raise_exception() }}
"""

UNSUPPORTED = r"""
{% include 'x' %}
{% import 'x' as y %}
{% extends 'x' %}
{% block a %}{% endblock %}
{{ users | groupby('name') }}
{{ 2 ** 64 }}
{{ 9223372036854775807 + 1 }}
{{ 99999999999999999999 }}
{{ '{:>5}'.format(1) }}
{{ 'é'.isalpha() }}
{{ joiner(',')() }}
{{ '%g' % 1.5 }}
{{ '%2000d' % 1 }}
{{ '%.2000f' % 1 }}
{{ s.expandtabs() }}
{{ s | wordwrap(3) }}
{% for x in l %}{{ loop.changed(x) }}{% endfor %}
"""


def letters():
    runs = [(0x20, 0x7E), (0xA1, 0xFF), (0x100, 0x148), (0x14A, 0x17E), (0x386, 0x386), (0x388, 0x38A), (0x38C, 0x38C),
            (0x38E, 0x38F), (0x391, 0x3A1), (0x3A4, 0x3AB), (0x3AD, 0x3AF), (0x3B1, 0x3CE), (0x400, 0x481), (0x48A, 0x52F),
            (0x531, 0x556), (0x561, 0x586), (0x1E00, 0x1E95), (0x1EA0, 0x1EFF), (0xFF21, 0xFF5A), (0x4E00, 0x4E10)]
    return "".join(chr(c) for first, last in runs for c in range(first, last + 1))


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    def _pass(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    class Namespace(jinja2.utils.Namespace):
        def __setitem__(self, name, value):
            if name.startswith("_"):
                raise jinja2.exceptions.SecurityError("underscore")
            jinja2.utils.Namespace.__setitem__(self, name, value)

    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=NOW.strftime, namespace=Namespace)
    return env


def snippets(block):
    """One snippet a line; signs stand for characters that can not be seen."""
    signs = str.maketrans({"⏎": "\n", "␍": "\r", "⇥": "\t", "␣": "\u00a0"})
    return [line.translate(signs) for line in block.strip("\n").split("\n")]


def main():
    env = environment()
    variables = dict(VARIABLES, letters=letters())
    cases = []
    for block in (WHITESPACE, EXPRESSIONS, STATEMENTS, FILTERS, TESTS, METHODS, FOUND):
        cases += snippets(block)
    cases += TEMPLATES
    rendered = []
    for source in cases:
        try:
            # Of a copy: "l | indent" changes the list.
            text = env.from_string(source).render(**copy.deepcopy(variables))
        except Exception:  # whatever it is, the template has no text
            text = None
        rendered.append([source, text])
    target = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "jinja.json"
    result = {"jinja2": jinja2.__version__, "variables": variables, "cases": rendered, "unsupported": snippets(UNSUPPORTED)}
    target.write_text(json.dumps(result, ensure_ascii=True, indent=0) + "\n")
    print(len(rendered), "cases,", sum(text is None for _, text in rendered), "errors ->", target)


if __name__ == "__main__":
    main()
