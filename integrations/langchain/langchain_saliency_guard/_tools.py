"""Converts tools, schemas and tool calls from and to LangChain's forms."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import InvalidToolCall, ToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.json import parse_partial_json

from saliency_guard import LVLM, ConfigError, GroundedAnswer
from saliency_guard.adapters import closed, shown
from saliency_guard.adapters import read_calls as parse_calls

Calls = tuple[str, list[ToolCall], list[InvalidToolCall]]
"""The text beside the calls, the calls, and malformed calls."""


def as_functions(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Tools of any kind as JSON schemas of functions.

    Raises:
        ConfigError: if something in the list is not a tool.
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


def _converted(convert: Callable[[Any], dict[str, Any]], value: Any, name: str) -> dict[str, Any]:
    """A value converted by LangChain, which raises errors of many types."""
    try:
        return convert(value)
    except Exception as error:
        msg = f"{shown(value)} is not a {name}: {error}"
        raise ConfigError(msg) from error


def read_calls(lvlm: LVLM, answer: GroundedAnswer, *, was_forced: bool) -> Calls:
    """The tool calls in an answer: parsed by the tokenizer if it can, else in the formats that models write.

    Args:
        lvlm: the model that wrote the answer.
        answer: the answer.
        was_forced: whether decoding was constrained to a tool call.
    """
    ids = [token.token_id for token in answer.tokens]
    parsed = parse_calls(answer.text, ids, lvlm.tokenizer, was_forced=was_forced)
    calls = [tool_call(name=call.name, args=dict(call.arguments), id=_new_id()) for call in parsed.calls]
    return parsed.text, calls, [_malformed(piece) for piece in parsed.malformed]


def _malformed(piece: str) -> InvalidToolCall:
    return invalid_tool_call(name=None, args=piece, id=_new_id(), error="not a tool call in JSON")


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def as_chunks(calls: Sequence[ToolCall], invalid: Sequence[InvalidToolCall] = ()) -> list[dict[str, Any]]:
    """Finished tool calls, and malformed ones, as tool call chunks."""
    pieces: list[tuple[Any, str]] = [(call, json.dumps(call["args"])) for call in calls]
    pieces += [(call, _unreadable(call["args"] or "")) for call in invalid]
    return [
        {"name": call["name"], "args": args, "id": call["id"], "index": index, "type": "tool_call_chunk"}
        for index, (call, args) in enumerate(pieces)
    ]


def _unreadable(args: str) -> str:
    """Arguments of a malformed call as LangChain takes them for malformed.

    It completes JSON that was cut off, and makes a call without a name of it: such text goes in as a JSON string.
    """
    try:
        completed = parse_partial_json(args)
    except ValueError:
        return args
    return json.dumps(args) if isinstance(completed, dict) else args
