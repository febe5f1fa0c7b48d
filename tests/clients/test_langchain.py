"""LangChain's ChatOpenAI: what applications call it with."""
import asyncio

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI

from questions import Place
from servers import NAME

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def model(server):
    return ChatOpenAI(model=NAME, base_url=server.url, api_key="none", temperature=0, max_tokens=24, max_retries=0,
                      timeout=60)


@tool
def get_weather(celsius: bool) -> str:
    """The weather here."""
    return "21" if celsius else "70"


def test_invoke(model):
    answer = model.invoke(QUESTION)
    assert "Paris" in answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"
    assert model.invoke([SystemMessage("You are brief."), HumanMessage(QUESTION)]).content


def test_stream(model):
    whole = model.invoke(QUESTION)
    chunks = list(model.stream(QUESTION))
    assert "".join(chunk.content for chunk in chunks) == whole.content and len(chunks) > 5
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    if total.usage_metadata:
        assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


def test_stream_with_usage(model):
    total = None
    for chunk in model.stream(QUESTION, stream_usage=True):
        total = chunk if total is None else total + chunk
    assert total.usage_metadata == model.invoke(QUESTION).usage_metadata | {
        "input_token_details": total.usage_metadata["input_token_details"]}


def test_async(model):
    async def ask():
        answer = await model.ainvoke(QUESTION)
        streamed = "".join([chunk.content async for chunk in model.astream(QUESTION)])
        several = await model.abatch([QUESTION, "Say hello"])
        return answer.content, streamed, several[0].content
    assert len(set(asyncio.run(ask()))) == 1


def test_batch_and_chain(model):
    answers = model.batch([QUESTION, "What is the capital of Spain?", QUESTION])
    assert answers[0].content == answers[2].content
    chain = ChatPromptTemplate([("system", "Be brief."), ("user", "What is the capital of {x}?")]) | model
    assert "Paris" in (chain | StrOutputParser()).invoke({"x": "France"})


def test_tools(model):
    roomy = model.bind(max_tokens=200)
    for choice in ("any", "required", "get_weather", True):
        asked = model.bind_tools([get_weather], tool_choice=choice).bind(max_tokens=200).invoke("How warm is it?")
        (call,) = asked.tool_calls
        assert call["name"] == "get_weather" and isinstance(call["args"]["celsius"], bool)
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    answer = roomy.invoke([HumanMessage("How warm is it?"), asked, result])
    assert isinstance(answer, AIMessage) and answer.content
    streamed = None
    for chunk in model.bind_tools([get_weather], tool_choice="any").bind(max_tokens=200).stream("How warm is it?"):
        streamed = chunk if streamed is None else streamed + chunk
    assert [(c["name"], c["args"]) for c in streamed.tool_calls] == [(c["name"], c["args"]) for c in asked.tool_calls]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(model, method):
    roomy = model.model_copy(update={"max_tokens": 200})
    place = roomy.with_structured_output(Place, method=method).invoke("Tell of Paris")
    assert isinstance(place, Place)
    both = roomy.with_structured_output(Place, method=method, include_raw=True).invoke("Tell of Paris")
    assert both["parsed"] == place and both["parsing_error"] is None


def test_logprobs(model):
    answer = model.bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    assert "".join(t["token"] for t in answer.response_metadata["logprobs"]["content"]).startswith(answer.content)


def test_completions(server):
    model = OpenAI(model=NAME, base_url=server.url, api_key="none", temperature=0, max_tokens=12, max_retries=0)
    assert "Paris" in model.invoke("The capital of France is")
    assert "".join(model.stream("The capital of France is")) == model.invoke("The capital of France is")
