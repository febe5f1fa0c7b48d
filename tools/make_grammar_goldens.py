"""Writes tests/golden/grammar.json: which texts fit which regular expressions and JSON Schemas,
by Python's re and by the PyPI package jsonschema (neither is ours).

    python3 -m venv V && V/bin/pip install jsonschema==4.23.0 rfc3339-validator fqdn isoduration \
        rfc3986-validator
    V/bin/python tools/make_grammar_goldens.py
    V/bin/python tools/make_grammar_goldens.py --check build/grammar_walks.jsonl

--check reads lines {"schema": ..., "text": ...} that the test's random walks wrote, and says which
of the texts are not valid.

"regex": [pattern, {text: fits}]; "schemas": [schema, {text: fits}]; "random_regex" and "random_schemas" are
the same from random_forms.py, of which ours may refuse some. The texts of a schema are
spelled as our grammar writes JSON (compact, ", " and ": ", or indented by 2), in the order of its
properties. What our grammar decides beyond the standard (see src/grammar/json_schema.cpp) is
stated in the schemas: every object with "properties" says "additionalProperties".
"""
import copy
import json
import random
import re
import sys
from pathlib import Path

import jsonschema

from random_forms import random_patterns, random_schemas

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "grammar.json"

# Patterns with some texts that are worth asking about; random ones are added.
PATTERNS = [
    (r"abc", ["abc", "ab", "abcd", ""]),
    (r"a|bc|", ["a", "bc", "", "abc"]),
    (r"^a+b*?c{2}$", ["acc", "aabcc", "abc", "cc"]),
    (r"(?:ab){1,3}", ["ab", "abab", "ababab", "abababab", ""]),
    (r"(a|b)*abb", ["abb", "aabb", "babb", "ab"]),
    (r"[a-c]{2,}", ["ab", "a", "abcabc", "abd"]),
    (r"[^a-c]{,2}", ["", "d", "dé", "a", "ddd"]),
    (r"\d{3}-\d{4}", ["555-1234", "5551234", "555-12345"]),
    (r"(\+?1[ -]?)?\(?\d{3}\)?[ -]?\d{3}-\d{4}", ["+1 (555) 123-4567", "555 123-4567", "555-123-4567x"]),
    (r"[\w.+-]+@[\w-]+\.[\w.]+", ["me@example.org", "a.b+c@d-e.f.g", "@x.y", "a@b"]),
    (r"\s*\S+\s*", [" x ", "x y", "\t\nxyz", ""]),
    (r".", ["a", "é", "漢", "😀", "\n", "ab", ""]),
    (r".{3}", ["aéz", "漢字😀", "ab", "abcd", "a\nb"]),
    (r"[\s\S]{2}", ["a\n", "\n\n", "a"]),
    (r"[α-ωé]+", ["αβγ", "é", "abc", "αa"]),
    (r"[^\x00-\x7f]+", ["é漢😀", "a", "éa"]),
    (r"\u00e9|\x41\t", ["é", "A\t", "A", "e"]),
    (r"[\u4e00-\u9fff]{1,4}", ["漢字", "漢", "kanji", "漢字漢字漢"]),
    (r"[\U0001f600-\U0001f64f]", ["😀", "🙏", "x", "🚀"]),
    (r"[]a]+", ["]a]", "]", "b", ""]),
    (r"[a\]\-\\^]+", ["a]-\\^", "^", "b"]),
    (r"[-a]+[b-]", ["-a-", "ab", "b"]),
    (r"a{2}b{0}c{0,1}", ["aa", "aac", "aab", "a"]),
    (r"a{x}|b{", ["a{x}", "b{", "ax", "b"]),
    (r"{a}", ["{a}", "a"]),
    (r"\{\"k\": \"[^\"\\]*\"\}", ['{"k": "v"}', '{"k": ""}', '{"k": "a"b"}']),
    (r"(?P<year>\d{4})/(?P<month>0[1-9]|1[0-2])", ["2024/01", "2024/13", "24/01"]),
    (r"((a?)*)*b", ["b", "aaab", "aa", ""]),
    (r"(?:(?:x|y)z?){2}\.", ["xy.", "xzyz.", "x.", "xzz."]),
    (r"\Aab\Z", ["ab", "abc", "b"]),
    (r"^(yes|no)$", ["yes", "no", "yesno", "maybe"]),
    (r"^a|b$", ["a", "b", "ab"]),
    (r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
     ["123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000"]),
    (r"(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}",
     ["127.0.0.1", "255.255.255.255", "256.1.1.1", "1.2.3"]),
    (r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", ["0", "-1.5e+10", "01", "1.", ".5", "-"]),
    (r"\D\W\S", ["a-b", "é é", "1-b", "aab"]),
    (r"[\d\-x]+", ["1-x", "x", "y"]),
    (r"[^\d\s]+", ["ab", "a b", "a1"]),
    (r"a\.b\*c\?\+\(\)\[\]\{\}\|\^\$\/", ["a.b*c?+()[]{}|^$/", "axb*c?+()[]{}|^$/"]),
    (r"\n\r\t\f\v\0", ["\n\r\t\f\v\0", "\n"]),
]

PERSON = {"type": "object", "properties": {
    "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "email": {"type": "string", "pattern": "^[^@\\s]+@[^@\\s]+$"}},
    "required": ["name", "age"], "additionalProperties": False}
TREE = {"$ref": "#/$defs/node", "$defs": {"node": {
    "type": "object", "properties": {
        "value": {"type": "integer"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    "required": ["value"], "additionalProperties": False}}}


def closed(**properties):
    return {"type": "object", "properties": properties, "required": list(properties),
            "additionalProperties": False}


# Schemas with values; changed values are added, and jsonschema says which are valid.
SCHEMAS = [
    (PERSON, [{"name": "Zoë", "age": 33}, {"name": "", "age": 0, "email": "a@b.org"}]),
    (TREE, [{"value": 1}, {"value": -5, "children": [{"value": 2}, {"value": 3, "children": []}]}]),
    ({"type": "string"}, ["", "plain", "quote \" back \\ slash / tab\t", "漢字 😀 é"]),
    ({"type": "integer"}, [0, -1, 42, 123456789012345678]),
    ({"type": "number"}, [0, -1.5, 3.25, 1e-7, 2.5e+20]),
    ({"type": "boolean"}, [True, False]),
    ({"type": "null"}, [None]),
    ({"type": ["string", "null"]}, ["a", None]),
    ({"type": ["integer", "boolean", "array"]}, [1, True, [1, "a", None, {"b": []}]]),
    ({}, [1, "a", None, True, [], {}, {"a": {"b": [1.5, {"c": None}]}}, [[[]]]]),
    (True, [1, {"a": 1}]),
    ({"type": "object"}, [{}, {"a": 1}, {"a": {"b": {}}, "c": [1]}]),
    ({"type": "array"}, [[], [1], [[], {}, "a"]]),
    ({"enum": ["red", "green", 3, None, True, [1, {"a": "b"}]]},
     ["red", "green", 3, None, True, [1, {"a": "b"}]]),
    ({"type": "string", "enum": ["a", "b", 1]}, ["a", "b"]),
    ({"const": {"k": "v\n", "n": [1, 2]}}, [{"k": "v\n", "n": [1, 2]}]),
    ({"const": 7}, [7]),
    ({"type": "string", "minLength": 2, "maxLength": 4}, ["ab", "abcd", "é漢😀x", "\n\t\"\\"]),
    ({"type": "string", "minLength": 3}, ["abc", "a much longer text"]),
    ({"type": "string", "maxLength": 0}, [""]),
    ({"type": "string", "pattern": "^[A-Z]{2}\\d+$"}, ["AB1", "ZZ12345"]),
    ({"type": "string", "pattern": "b+"}, ["b", "abc", "x\nbbb\ny"]),
    ({"type": "string", "pattern": "^a|z$"}, ["a", "z", "abc", "xyz", "aXz"]),
    ({"type": "string", "pattern": "^[^a]*$"}, ["", "bcd", "\"\\\n", "é"]),
    ({"type": "string", "pattern": "^[a-z]*$", "minLength": 1, "maxLength": 5}, ["a", "abcde"]),
    ({"type": "string", "pattern": "^(ab)*$", "minLength": 3, "maxLength": 7}, ["abab", "ababab"]),
    ({"type": "string", "format": "date"}, ["2024-02-29", "1999-12-31", "2000-02-29"]),
    ({"type": "string", "format": "time"}, ["12:30:00Z", "23:59:59.25+02:00"]),
    ({"type": "string", "format": "date-time"}, ["2024-01-31T12:30:00Z", "1999-12-31T23:59:59-08:00"]),
    ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"]),
    ({"type": "string", "format": "ipv4"}, ["127.0.0.1", "255.255.255.255"]),
    ({"type": "integer", "minimum": 0}, [0, 1, 10, 999]),
    ({"type": "integer", "minimum": -5, "maximum": 12}, list(range(-7, 15))),
    ({"type": "integer", "minimum": 95, "maximum": 1203}, [95, 99, 100, 999, 1000, 1199, 1200, 1203]),
    ({"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 100}, [9, 10, 11, 50, 99, 100]),
    ({"type": "integer", "maximum": -10}, [-10, -11, -99, -100, -9, 0]),
    ({"type": "integer", "minimum": 0.5, "maximum": 2.5}, [0, 1, 2, 3]),
    ({"type": "number", "minimum": 0, "maximum": 1},
     [0, 1, 0.5, 0.125, 1.0, 0.0, 1.1, -0.1, 2, 0.999, 1.001, 1.01]),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 10.5},
     [0, 0.0, 0.1, 0.001, 10.5, 10.49, 10.51, 10.6, 5, 9.99, 10, 11, 10.500, 1, -1]),
    ({"type": "number", "minimum": -1.25, "exclusiveMaximum": 2.75},
     [-1.25, -1.24, -1.26, -1.3, -1, -1.2, -0.5, 0, 2.75, 2.74, 2.7, 2.8, 2.749, 2.751, 2, 3, -2]),
    ({"type": "number", "minimum": 0.125, "maximum": 0.135}, [0.125, 0.13, 0.135, 0.12, 0.1249, 0.1351, 0.1, 0.2, 0]),
    ({"type": "number", "exclusiveMinimum": 0.125, "exclusiveMaximum": 0.1251},
     [0.125, 0.12505, 0.1251, 0.1250001, 0.12509, 0.126]),
    ({"type": "number", "maximum": -0.5}, [-0.5, -0.51, -0.4, -1, -100.25, 0, 0.5]),
    ({"type": "number", "minimum": 1e-05}, [1, 0.5, 0.00001, 0.000009, 0.1, 0]),
    ({"type": "array", "items": {"type": "integer"}}, [[], [1], [1, 2, 3]]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}, [[1, 2], [1, 2, 3]]),
    ({"type": "array", "items": {"type": "string"}, "minItems": 1}, [["a"], ["a", "b", "c"]]),
    ({"type": "array", "maxItems": 2}, [[], [1], ["a", {}]]),
    ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
     [[], ["a"], ["a", 1]]),
    ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "null"}, "minItems": 1},
     [["a"], ["a", None, None]]),
    ({"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2,
                                 "maxItems": 2}}, [[], [[1, 2.5]], [[0, 0], [-1, 1]]]),
    ({"type": "array", "maxItems": 0}, [[]]),
    ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}, {"type": "null"}]},
     [1, "abc", None]),
    ({"oneOf": [closed(kind={"const": "cat"}, lives={"type": "integer"}),
                closed(kind={"const": "dog"}, name={"type": "string"})]},
     [{"kind": "cat", "lives": 9}, {"kind": "dog", "name": "Rex"}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
      "additionalProperties": False, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
     [{"a": 1}, {"b": "x"}, {"a": 1, "b": "x"}]),
    ({"type": "object", "properties": {
        "a": {"type": "integer"}, "b": {"type": "integer"}, "c": {"type": "integer"}},
      "required": ["b"], "additionalProperties": False},
     [{"b": 1}, {"a": 1, "b": 2}, {"b": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}},
      "additionalProperties": {"type": "string"}}, [{}, {"a": 1}, {"a": 1, "x": "y"}, {"ab": "1", "": ""}]),
    ({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"],
      "additionalProperties": True}, [{"name": "x"}, {"name": "x", "names": [1], "nam": None}]),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"a": 1, "b": 2}]),
    ({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"type": "string"}}, "required": ["b"]}],
      "properties": {}, "unevaluatedProperties": False}, [{"a": 1, "b": "x"}]),
    ({"allOf": [{"type": "number", "minimum": 3}, {"type": "integer", "maximum": 20}]}, [3, 7, 20]),
    ({"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["b", "c", "d"]}]}, ["b", "c"]),
    ({"$defs": {"base": {"type": "string", "minLength": 2}}, "$ref": "#/$defs/base", "maxLength": 3},
     ["ab", "abc"]),
    ({"definitions": {"list": {"anyOf": [{"type": "null"}, closed(head={"type": "integer"},
                                                               tail={"$ref": "#/definitions/list"})]}},
      "$ref": "#/definitions/list"}, [None, {"head": 1, "tail": {"head": 2, "tail": None}}]),
    (closed(a={"$ref": "#/properties/b"}, b={"type": "boolean"}), [{"a": True, "b": False}]),
    (closed(**{"quote\"d": {"type": "integer"}, "sla/sh~": {"type": "null"}, "é漢": {}}),
     [{"quote\"d": 1, "sla/sh~": None, "é漢": "x"}]),
    (closed(deep=closed(deeper=closed(deepest={"type": "array", "items": closed(x={"type": "number"})}))),
     [{"deep": {"deeper": {"deepest": []}}}, {"deep": {"deeper": {"deepest": [{"x": 1}, {"x": 0.5}]}}}]),
    ({"type": "object", "properties": {"maybe": {"anyOf": [{"type": "string"}, {"type": "null"}],
                                                 "default": None, "title": "Maybe"},
                                       "list": {"type": "array", "items": {"enum": ["x", "y"]},
                                                "examples": [["x"]]}},
      "required": ["maybe", "list"], "additionalProperties": False, "title": "T", "description": "d",
      "$schema": "https://json-schema.org/draft/2020-12/schema"},
     [{"maybe": None, "list": []}, {"maybe": "s", "list": ["x", "y", "x"]}]),
    ({"type": "string", "minLength": 1000, "maxLength": 1005}, ["x" * 1000, "é" * 1005]),
    (closed(), [{}]),
    ({"not_a_keyword": 1, "x-note": {"type": "null"}, "type": "integer"}, [1]),
    # Values beside other rules.
    ({"enum": [1, 2, 3, "a"], "minimum": 2}, [1, 2, 3, "a"]),
    ({"enum": [1, 2, 3.5], "exclusiveMinimum": 1, "exclusiveMaximum": 3.5}, [1, 2, 3.5]),
    ({"enum": ["a", "bb", "c", "ccc", "éé"], "minLength": 2, "maxLength": 2, "pattern": "c|b|é"},
     ["a", "bb", "c", "ccc", "éé"]),
    ({"enum": [[1], [1, 2], [1, 2, 3], "a"], "minItems": 2, "maxItems": 2}, [[1], [1, 2], [1, 2, 3], "a"]),
    ({"const": "abc", "maxLength": 3, "type": "string", "minimum": 7}, ["abc"]),
    ({"type": "integer", "anyOf": [{"type": "string"}, {"minimum": 3}]}, [2, 3, "a"]),
    # What merged schemas say of each other's items and properties.
    ({"allOf": [{"type": "array", "items": {"type": "integer"}}, {"prefixItems": [{}], "items": True}]},
     [["a"], [1], [1, 2], []]),
    ({"type": "array", "items": {"type": "integer"}, "allOf": [{"prefixItems": [{"minimum": 3}]}]},
     [["a"], [1], [3], [3, 1], [3, "a"]]),
    ({"allOf": [{"type": "array", "prefixItems": [{"type": "integer"}] * 2, "items": {"type": "string"}},
                {"prefixItems": [{"minimum": 3}], "items": True}]}, [[3, 1], [2, 1], [3, "a"], [3, 1, "a"]]),
    ({"allOf": [{"type": "object", "properties": {"a": {}}, "additionalProperties": False},
                {"properties": {"b": {}}}]}, [{"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {}]),
    ({"allOf": [{"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
                {"properties": {"b": {"minimum": 3}}}]}, [{"a": "x"}, {"b": 1}, {"b": "x"}, {"a": "x", "b": 3}]),
    # Counted characters of one set; names that are alike.
    ({"type": "string", "pattern": "^[a-fé\"\n]{3,20}$", "maxLength": 12}, ["abc", "\"\né", "a" * 12, "a" * 13]),
    ({"type": "string", "pattern": "^.{9,}$", "minLength": 10}, ["x" * 9, "x" * 10, "é" * 30]),
    ({"type": "object", "properties": {"a\" \"b": {"type": "null"}, "a": {"type": "null"}},
      "additionalProperties": {"type": "integer"}}, [{"a\" \"b": None, "b": 1}, {"a": None, "a\"": 2}]),
]

# Texts that are not JSON at all, or not as json.dumps spells it, asked of the schema {}.
RAW = ["", "{", "}", "[1,]", "{\"a\":1,}", "{a:1}", "'a'", "01", "1.", ".5", "+1", "-", "1e", "NaN",
       "Infinity", "tru", "nul", "\"\t\"", "\"\\x\"", "\"\\u12\"", "\"\\u00e9\"", "\"\\ud83d\\ude00\"",
       "\"\\/\\b\\f\\n\\r\\t\\\"\\\\\"", "[1 2]", "{\"a\" 1}", "{\"a\":}", "[,1]", "\"a", "1 2", "[[]",
       "-0", "-0.5", "1E5", "1e+05", "{\"a\":1 \"b\":2}", "[1,\n    2]", "{\n\t\"a\": 1\n}"]


def mutations(value, rng):
    """Values near this one."""
    out = [None, True, 0, -1, 1.5, "", "x", [], {}, [value], {"a": value}]
    if isinstance(value, bool) or value is None:
        return out
    if isinstance(value, (int, float)):
        return out + [value + 1, value - 1, -value, value * 10, value + 0.5]
    if isinstance(value, str):
        return out + [value + "x", value[1:], value[:-1], value * 2, value.upper(), value + "\n1",
                      value.replace("2", "3"), value.replace("0", "9")]
    if isinstance(value, list):
        out += [value + [1], value + ["a"], value[1:], value[:-1], value + value]
        for i, item in enumerate(value):
            for other in rng.sample(mutations(item, rng), 4):
                out.append(value[:i] + [other] + value[i + 1:])
        return out
    for key in value:
        out.append({k: v for k, v in value.items() if k != key})
        for other in rng.sample(mutations(value[key], rng), 6):
            changed = copy.copy(value)
            changed[key] = other
            out.append(changed)
    out.append({**value, "extra": 1})
    out.append({**value, "extra": "s"})
    return out


def spellings(value):
    return {json.dumps(value, ensure_ascii=False, separators=(",", ":")),
            json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=2)}


def strange(schema, text):
    """What our grammar does not write: long exponents and digits, exponents and "-0" with bounds."""
    if "imum" in json.dumps(schema) and re.search(r"\d[eE]|-0\b(?!\.)", text):
        return True
    return bool(re.search(r"\d{19}|\d[eE][+-]?\d{3}", text))


def validator_of(schema):
    kind = jsonschema.Draft202012Validator
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def in_order(schema, value):
    """Whether a top-level object has the order of the schema's properties."""
    if not isinstance(value, dict) or not isinstance(schema, dict):
        return True
    order = [k for k in schema.get("properties", {}) if k in value]
    return list(value)[: len(order)] == order


def main():
    rng = random.Random(7)
    regexes = []
    for pattern, texts in PATTERNS:
        compiled = re.compile(pattern, re.ASCII)
        alphabet = sorted(set("".join(texts) + "ab1-")) or ["a"]
        more = list(texts)
        for _ in range(12):
            more.append("".join(rng.choice(alphabet) for _ in range(rng.randint(0, 5))))
        for text in texts:
            for _ in range(2):
                at = rng.randint(0, len(text))
                more.append(text[:at] + rng.choice(alphabet) + text[at + rng.randint(0, 1):])
        # Python's $ matches before a last newline too; ours does not.
        regexes.append([pattern, {t: compiled.fullmatch(t) is not None for t in more
                                  if not ("$" in pattern and t.endswith("\n"))}])
    schemas = []
    for schema, values in SCHEMAS:
        validator = validator_of(schema)
        verdicts = {}
        around = [m for v in values for m in mutations(v, rng)]
        if len(around) > 40:
            around = rng.sample(around, 40)
        # JSON Schema says that 1.0 is an integer; ours writes integers without a point.
        whole = "integer" in json.dumps(schema)
        for value in values + around:
            if whole and isinstance(value, float) and value == int(value):
                continue
            if not in_order(schema, value):
                continue
            valid = validator.is_valid(value)
            for text in spellings(value) if value in values else [json.dumps(value, ensure_ascii=False)]:
                if not strange(schema, text) and len(text) < 3000:
                    verdicts[text] = valid
        schemas.append([schema, verdicts])
    raw = {}
    for text in RAW:
        try:
            json.loads(text, parse_constant=lambda c: 1 / 0)
            raw[text] = True
        except (ValueError, ZeroDivisionError):
            raw[text] = False
    schemas.append([{}, raw])
    parts = {"regex": regexes, "schemas": schemas,
             "random_regex": random_patterns(random.Random(8), 130),
             "random_schemas": random_schemas(random.Random(9), 220, validator_of)}
    GOLDEN.write_text(json.dumps({"made_with": "jsonschema 4.23.0, Python " + sys.version.split()[0],
                                  **parts}, ensure_ascii=False, separators=(",", ":")) + "\n")
    fits = [v for part in parts.values() for _, texts in part for v in texts.values()]
    print(f"{GOLDEN}: {len(fits)} texts, {sum(fits)} fit, {GOLDEN.stat().st_size} bytes")


def check(path):
    bad = total = 0
    for line in open(path, encoding="utf-8"):
        item = json.loads(line)
        total += 1
        try:
            problems = list(validator_of(item["schema"]).iter_errors(json.loads(item["text"])))
        except ValueError as e:
            problems = [e]
        if problems:
            bad += 1
            print(item["text"][:200], "->", str(problems[0])[:200])
    print(f"{total} texts, {bad} not valid")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1:2] == ["--check"] else main()
