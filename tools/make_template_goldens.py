"""Renders tests/golden/templates/*.jinja, chat templates in the forms of much used models, with the real
Jinja2, set up as Hugging Face's apply_chat_template sets it up, over many conversations, and writes
tests/golden/templates.json.

    python3 -m venv v && v/bin/pip install jinja2==3.1.6 && v/bin/python tools/make_template_goldens.py

A case is [template, input, text], or [template, input, null, line, message] where Jinja2 raises: then
`line` is the template's line and `message` the one of raise_exception (null for other failures).
Inputs that give the text of an earlier input of the same template are left out.
"""

import hashlib
import json
import pathlib
import re
import sys
import traceback

import jinja2

from make_jinja_goldens import NOW, environment

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The special tokens that each template is rendered with.
TOKENS = {
    "llama-3.2": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama-4": ("<|begin_of_text|>", "<|eot|>"),
    "gemma-2": ("<bos>", "<eos>"),
    "gemma-3": ("<bos>", "<eos>"),
    "phi-3": ("<s>", "<|endoftext|>"),
    "deepseek-r1": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "command-r": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "olmo-2": ("<|endoftext|>", "<|endoftext|>"),
    "hermes-3": ("<|begin_of_text|>", "<|im_end|>"),
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place; \"now\" <or> later & more.\nSecond line: é 日本 😀 \u2028 \\ end",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": " City, e.g. Zürich "},
                "unit": {"type": "string", "enum": ["C", "F", "it's \"K\""], "default": "C"},
                "days": {"type": "integer", "default": 1, "minimum": -1, "maximum": 1e22},
                "ratio": {"type": "number", "minimum": 0.1, "default": 1.0},
                "flags": {"type": "array", "items": {"type": "boolean"}},
                "where": {
                    "type": "object",
                    "description": "A place",
                    "properties": {"lat": {"type": "number"}, "lon": {"type": ["number", "null"], "nullable": True}},
                    "required": ["lat"],
                },
                "any": {"type": ["string", "integer"], "description": "both"},
                "extra": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
                "choice": {"oneOf": [{"type": "string", "description": "a name"}, {"type": "integer"}]},
            },
            "required": ["city"],
        },
        "return": {"type": "object"},
    },
}
NO_PARAMETERS = {
    "type": "function",
    "function": {"name": "ask_time", "description": "", "parameters": {"type": "object", "properties": {}}},
}
MINIMAL = {"type": "function", "function": {"name": "a", "description": "A.", "parameters": {
    "type": "object", "properties": {"x": {"type": "string"}, "list": {"type": "array"}}, "required": ["x", "list"]}}}

NESTED = {"city": "Zürich 'n \"Bern\" </tool_call>", "deep": {"a": [1, 2.5, -0.0, 1e-7, 1e16, 123456789.125, None, True, {}],
          "b": {"c": {"d": []}}}, "empty": "", "line": "a\nb\t\\ \u2029 \x7f 😀", "big": 9007199254740993}


