"""The official client, one request at a time: answers, their fields, and errors as its exceptions."""
import json
import math

import httpx
import openai
import pytest

from conftest import ONCE
from questions import CHAT, COMPLETION
from servers import NAME, Server


def test_chat(client):
    answer = client.chat.completions.create(**CHAT)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion" and answer.model == NAME
    assert answer.id.startswith("chatcmpl-")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id and answer._request_id in answer.id
    assert client.chat.completions.create(**CHAT).choices == answer.choices


def test_contents_as_parts_and_newer_names(client):
    parts = [{"role": "developer", "content": "Be brief."},
             {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]
    plain = [{"role": "system", "content": "Be brief."},
             {"role": "user", "content": "What is the capital of France?"}]
    newer = {key: value for key, value in CHAT.items() if key != "max_tokens"} | {"max_completion_tokens": 5}
    one = client.chat.completions.create(**newer | {"messages": parts})
    other = client.chat.completions.create(**newer | {"messages": plain})
    assert one.choices == other.choices and one.usage.prompt_tokens == other.usage.prompt_tokens
    assert one.usage.completion_tokens == 5 and one.choices[0].finish_reason == "length"


def test_fields_of_openai_that_mean_nothing_here(client):
    answer = client.chat.completions.create(
        **CHAT, user="u", store=False, metadata={"a": "b"}, service_tier="auto", parallel_tool_calls=False,
        extra_headers={"X-Some": "thing"}, extra_query={"api-version": "1"})
    assert answer.choices == client.chat.completions.create(**CHAT).choices


def test_completion(client):
    answer = client.completions.create(**COMPLETION)
    assert "Paris" in answer.choices[0].text
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert answer.usage.completion_tokens == 12 and answer.choices[0].finish_reason == "length"


def test_prompts_in_every_form(client, server):
    texts = ["The capital of France is", "One two three"]
    ids = [httpx.post(server.root + "/tokenize", json={"prompt": text}).json()["tokens"] for text in texts]
    by_text = client.completions.create(**COMPLETION | {"prompt": texts})
    by_ids = client.completions.create(**COMPLETION | {"prompt": ids})
    assert [c.text for c in by_text.choices] == [c.text for c in by_ids.choices]
    assert [c.index for c in by_text.choices] == [0, 1]
    assert client.completions.create(**COMPLETION | {"prompt": ids[1]}).choices[0].text == by_text.choices[1].text


def test_choices_and_seeds(client):
    ask = COMPLETION | {"temperature": 1, "seed": 11, "n": 3}
    texts = [choice.text for choice in client.completions.create(**ask).choices]
    assert len(set(texts)) == 3
    assert texts == [choice.text for choice in client.completions.create(**ask).choices]
    # A choice has the seed of the one before it plus one.
    assert client.completions.create(**ask | {"seed": 13, "n": 1}).choices[0].text == texts[2]
    unseeded = COMPLETION | {"temperature": 1, "max_tokens": 24}
    assert len({client.completions.create(**unseeded).choices[0].text for _ in range(3)}) > 1


def test_stop_strings(client):
    whole = client.completions.create(**COMPLETION).choices[0].text
    stop = whole[3:7]
    for stops in (stop, ["%none%", stop]):
        cut = client.completions.create(**COMPLETION, stop=stops)
        assert cut.choices[0].text == whole[:whole.index(stop)]
        assert cut.choices[0].finish_reason == "stop"


def test_logit_bias_and_penalties(client, server):
    token = httpx.post(server.root + "/tokenize", json={"prompt": " blue"}).json()["tokens"]
    assert len(token) == 1
    forced = client.completions.create(**COMPLETION | {"max_tokens": 2}, logit_bias={str(token[0]): 100})
    assert forced.choices[0].text == " blue blue"
    free = client.completions.create(**COMPLETION | {"max_tokens": 4}, logit_bias={str(token[0]): 40},
                                     frequency_penalty=2, presence_penalty=2)
    assert free.choices[0].text.startswith(" blue")


def test_chat_logprobs(client):
    answer = client.chat.completions.create(**CHAT | {"max_tokens": 6}, logprobs=True, top_logprobs=4)
    content = answer.choices[0].logprobs.content
    assert len(content) == 6
    assert "".join(token.token for token in content) == answer.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 4 and token.top_logprobs[0].token == token.token
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1.0001
        assert bytes(token.bytes).decode() == token.token


def test_completion_logprobs_and_echo(client):
    answer = client.completions.create(**COMPLETION | {"max_tokens": 3}, logprobs=2, echo=True)
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text.startswith(COMPLETION["prompt"])
    assert len(logprobs.tokens) == answer.usage.total_tokens
    assert logprobs.token_logprobs[0] is None and all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert [answer.choices[0].text[at:].startswith(token) for at, token in
            zip(logprobs.text_offset, logprobs.tokens)] == [True] * len(logprobs.tokens)


def test_models(client):
    models = client.models.list().data
    assert [model.id for model in models] == [NAME]
    assert client.models.retrieve(NAME) == models[0]
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-4o")
    assert error.value.body["param"] == "model"


@pytest.mark.parametrize("field, value", [
    ("temperature", 3), ("top_p", -1), ("n", 0), ("stop", ""), ("logit_bias", {"1": 101}),
    ("max_tokens", 0), ("seed", "x"), ("stream_options", {"include_usage": True}),
    ("response_format", {"type": "xml"}), ("tools", [{"type": "function"}]), ("messages", []),
])
def test_refusals_name_the_field(client, field, value):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**CHAT | {field: value})
    assert error.value.status_code == 400
    assert error.value.body["type"] == "invalid_request_error"
    assert error.value.body["param"].startswith(field)


def test_a_prompt_that_is_too_long(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(**COMPLETION | {"prompt": [100] * 9000})
    assert error.value.code == "context_length_exceeded"
    assert "9000" in error.value.message and "8192" in error.value.message


def test_unknown_model_and_paths(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(**CHAT | {"model": "gpt-4o"})
    assert error.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=NAME, input="x")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=NAME, input="x")


def test_keys():
    with Server("keyed", "--api-key", "secret", "--max-users", "2") as keyed:
        for key in ("wrong", "secret2"):
            with openai.OpenAI(base_url=keyed.url, **ONCE | {"api_key": key}) as client:
                with pytest.raises(openai.AuthenticationError) as error:
                    client.models.list()
                assert error.value.code == "invalid_api_key"
        with openai.OpenAI(base_url=keyed.url, **ONCE | {"api_key": "secret"}) as client:
            assert "Paris" in client.chat.completions.create(**CHAT).choices[0].message.content
        assert httpx.get(keyed.root + "/health").status_code == 200
        assert "/v1/completions" in httpx.get(keyed.root + "/openapi.json").json()["paths"]
    statuses = [json.loads(line)["status"] for line in keyed.access_log.read_text().splitlines()]
    assert statuses == [401, 401, 200, 200, 200]


def test_a_busy_server_is_tried_again():
    """The client comes back after Retry-After by itself."""
    with Server("busy", "--max-users", "1", "--max-waiting", "1") as busy:
        with openai.OpenAI(base_url=busy.url, **ONCE | {"max_retries": 30}) as client:
            streams = [client.completions.create(**COMPLETION | {"max_tokens": 100}, stream=True,
                                                 extra_body={"ignore_eos": True}) for _ in range(2)]
            assert "Paris" in client.chat.completions.create(**CHAT).choices[0].message.content
            for stream in streams:
                assert len(list(stream)) > 50
    assert 429 in [json.loads(line)["status"] for line in busy.access_log.read_text().splitlines()]
