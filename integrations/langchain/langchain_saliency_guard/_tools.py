"""Tools: as a chat template takes them, as a schema that forces a call, and as LangChain's tool calls."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import InvalidToolCall, ToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

from saliency_guard import LVLM, ConfigError, GroundedAnswer
from saliency_guard.tooling import parse_tool_calls

Tool = Mapping[str, Any]
Calls = tuple[str, list[ToolCall], list[InvalidToolCall]]
"""What is said beside the calls, the calls, and what stands where one should be."""


def as_functions(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Any kind of tool as the JSON schema of a function."""
    return [convert_to_openai_tool(tool) for tool in tools]


def forced(tools: Sequence[Tool], tool_choice: Any) -> list[Tool]:
    """The tools of which one has to be called; none where the model may choose.

    Raises:
        ConfigError: if the tool that is asked for is not among them.
    """
    if isinstance(tool_choice, Mapping):
        named = tool_choice.get("function", tool_choice).get("name")
        tool_choice = named or tool_choice.get("type")
    if tool_choice in (None, False, "auto", "none"):
        return []
    if tool_choice in (True, "any", "required"):
        return list(tools)
    chosen = [tool for tool in tools if tool["function"]["name"] == tool_choice]
    if not chosen:
        names = ", ".join(tool["function"]["name"] for tool in tools)
        msg = f"tool_choice={tool_choice!r} is none of the tools: {names}"
        raise ConfigError(msg)
    return chosen


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """A JSON schema of a call of one of the tools."""
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": _closed(tool["function"].get("parameters") or {"type": "object", "properties": {}}),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def answer_schema(schema: Any) -> dict[str, Any]:
    """The JSON schema of a pydantic class, a TypedDict, a function or a schema."""
    return _closed(convert_to_json_schema(schema))


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing but what is named, unless the schema says otherwise: a model left to itself would never stop."""
    if schema.get("type") == "object" and "properties" in schema:
        return {"additionalProperties": False, **schema}
    return dict(schema)


def read_calls(lvlm: LVLM, answer: GroundedAnswer, tools: Sequence[Tool], *, was_forced: bool) -> Calls:
    """The tool calls of an answer, as the tokenizer reads them where it can, else in the forms models write.

    Args:
        lvlm: whose answer it is.
        answer: the answer.
        tools: that it was told of.
        was_forced: whether it was held to the schema of a call.
    """
    if not tools:
        return answer.text, [], []
    text = answer.text
    if not was_forced:  # Many models mark a call with special tokens, which are no part of the text.
        ids = [token.token_id for token in answer.tokens]
        text = lvlm.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    parsed = parse_tool_calls(text)
    if not parsed.calls and not parsed.malformed:
        return ("", [], [_malformed(text)]) if was_forced else (answer.text, [], [])
    calls = [tool_call(name=one.name, args=dict(one.arguments), id=_new_id()) for one in parsed.calls]
    return parsed.text, calls, [_malformed(piece) for piece in parsed.malformed]


def _malformed(piece: str) -> InvalidToolCall:
    return invalid_tool_call(name=None, args=piece, id=_new_id(), error="this is no call of a tool in JSON")


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