def user(content):
    return {"role": "user", "content": content}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def calls(*functions, content=None, **more):
    made = [{"id": f"call{i:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(functions)]
    return {"role": "assistant", "content": content, "tool_calls": made, **more}


def result(content, number=0, **more):
    return {"role": "tool", "tool_call_id": f"call{number:05d}", "name": "get_weather", "content": content, **more}


HI = [user("Hi")]
TWO_ROUNDS = [system("Be nice."), user("Hi"), assistant("Hello!"), user("Go on")]
ONE_CALL = [user("Weather?"), calls(("get_weather", {"city": "Bern", "days": 2})), result("sunny")]
THINKING = "<think>\nhm, 1 < 2\n</think>\n\nYes"
PARTS = [{"type": "text", "text": " What is "}, {"type": "image"}, {"type": "text", "text": "this? "}]

INPUTS = {
    "user": {"messages": HI},
    "user, no prompt": {"messages": HI, "add_generation_prompt": False},
    "system": {"messages": [system(" You are terse. \n"), user("Hi")]},
    "system, empty": {"messages": [system(""), user("Hi")]},
    "system alone": {"messages": [system("Only rules")]},
    "system twice": {"messages": [system("One"), system("Two"), user("Hi"), system("Three")]},
    "system in parts": {"messages": [system([{"type": "text", "text": "Rules"}]), user("Hi")]},
    "developer": {"messages": [{"role": "developer", "content": "Rules"}, user("Hi")]},
    "rounds": {"messages": TWO_ROUNDS},
    "rounds, no prompt": {"messages": TWO_ROUNDS + [assistant("Sure")], "add_generation_prompt": False},
    "ends with assistant": {"messages": [user("Hi"), assistant("Hel")]},
    "user twice": {"messages": [user("a"), user("b")]},
    "assistant first": {"messages": [assistant("I begin"), user("ok")]},
    "unknown role": {"messages": [user("a"), {"role": "critic", "content": "no"}, user("b")]},
    "no role": {"messages": [{"content": "who?"}]},
    "no content": {"messages": [{"role": "user"}]},
    "null content": {"messages": [user("a"), assistant(None), user("b")]},
    "empty": {"messages": [user(""), assistant(""), user("")]},
    "nothing": {"messages": []},
    "blanks": {"messages": [user(" \u00a0\u3000\n\t a \x0b\u2028\x1c"), assistant("\n\n b \n"), user("\u200b c \ufeff")]},
    "unicode": {"messages": [system("Ünï — “ß”"), user("日本語 😀👩‍👩‍👧 e\u0301 \u202eabc"), assistant("Привет\r\nмир\r"), user("ŉǰ ΑΣ İ")]},
    "markup": {"messages": [user("{{ 7 * 7 }} {% if x %} {# c #} <|im_end|> </s> &amp; \\n 'a' \"b\"")]},
    "newlines": {"messages": [user("\na\n"), assistant("\n\nb\n\n"), user("c\n\n")]},
    "thinking": {"messages": [user("a"), assistant(THINKING), user("b"), assistant(THINKING)], "add_generation_prompt": False},
    "thinking, kept apart": {"messages": [user("a"), assistant("Yes", reasoning_content="\nhm\n", thinking="hm")],
                             "add_generation_prompt": False},
    "thinking off": {"messages": HI, "extra": {"enable_thinking": False, "thinking": True}},
    "thinking by words": {"messages": [system("Be quick. /no_think  "), user("Hi"), assistant("\nok"), user("b")]},
    "override": {"messages": [system("Mine. /system_override"), user("Hi")]},
    "parts": {"messages": [user(PARTS), assistant([{"type": "text", "text": "A cat"}]), user([{"type": "text", "text": "Sure?"}])]},
    "parts, unknown": {"messages": [user([{"type": "audio", "audio": "x"}, {"type": "text", "text": "t"}])]},
    "parts, empty": {"messages": [user([])]},
    "number as content": {"messages": [user(5), assistant(2.5), user(True)]},
    "tools": {"messages": HI, "tools": [WEATHER, NO_PARAMETERS]},
    "tools, system": {"messages": TWO_ROUNDS, "tools": [MINIMAL]},
    "tools, system, outside": {"messages": TWO_ROUNDS, "tools": [MINIMAL, NO_PARAMETERS], "extra": {"tools_in_user_message": False}},
    "tools, none": {"messages": HI, "tools": []},
    "tools, no user": {"messages": [system("Rules")], "tools": [MINIMAL]},
    "tools of another kind": {"messages": HI, "extra": {"custom_tools": [MINIMAL], "xml_tools": [MINIMAL], "python_tools": [NO_PARAMETERS]}},
    "call": {"messages": ONE_CALL, "tools": [MINIMAL]},
    "call, open": {"messages": ONE_CALL[:2], "tools": [MINIMAL], "add_generation_prompt": False},
    "call, answered": {"messages": ONE_CALL + [assistant("Sunny."), user("Thanks")], "tools": [MINIMAL]},
    "call with text": {"messages": [user("?"), calls(("f", {}), content="Let me see.", thinking="so"), result("1"), assistant("One")]},
    "call with empty text": {"messages": [user("?"), calls(("f", {"x": 1}), content=""), result("1")]},
    "call with texts": {"messages": [user("?"), calls(("f", '{"x": 1}'), ("g", "{}")), result("1"), result("2", 1)]},
    "calls, nested": {"messages": [user("?"), calls(("f", NESTED), ("g", {})), result("one"), result("two", 1), assistant("Done")]},
    "call ids": {"messages": [user("?"), {**calls(("f", {})), "tool_calls": [{"id": "x", "type": "function", "function":
                 {"name": "f", "arguments": {}}}]}, {"role": "tool", "tool_call_id": "x", "content": "1"}]},
    "call without function": {"messages": [user("?"), {"role": "assistant", "content": None, "tool_calls":
                              [{"name": "f", "arguments": {"a": "b"}}]}, result("1")]},
    "results in forms": {"messages": [user("?"), calls(("f", {})), result({"temp": 21.5, "ok": True, "none": None}),
                         calls(("f", {})), result([{"type": "text", "text": "x y"}, {"type": "text", "text": "é"}])]},
    "result first": {"messages": [result("nobody asked")]},
    "result quoted": {"messages": [user("<tool_response>\nx\n</tool_response>"), user("q"), assistant("<think>a</think>b"),
                      user("<tool_response>\ny\n</tool_response>")]},
    "documents": {"messages": [system("Use them."), user("Who?")], "documents": [
        {"doc_id": 7, "title": "One", "text": " First\nline "}, {"title": "Two", "text": "Zwei", "none": None, "n": 1.5}]},
    "documents, tools": {"messages": HI, "tools": [MINIMAL], "documents": [{"text": "x"}]},
    "date": {"messages": HI, "tools": [MINIMAL], "extra": {"date_string": "1 Jan 2000"}},
    "settings": {"messages": HI, "extra": {"controls": {"length": "short", "b": True}, "reasoning_effort": "high",
                 "model_identity": "You are X.", "enable_thinking": True}},
}


def asks_for_none(source):
    """Whether the template tells a content of none apart from no content, as ChatTemplate sees it."""
    return re.search(r"content['\"\])]*\s+(is\s+(not\s+)?|==\s*|!=\s*)[nN]one\b", source) is not None


def variables_of(chat, source, tokens, texts=False):
    """What ChatTemplate::render hands to the template; `chat` is one of INPUTS."""
    keeps = asks_for_none(source)
    messages = [{key: value for key, value in message.items() if value is not None or (keeps and key == "content")}
                for message in json.loads(json.dumps(chat["messages"]))]
    for message in messages if texts else []:
        for call in message.get("tool_calls", []):
            if "function" in call and isinstance(call["function"]["arguments"], dict):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return {"messages": messages, "tools": chat.get("tools"), "documents": chat.get("documents"),
            "add_generation_prompt": chat.get("add_generation_prompt", True),
            "bos_token": tokens[0], "eos_token": tokens[1], **chat.get("extra", {})}


def render(compiled, variables):
    """(text, None, None) or (None, line of the template, message of raise_exception)."""
    try:
        # A copy by JSON: what the C++ side reads.
        return compiled.render(**json.loads(json.dumps(variables))), None, None
    except Exception as failure:  # noqa: BLE001: whatever Jinja2 or Python raise is a refusal
        frames = [f for f in traceback.extract_tb(failure.__traceback__) if f.filename == "<template>"]
        said = failure.message if type(failure) is jinja2.exceptions.TemplateError else None
        return None, frames[-1].lineno if frames else 0, said


def main():
    templates = sorted((ROOT / "tests/golden/templates").glob("*.jinja"))
    golden = {"jinja2": jinja2.__version__, "now": NOW.isoformat(), "inputs": INPUTS, "tokens": {}, "cases": []}
    refusals = 0
    for path in templates:
        name, source = path.stem, path.read_text()
        tokens = TOKENS.get(name, ("<s>", "</s>"))
        golden["tokens"][name] = tokens
        compiled = environment().from_string(source)
        seen = set()
        for key, chat in INPUTS.items():
            text, line, said = render(compiled, variables_of(chat, source, tokens))
            if text is None:
                # ChatTemplate tries again with the arguments of calls as texts.
                text = render(compiled, variables_of(chat, source, tokens, texts=True))[0]
            refusals += text is None
            outcome = hashlib.sha256(repr((text, line, said)).encode()).digest()
            if outcome in seen:
                continue
            seen.add(outcome)
            golden["cases"].append([name, key, text] if text is not None else [name, key, None, line, said])
    cases = golden.pop("cases")
    out = json.dumps(golden, indent=0)[:-2] + ',\n"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]\n}\n"
    (ROOT / "tests/golden/templates.json").write_text(out)
    print(f"{len(templates)} templates, {len(cases)} cases, {sum(c[2] is None for c in cases)} refusals, {len(out)} bytes")


if __name__ == "__main__":
    sys.exit(main())
