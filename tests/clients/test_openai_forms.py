"""The official client's tools and structured outputs, and vLLM's forms of answers through extra_body."""
import json
import re

import openai
import pydantic
import pytest

from questions import CHAT, COMPLETION, STOP, WEATHER, Place

TOOLS = {"tools": [WEATHER, STOP]}
ROOMY = CHAT | {"max_tokens": 200}


def only_call(message):
    assert message.content is None
    (call,) = message.tool_calls
    assert call.type == "function" and call.id
    return call.function.name, json.loads(call.function.arguments)


def check_weather(arguments):
    assert arguments["city"] in ("Paris", "Rome") and isinstance(arguments["celsius"], bool)


def test_required(client):
    choice = client.chat.completions.create(**ROOMY, **TOOLS, tool_choice="required").choices[0]
    name, arguments = only_call(choice.message)
    assert choice.finish_reason == "tool_calls"
    if name == "get_weather":
        check_weather(arguments)
    else:
        assert name == "stop" and isinstance(arguments["now"], bool)


def test_named(client):
    named = {"type": "function", "function": {"name": "get_weather"}}
    choice = client.chat.completions.create(**ROOMY, **TOOLS, tool_choice=named).choices[0]
    name, arguments = only_call(choice.message)
    assert name == "get_weather"
    check_weather(arguments)
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**CHAT, **TOOLS,
                                       tool_choice={"type": "function", "function": {"name": "other"}})
    assert error.value.param == "tool_choice"


def test_none_and_auto(client):
    plain = client.chat.completions.create(**CHAT).choices[0].message.content
    none = client.chat.completions.create(**CHAT, **TOOLS, tool_choice="none").choices[0]
    assert none.message.content == plain and none.message.tool_calls is None
    auto = client.chat.completions.create(**CHAT, **TOOLS, tool_choice="auto").choices[0]
    assert auto.message.content or auto.message.tool_calls


def test_an_answer_that_is_a_call_is_read_as_one(client):
    """What a model that knows tools writes on its own is forced here by an expression."""
    call = {"guided_regex": r'\{"name": "get_weather", "parameters": \{"city": "(Paris|Rome)", "celsius": true\}\}'}
    choice = client.chat.completions.create(**ROOMY, **TOOLS, extra_body=call).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert only_call(choice.message)[0] == "get_weather"
    # Not one of ours: a text.
    other = {"guided_regex": r'\{"name": "get_time", "parameters": \{\}\}'}
    choice = client.chat.completions.create(**ROOMY, **TOOLS, extra_body=other).choices[0]
    assert choice.message.tool_calls is None and json.loads(choice.message.content)["name"] == "get_time"


def test_streamed_calls(client):
    whole = client.chat.completions.create(**ROOMY, **TOOLS, tool_choice="required").choices[0]
    with client.chat.completions.stream(**ROOMY, **TOOLS, tool_choice="required") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.done" in kinds
    assert final.finish_reason == "tool_calls"
    assert only_call(final.message) == only_call(whole.message)


def test_a_conversation_with_calls(client):
    first = client.chat.completions.create(**ROOMY, **TOOLS, tool_choice="required").choices[0].message
    messages = [*ROOMY["messages"], first,
                {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": '{"degrees": 21}'}]
    answer = client.chat.completions.create(**CHAT | {"messages": messages}, **TOOLS, tool_choice="none")
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens > client.chat.completions.create(**CHAT).usage.prompt_tokens


def test_pydantic_function_tools(client):
    class Move(pydantic.BaseModel):
        """Moves one step."""

        forward: bool

    answer = client.chat.completions.parse(**ROOMY, tools=[openai.pydantic_function_tool(Move)],
                                           tool_choice="required")
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Move)


def test_parse(client):
    answer = client.chat.completions.parse(**ROOMY, response_format=Place)
    place = answer.choices[0].message.parsed
    assert isinstance(place, Place) and answer.choices[0].finish_reason == "stop"
    assert Place.model_validate_json(answer.choices[0].message.content) == place
    if hasattr(client, "beta") and hasattr(client.beta, "chat"):
        assert client.beta.chat.completions.parse(**ROOMY, response_format=Place).choices[0].message.parsed == place


def test_parse_in_a_stream(client):
    with client.chat.completions.stream(**ROOMY, response_format=Place) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.parsed
    assert streamed == client.chat.completions.parse(**ROOMY, response_format=Place).choices[0].message.parsed


def test_a_form_that_is_cut_off(client):
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**CHAT | {"max_tokens": 3}, response_format=Place)


def test_json_schema_on_both_endpoints(client):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2]}},
              "required": ["ok", "n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    chat = client.chat.completions.create(**ROOMY, response_format=form).choices[0].message.content
    completion = client.completions.create(**COMPLETION | {"max_tokens": 100},
                                           extra_body={"response_format": form}).choices[0].text
    guided = client.completions.create(**COMPLETION | {"max_tokens": 100},
                                       extra_body={"guided_json": schema}).choices[0].text
    assert completion == guided
    for text in (chat, completion):
        read = json.loads(text)
        assert isinstance(read["ok"], bool) and read["n"] in (1, 2) and len(read) == 2


def test_json_object(client):
    ask = [{"role": "user", "content": 'Answer with {"city": "Paris"} and nothing else.'}]
    choice = client.chat.completions.create(**ROOMY | {"messages": ask, "max_tokens": 120},
                                            response_format={"type": "json_object"}).choices[0]
    assert choice.message.content.lstrip().startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)


def test_regex_and_choice(client):
    pattern = "[A-Z][a-z]{2,8}: [0-9]{3}"
    for body in ({"guided_regex": pattern}, {"structured_outputs": {"regex": pattern}}):
        text = client.completions.create(**COMPLETION, extra_body=body).choices[0].text
        assert re.fullmatch(pattern, text), text
    for body in ({"guided_choice": ["red", "green"]}, {"structured_outputs": {"choice": ["red", "green"]}}):
        choice = client.chat.completions.create(**CHAT, extra_body=body).choices[0]
        assert choice.message.content in ("red", "green") and choice.finish_reason == "stop"


@pytest.mark.parametrize("body, field", [
    ({"guided_regex": "(["}, "guided_regex"),
    ({"guided_regex": "a(?=b)"}, "guided_regex"),
    ({"guided_json": {"type": "object", "propertyNames": {"pattern": "a"}}}, "guided_json"),
    ({"guided_choice": []}, "guided_choice"),
    ({"guided_choice": ["a"], "guided_regex": "b"}, "guided_"),
])
def test_forms_that_are_refused(client, body, field):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(**COMPLETION, extra_body=body)
    assert error.value.param.startswith(field)


def test_pydantic_features(client):
    """What pydantic writes for nested and optional fields is understood."""
    class Inner(pydantic.BaseModel):
        yes: bool

    class Outer(pydantic.BaseModel):
        inner: Inner
        maybe: bool | None
        pair: tuple[bool, bool]
        few: list[Inner] = pydantic.Field(max_length=1)

    answer = client.chat.completions.create(
        **ROOMY, response_format={"type": "json_schema",
                                  "json_schema": {"name": "outer", "schema": Outer.model_json_schema()}})
    assert Outer.model_validate_json(answer.choices[0].message.content)
