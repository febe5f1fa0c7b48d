"""What schemathesis loads beside /openapi.json: requests are kept cheap and get past the rules between fields, which
the document has in words only, so that what is tested is the field that was generated. $SCHEMA_FORM names the one
form of answers (guided_regex, ...) that stays in the document; none does without it."""
import json
import os
import re

import jsonschema_rs
import schemathesis

FORMS = ("response_format", "guided_json", "guided_regex", "guided_choice", "structured_outputs")
FORM = os.environ.get("SCHEMA_FORM", "")
LIMITS = {"max_tokens": 3, "max_completion_tokens": 3, "n": 3, "best_of": 1, "min_tokens": 1}
IDS = 49152  # SmolLM2's vocabulary
CHUNKS = {"/v1/completions": "CompletionChunk", "/v1/chat/completions": "ChatChunk"}

# Refusals of bodies that are right by the schema. Everything else is a difference between document and server.
RULES = [
    r"^max_(completion_)?tokens is 0, not a whole number in 1\.\.",  # without echo
    r"^tool_choice forces a call, \S+ another form$",
    r"^(ignore_eos|min_tokens) does not go together with \S+$",
    r"^structured_outputs\.\w+ and structured_outputs\.\w+: an answer has one form$",
    r"^\d+ prompts times n \d+ are \d+ answers; \d+ are the most$",
    r"^the chat template: ",
    # What the grammar of a form does not know.
    r"^(guided_json|guided_regex|guided_choice|tool_choice): ",
    r"^(structured_outputs\.\w+|response_format\.json_schema\.schema): ",
    # The model's context and vocabulary.
    r"^a prompt of \d+ (tokens|and \d+ new tokens)",
    r"^tokens has \d+: the vocabulary's ids are 0\.\.\d+$",
]

# What random schemas are made of, so that some of them mean something.
SCHEMA = {
    "type": "object",
    "properties": {
        "type": {"enum": ["object", "array", "string", "integer", "number", "boolean", "null"]},
        "properties": {"type": "object", "additionalProperties": {"type": "object"}},
        "required": {"type": "array", "items": {"type": "string"}},
        "items": {"type": "object"},
        "enum": {"type": "array"},
        "minLength": {"type": "integer"},
        "maxItems": {"type": "integer"},
        "minimum": {"type": "number"},
        "exclusiveMaximum": {"type": "number"},
        "pattern": {"type": "string", "pattern": r"^[ab.*+?|()\[\]{}0-9,^$\\-]{0,12}$"},
        "format": {"enum": ["date", "time", "date-time", "uuid", "email"]},
    },
    "additionalProperties": False,
}
PATTERN = {"type": ["string", "null"], "pattern": r"^[ab .*+?|()\[\]{}0-9,^$\\dws-]{0,24}$"}

components = {}


def flatten(schemas, schema):
    """The boundary phase does not look into an "allOf"."""
    for alternative in schema.get("anyOf", []):
        flatten(schemas, alternative)
    fields = {}
    for base in schema.pop("allOf", []):
        fields.update(schemas[base["$ref"].rsplit("/", 1)[1]]["properties"])
    if fields:
        schema["properties"] = fields | schema["properties"]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    components.update(json.loads(json.dumps(raw_schema["components"])))
    schemas = raw_schema["components"]["schemas"]
    for name in ("CompletionRequest", "ChatRequest", "TokenizeRequest"):
        flatten(schemas, schemas[name])
    for name in ("CompletionRequest", "ChatRequest"):
        for form in FORMS:
            if form != FORM:
                del schemas[name]["properties"][form]
    if FORM == "guided_regex":
        for name in ("CompletionRequest", "ChatRequest"):
            schemas[name]["properties"][FORM] = PATTERN
    schemas["SchemaOfAnswer"] = SCHEMA
    call = schemas["EarlierCall"]["properties"]["function"]["properties"]
    call["arguments"] = {"anyOf": [{"type": ["object", "null"]}, {"enum": ["{}", '{"city": "Paris"}']}]}


def is_whole(value, least, most):
    return type(value) in (int, float) and least <= value <= most and value == int(value)


def usable_id(value):
    return int(value) % IDS if is_whole(value, 0, 2**31 - 1) else value


def usable_prompt(value):
    return [usable_prompt(item) for item in value] if isinstance(value, list) else usable_id(value)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Only values that are right are changed, into others that are."""
    body = case.body
    if case.operation.path not in CHUNKS or not isinstance(body, dict):
        return
    for field, most in LIMITS.items():
        if is_whole(body.get(field), most + 1, 128 if field in ("n", "best_of") else 2**53):
            body[field] = most
        if field.startswith("max_") and body.get(field) == 0 and body.get("echo") is not True:
            body[field] = most
    if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
        body["max_tokens"] = LIMITS["max_tokens"]
    if "prompt" in body:
        body["prompt"] = usable_prompt(body["prompt"])
    if isinstance(body.get("logit_bias"), dict):
        body["logit_bias"] = {
            str(int(key) % IDS) if re.fullmatch("[0-9]{1,9}", key) else key: value
            for key, value in body["logit_bias"].items()
        }
    if body.get("stream_options") is not None and body.get("stream") in (None, False):
        body["stream"] = True
    if body.get("top_logprobs") is not None and body.get("logprobs") in (None, False):
        body["logprobs"] = True
    if isinstance(body.get("tools"), (list, type(None))):
        body["tool_choice"] = usable_tool_choice(body.get("tool_choice"), body.get("tools"))
    if body.get(FORM) is not None:
        if is_whole(body.get("min_tokens"), 0, 2**53):
            body["min_tokens"] = 0
        if body.get("ignore_eos") is True:
            body["ignore_eos"] = False


def usable_tool_choice(choice, tools):
    """One that names a tool that is there, if it names one at all."""
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    is_named = isinstance(name, str) and name and choice.get("type") in ("function", None)
    if not tools:
        return "auto" if is_named or choice == "required" else choice
    first = tools[0].get("function") if isinstance(tools[0], dict) else None
    if is_named and isinstance(first, dict):
        function["name"] = first.get("name", name)
    return choice


def message_of(response):
    try:
        return response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return ""


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if "Schema-valid request rejected" in failure.title:
        return not any(re.search(rule, message_of(response), re.DOTALL) for rule in RULES)
    return not (FORM == "guided_regex" and "Value not matching" in failure.message)  # PATTERN is ours


@schemathesis.check
def events_conform(ctx, response, case):
    """Every event of a stream is a chunk, or the error that ended it."""
    if response.status_code != 200 or "event-stream" not in response.headers["content-type"][0]:
        return
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""], events[-2:]
    schema = {"$ref": "#/components/schemas/" + CHUNKS[case.operation.path], "components": components}
    chunk = jsonschema_rs.validator_for(schema)
    for event in events[:-2]:
        assert event.startswith("data: "), event
        chunk.validate(json.loads(event[len("data: "):]))
