"""Random regular expressions and JSON Schemas with texts near them, for make_grammar_goldens.py. They stay
within what both our grammar and the judges (Python's re, jsonschema) mean the same by:

* "$" is used where a text does not end in a newline: Python's matches before one, too.
* Members of objects come in the order of NAMES, as the schemas have them, then others.
* Objects with "properties" say "additionalProperties", and "oneOf" is judged as "anyOf".
"""
import json
import re
import signal
from contextlib import contextmanager
from re import _constants as ops  # the parser's own names
from re import _parser

SIGNS = "ab1- \n_é漢😀.Z"
NAMES = ["a", "b", "c", "ab", "é", 'q"', "n\n"]
MORE_NAMES = ["za", "zb"]


class TooSlow(Exception):
    pass


@contextmanager
def time_limit(seconds):
    """Python's re needs exponential time for some of these."""
    def stop(*_):
        raise TooSlow
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Patterns:
    def __init__(self, rng):
        self.rng = rng

    def one_class(self):
        rng = self.rng
        members = []
        for _ in range(rng.randint(1, 3)):
            kind = rng.random()
            if kind < .4:
                members.append(rng.choice("ab1_é漢😀Z"))
            elif kind < .6:
                members.append("-".join(sorted(rng.choices("abcxyz019AZéÿ漢", k=2))))
            elif kind < .8:
                members.append("\\" + rng.choice("dwsDWS"))
            else:
                members.append(rng.choice(["\\-", "\\]", "\\^", "\\\\", "\\n", "\\u00e9", "\\x20"]))
        return "[" + rng.choice(["", "", "^"]) + "".join(members) + rng.choice(["", "", "-"]) + "]"

    def atom(self, depth):
        kind = self.rng.random()
        if kind < .45 or depth <= 0:
            return re.escape(self.rng.choice(SIGNS))
        if kind < .55:
            return "."
        if kind < .65:
            return "\\" + self.rng.choice("dwsDWS")
        if kind < .8:
            return self.one_class()
        return self.rng.choice(["(", "(?:", "(?P<n%d>" % self.rng.randrange(10**9)]) + self.either(depth - 1) + ")"

    def repeated(self, depth):
        atom = self.atom(depth)
        if self.rng.random() < .6:
            return atom
        count = self.rng.choice(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{,2}", "{1,}", "{0}", "{2,}"])
        return atom + count + self.rng.choice(["", "", "", "?"])

    def either(self, depth):
        def sequence():
            return "".join(self.repeated(depth) for _ in range(self.rng.choice([0, 1, 1, 2, 2, 3, 3, 4])))
        return "|".join(sequence() for _ in range(self.rng.choice([1, 1, 1, 2, 2, 3])))

    def pattern(self):
        inside = self.either(2)
        kind = self.rng.random()
        if kind < .05:
            return f"(^{inside}|{self.either(1)}$)"
        return ("^" if kind < .2 else "") + inside + ("$" if .12 < kind < .3 else "")

    def text_of(self, parsed):
        """A text that likely matches."""
        rng = self.rng
        out = ""
        for op, value in parsed:
            if op is ops.LITERAL:
                out += chr(value)
            elif op is ops.BRANCH:
                out += self.text_of(rng.choice(value[1]))
            elif op is ops.SUBPATTERN:
                out += self.text_of(value[3])
            elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
                least, most, part = value
                for _ in range(rng.randint(least, min(most, least + 2))):
                    out += self.text_of(part)
            elif op is not ops.AT:
                out += rng.choice(SIGNS + "yx0")
        return out

    def case(self):
        """(pattern, compiled, texts), or None for a pattern that Python refuses."""
        rng = self.rng
        pattern = self.pattern()
        try:
            compiled = re.compile(pattern, re.ASCII)
        except re.error:
            return None
        texts = ["".join(rng.choice(SIGNS) for _ in range(rng.randint(0, 3))) for _ in range(2)]
        for _ in range(6):
            text = self.text_of(_parser.parse(pattern, re.ASCII))
            if text and rng.random() < .5:
                at = rng.randrange(len(text))
                text = text[:at] + rng.choice(["", rng.choice(SIGNS), text[at] * 2]) + text[at + 1:]
            texts.append(text)
        return pattern, compiled, [t for t in dict.fromkeys(texts)
                                   if len(t) < 40 and not ("$" in pattern and t.endswith("\n"))]


class Schemas:
    def __init__(self, rng):
        self.rng = rng

    def value(self, depth=1):
        kind = self.rng.random()
        if depth <= 0 or kind < .5:
            return self.rng.choice([None, True, False, 0, 1, -1, 10, 1.5, "", "a", "ab", "é漢", 'q"\\'])
        if kind < .75:
            return [self.value(depth - 1) for _ in range(self.rng.randint(0, 2))]
        return {n: self.value(depth - 1) for n in in_order(self.rng.sample(NAMES, self.rng.randint(0, 2)))}

    def number(self):
        schema = {"type": self.rng.choice(["integer", "number"])}
        if self.rng.random() < .6:
            schema[self.rng.choice(["minimum", "exclusiveMinimum"])] = self.rng.choice([0, 1, -3, -10, 0.5, -1.25, 99])
        if self.rng.random() < .6:
            schema[self.rng.choice(["maximum", "exclusiveMaximum"])] = self.rng.choice([0, 3, 10, 0.75, 2.5, 101, 1000])
        return schema

    def string(self):
        schema = {"type": "string"}
        if self.rng.random() < .5:
            schema["minLength"] = self.rng.randint(0, 3)
        if self.rng.random() < .5:
            schema["maxLength"] = self.rng.randint(0, 4)
        if self.rng.random() < .35:
            schema["pattern"] = self.rng.choice(["^a", "b$", "^[ab]*$", "^.{1,3}$", "a|é", "^(ab|c)+$", "[^a]",
                                                 "^[a-zé]{0,12}$", "^.{9,12}$"])
        return schema

    def array(self, depth, names):
        rng = self.rng
        schema = {"type": "array"}
        if rng.random() < .8:
            schema["items"] = self.schema(depth - 1, names)
        if rng.random() < .35:
            schema["prefixItems"] = [self.schema(depth - 1, names) for _ in range(rng.randint(1, 2))]
            schema.setdefault("items", rng.choice([True, False]))
        if rng.random() < .4:
            schema["minItems"] = rng.randint(0, 3)
        if rng.random() < .4:
            schema["maxItems"] = rng.randint(0, 4)
        return schema

    def object(self, depth, names):
        rng = self.rng
        properties = in_order(rng.sample(NAMES, rng.randint(0, 3)))
        schema = {"type": rng.choice(["object", "object", ["object", "null"]]),
                  "properties": {n: self.schema(depth - 1, names) for n in properties},
                  "additionalProperties": rng.choice([False, False, True, self.schema(depth - 1, names)])}
        if rng.random() < .6:
            pool = properties if schema["additionalProperties"] is False else properties + MORE_NAMES
            schema["required"] = [n for n in pool if rng.random() < .5]
        return schema

    def schema(self, depth, names):
        rng = self.rng
        kind = rng.random() * (.55 if depth <= 0 else 1)
        if kind < .05:
            return rng.choice([True, {}, {"type": "null"}, {"type": "boolean"}])
        if kind < .2:
            return self.number()
        if kind < .32:
            return self.string()
        if kind < .43:
            schema = {"enum": [self.value() for _ in range(rng.randint(1, 3))]}
            if rng.random() < .25:
                schema["type"] = rng.choice(["string", "integer", "number", ["string", "null"]])
            return schema
        if kind < .46:
            return {"const": self.value()}
        if kind < .55:
            if names:
                return {"$ref": "#/$defs/" + rng.choice(names)}
            return {"type": rng.sample(["string", "integer", "null", "boolean", "array", "object"], 2)}
        if kind < .68:
            return self.array(depth, names)
        if kind < .83:
            return self.object(depth, names)
        if kind < .9:
            schema = {rng.choice(["anyOf", "oneOf"]): [self.schema(depth - 1, names) for _ in range(rng.randint(1, 3))]}
            if rng.random() < .3:
                schema.update(rng.choice([self.number, self.string])())
            return schema
        return {"allOf": [self.schema(depth - 1, names) for _ in range(2)]}

    def root(self):
        rng = self.rng
        names = ["d%d" % i for i in range(rng.choice([0, 0, 0, 1, 2]))]
        schema = self.schema(rng.choice([1, 1, 2, 2]), names)
        if names and isinstance(schema, dict):
            schema = {**schema, "$defs": {n: self.schema(1, names) for n in names}}
        return schema

    def instance(self, schema, root, depth=6):
        """A value that likely fits."""
        rng = self.rng
        if not isinstance(schema, dict) or not schema or depth <= 0:
            return self.value()
        if "$ref" in schema:
            return self.instance(root["$defs"][schema["$ref"].split("/")[-1]], root, depth - 1)
        if "const" in schema:
            return schema["const"]
        for key in ("enum", "anyOf", "oneOf", "allOf"):
            if key in schema:
                one = rng.choice(schema[key])
                return one if key == "enum" else self.instance(one, root, depth - 1)
        kind = schema.get("type")
        kind = rng.choice(kind) if isinstance(kind, list) else kind
        if kind == "string":
            if "pattern" in schema:
                return rng.choice(["a", "ab", "abc", "c", "cab", "aé", "bb", "aaab", "é", "", "\na", "abcdefghi"])
            least = schema.get("minLength", 0)
            size = rng.choice([least, schema.get("maxLength", least + 3), max(least - 1, 0)])
            return "".join(rng.choice('abé漢"\\/') for _ in range(size))
        if kind in ("integer", "number"):
            least = schema.get("minimum", schema.get("exclusiveMinimum", -20))
            most = schema.get("maximum", schema.get("exclusiveMaximum", least + 30))
            number = rng.choice([least, most, least + 1, most - 1, least + 0.25, most - 0.125, most + 1, least - 1])
            return int(number) if kind == "integer" or rng.random() < .5 else number
        if kind == "array":
            least = schema.get("minItems", 0)
            prefix = schema.get("prefixItems", [])
            return [self.instance(prefix[i] if i < len(prefix) else schema.get("items", True), root, depth - 1)
                    for i in range(rng.choice([least, least + 1, schema.get("maxItems", least + 2)]))]
        if kind == "object":
            wanted = [n for n in schema.get("properties", {}) if n in schema.get("required", []) or rng.random() < .5]
            wanted += [n for n in MORE_NAMES if n in schema.get("required", []) or rng.random() < .2]
            others = schema.get("additionalProperties", True)
            return {n: self.instance(schema.get("properties", {}).get(n, others), root, depth - 1) for n in wanted}
        return {"null": None, "boolean": True}.get(kind, self.value())

    def changed(self, value):
        rng = self.rng
        if isinstance(value, list) and value:
            at = rng.randrange(len(value))
            return value[:at] + rng.choice([[], [self.value()], [self.changed(value[at])]]) + value[at + 1:]
        if isinstance(value, dict) and value:
            name = rng.choice(list(value))
            if rng.random() < .4:
                return {n: v for n, v in value.items() if n != name}
            return {**value, name: self.changed(value[name])}
        if isinstance(value, str) and value:
            return rng.choice([value[:-1], value + "é"])
        return self.value()

    def case(self):
        """(schema, the schema for the judge, values)"""
        schema = self.root()
        values = []
        for _ in range(8):
            value = self.instance(schema, schema)
            if self.rng.random() < .4:
                value = self.changed(value)
            if not whole_floats(value) and not any(disordered(value, s) for s in objects_of(schema)):
                values.append(value)
        return schema, any_for_one(schema), values


def in_order(names):
    return sorted(names, key=NAMES.index)


def whole_floats(value):
    """1.0 is an integer in JSON Schema; ours writes integers without a point."""
    if isinstance(value, (list, dict)):
        return any(map(whole_floats, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value == int(value)


def objects_of(schema):
    if isinstance(schema, list):
        for member in schema:
            yield from objects_of(member)
    elif isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for key, member in schema.items():
            if key not in ("enum", "const"):
                yield from objects_of(member)


def disordered(value, schema):
    """Whether some object in the value has this schema's names in another order, or behind others."""
    if isinstance(value, list):
        return any(disordered(v, schema) for v in value)
    if not isinstance(value, dict):
        return False
    order = list(schema["properties"]) + [n for n in MORE_NAMES if n in schema.get("required", [])]
    have = [n for n in order if n in value]
    return list(value)[:len(have)] != have or any(disordered(v, schema) for v in value.values())


def any_for_one(schema):
    if isinstance(schema, list):
        return [any_for_one(s) for s in schema]
    if isinstance(schema, dict):
        return {"anyOf" if k == "oneOf" else k: any_for_one(v) for k, v in schema.items()}
    return schema


def random_patterns(rng, count):
    """[pattern, {text: whether the whole of it matches}]"""
    maker = Patterns(rng)
    cases = []
    while len(cases) < count:
        case = maker.case()
        try:
            with time_limit(0.2):
                if case and len(case[0]) < 80:
                    cases.append([case[0], {t: case[1].fullmatch(t) is not None for t in case[2]}])
        except TooSlow:
            pass
    return cases


def random_schemas(rng, count, validator_of):
    """[schema, {text of JSON: whether it is valid}]; a third has one of the patterns above."""
    patterns, schemas = Patterns(rng), Schemas(rng)
    cases = []
    while len(cases) < count:
        if rng.random() < .3:
            case = patterns.case()
            if case is None or len(case[0]) > 80:
                continue
            schema = judged = {"type": "string", "pattern": case[0]}
            verdict, values = case[1].search, case[2]
        else:
            schema, judged, values = schemas.case()
            verdict = validator_of(judged).is_valid
        texts = {}
        try:
            with time_limit(0.2):
                for value in values:
                    spaces = rng.choice([None, (",", ":")])
                    text = json.dumps(value, ensure_ascii=False, separators=spaces)
                    if len(text) < 120:
                        texts[text] = bool(verdict(value))
        except (TooSlow, RecursionError):  # "$ref" to itself
            continue
        if texts and len(json.dumps(schema)) < 500:
            cases.append([schema, texts])
    return cases
