"""What the tests ask for: a question, and forms that the small model completes in few tokens."""
import enum
import typing

import pydantic

from servers import NAME

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
CHAT = {"model": NAME, "messages": MESSAGES, "temperature": 0, "max_tokens": 24}
COMPLETION = {"model": NAME, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 12}


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Place(pydantic.BaseModel):
    """Every field ends by itself, so that an answer is complete whatever the model thinks of it."""

    is_city: bool
    size: Size
    rivers: int = pydantic.Field(ge=0, le=99)
    country: typing.Literal["France", "Spain"]


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "celsius": {"type": "boolean"}},
            "required": ["city", "celsius"],
            "additionalProperties": False,
        },
    },
}
STOP = {
    "type": "function",
    "function": {
        "name": "stop",
        "parameters": {
            "type": "object",
            "properties": {"now": {"type": "boolean"}},
            "required": ["now"],
            "additionalProperties": False,
        },
    },
}
