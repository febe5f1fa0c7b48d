"""The official client's streams, plain and asynchronous, and its helper for them."""
import asyncio

import httpx
import openai
import pytest

from conftest import ONCE
from questions import CHAT, COMPLETION

USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def run(coroutine_function, server):
    """Runs it with an asynchronous client of its own."""
    async def with_client():
        async with openai.AsyncOpenAI(base_url=server.url, **ONCE) as client:
            return await coroutine_function(client)
    return asyncio.run(with_client())


def test_chat(client):
    whole = client.chat.completions.create(**CHAT)
    chunks = list(client.chat.completions.create(**CHAT, **USAGE))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks[:-1]]
    assert reasons[-1] == "stop" and not any(reasons[:-1])
    assert chunks[-1].choices == [] and all(c.usage is None for c in chunks[:-1])
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert len({(c.id, c.created, c.object) for c in chunks}) == 1


def test_completion_with_several_choices(client):
    ask = COMPLETION | {"n": 2, "temperature": 1, "seed": 4, "prompt": ["One two", "A B C"]}
    whole = client.completions.create(**ask)
    texts = ["", "", "", ""]
    for chunk in client.completions.create(**ask, stream=True):
        assert chunk.usage is None
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]


def test_logprobs(client):
    ask = CHAT | {"logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**ask).choices[0].logprobs.content
    streamed = []
    for chunk in client.chat.completions.create(**ask, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert streamed == whole


def test_stop_strings_are_never_shown(client):
    whole = client.chat.completions.create(**CHAT).choices[0].message.content
    stop = whole[5:12]
    text = ""
    for chunk in client.chat.completions.create(**CHAT, stop=stop, stream=True):
        text += chunk.choices[0].delta.content or ""
    assert text == whole[:whole.index(stop)]


def test_an_invalid_request_is_refused_before_the_stream(client):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**CHAT | {"temperature": 9}, stream=True)


def test_a_closed_stream_is_cancelled(client, server):
    stream = client.completions.create(**COMPLETION | {"max_tokens": 8000}, stream=True,
                                       extra_body={"ignore_eos": True})
    for _, _ in zip(range(3), stream):
        pass
    stream.close()
    with httpx.Client() as plain:
        assert server.becomes_idle(plain)


def test_helper(client):
    whole = client.chat.completions.create(**CHAT)
    kinds = []
    with client.chat.completions.stream(**CHAT, stream_options={"include_usage": True}) as stream:
        for event in stream:
            kinds.append(event.type)
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.usage.completion_tokens == whole.usage.completion_tokens
    assert kinds.count("content.done") == 1 and kinds.count("content.delta") > 5


def test_async(client, server):
    whole = client.chat.completions.create(**CHAT).choices[0].message.content

    async def all_kinds(client):
        answer = await client.chat.completions.create(**CHAT)
        text = ""
        async for chunk in await client.chat.completions.create(**CHAT, stream=True):
            text += chunk.choices[0].delta.content or ""
        async with client.chat.completions.stream(**CHAT) as stream:
            async for _ in stream:
                pass
            final = await stream.get_final_completion()
        models = [model.id async for model in client.models.list()]
        return [answer.choices[0].message.content, text, final.choices[0].message.content], models

    texts, models = run(all_kinds, server)
    assert texts == [whole] * 3 and len(models) == 1


def test_many_at_once_are_those_of_one_at_a_time(client, server):
    asks = [CHAT | {"messages": [{"role": "user", "content": f"Count from {i}"}], "seed": i, "temperature": 1}
            for i in range(24)]

    async def joined(client, ask):
        text = ""
        async for chunk in await client.chat.completions.create(**ask, stream=True):
            text += chunk.choices[0].delta.content or ""
        return text

    async def at_once(client):
        return await asyncio.gather(*(joined(client, ask) for ask in asks))

    together = run(at_once, server)
    for ask, text in list(zip(asks, together))[::6]:
        assert client.chat.completions.create(**ask).choices[0].message.content == text


def test_a_cancelled_task_is_cancelled_in_the_server(server):
    async def cancel(client):
        task = asyncio.create_task(client.completions.create(
            **COMPLETION | {"max_tokens": 8000}, extra_body={"ignore_eos": True}))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel, server)
    with httpx.Client() as plain:
        assert server.becomes_idle(plain)
