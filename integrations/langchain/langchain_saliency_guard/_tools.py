"""Tools and schemas in LangChain's forms."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import InvalidToolCall, ToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

from saliency_guard import LVLM, ConfigError, GroundedAnswer
from saliency_guard.adapters import closed, shown
from saliency_guard.adapters import read_calls as parse_calls

Calls = tuple[str, list[ToolCall], list[InvalidToolCall]]
"""The text beside the calls, the calls, and malformed calls."""


def as_functions(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Any kind of tool as the JSON schema of a function.

    Raises:
        ConfigError: if one is none.
    """
    if not isinstance(tools, Sequence):
        msg = f"tools must be a list, not {shown(tools)}"
        raise ConfigError(msg)
    return [_converted(convert_to_openai_tool, tool, "tool") for tool in tools]


def answer_schema(schema: Any) -> dict[str, Any]:
    """The JSON schema of a pydantic class, a TypedDict, a function or a schema.

    Raises:
        ConfigError: if it is none of these.
    """
    return closed(_converted(convert_to_json_schema, schema, "schema"))


def _converted(convert: Callable[[Any], dict[str, Any]], given: Any, name: str) -> dict[str, Any]:
    """What LangChain makes of something; what it raises then depends on what it was given."""
    try:
        return convert(given)
    except Exception as error:
        msg = f"{shown(given)} is no {name}: {error}"
        raise ConfigError(msg) from error


def read_calls(lvlm: LVLM, answer: GroundedAnswer, *, was_forced: bool) -> Calls:
    """The tool calls of an answer, as the tokenizer reads them where it can, else in the forms models write.

    Args:
        lvlm: whose answer it is.
        answer: the answer.
        was_forced: whether it was held to the schema of a call.
    """
    ids = [token.token_id for token in answer.tokens]
    parsed = parse_calls(answer.text, ids, lvlm.tokenizer, was_forced=was_forced)
    calls = [tool_call(name=call.name, args=dict(call.arguments), id=_new_id()) for call in parsed.calls]
    return parsed.text, calls, [_malformed(piece) for piece in parsed.malformed]


def _malformed(piece: str) -> InvalidToolCall:
    return invalid_tool_call(name=None, args=piece, id=_new_id(), error="this is not a tool call in JSON")


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def as_chunks(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Finished calls as the pieces a stream is made of."""
    return [
        {
            "name": call["name"],
            "args": json.dumps(call["args"]),
            "id": call["id"],
            "index": index,
            "type": "tool_call_chunk",
        }
        for index, call in enumerate(calls)
    ]
