"""Converts tools and tool calls from and to LlamaIndex's forms."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ContentBlock, TextBlock, ToolCallBlock
from llama_index.core.tools import BaseTool

from saliency_guard import LVLM, ConfigError, GroundedAnswer
from saliency_guard.adapters import Tool, read_calls, shown


def as_functions(tools: Sequence[BaseTool | Mapping[str, Any]]) -> list[Tool]:
    """Tools as JSON schemas of functions.

    Raises:
        ConfigError: if something in the list is not a tool.
    """
    if not isinstance(tools, Sequence):
        msg = f"tools must be a list, not {shown(tools)}"
        raise ConfigError(msg)
    return [_as_function(tool) for tool in tools]


def _as_function(tool: BaseTool | Mapping[str, Any]) -> Tool:
    if isinstance(tool, Mapping):
        return tool
    try:
        return tool.metadata.to_openai_tool(skip_length_check=True)
    except (AttributeError, TypeError, ValueError) as error:
        msg = f"{shown(tool)} is not a tool: {error}"
        raise ConfigError(msg) from error


def answer_blocks(lvlm: LVLM, answer: GroundedAnswer, *, was_forced: bool) -> tuple[list[ContentBlock], list[str]]:
    """An answer as blocks (its text and its tool calls), and its malformed tool calls.

    Args:
        lvlm: the model that wrote the answer.
        answer: the answer.
        was_forced: whether decoding was constrained to a tool call.
    """
    ids = [token.token_id for token in answer.tokens]
    parsed = read_calls(answer.text, ids, lvlm.tokenizer, was_forced=was_forced)
    texts: list[ContentBlock] = [TextBlock(text=parsed.text)] if parsed.text or not parsed.calls else []
    calls = [
        ToolCallBlock(
            tool_call_id=f"call_{uuid.uuid4().hex[:24]}", tool_name=call.name, tool_kwargs=dict(call.arguments)
        )
        for call in parsed.calls
    ]
    return [*texts, *calls], list(parsed.malformed)
