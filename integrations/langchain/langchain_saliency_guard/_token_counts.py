"""Token counts by the model's own tokenizer and processor, pictures included."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from saliency_guard import LVLM, MessageError


def text_ids(lvlm: LVLM, text: str) -> list[int]:
    """The ids of a text's tokens, without those that a prompt puts around it."""
    ids: list[int] = lvlm.tokenizer.encode(text, add_special_tokens=False)
    return ids


def prompt_length(lvlm: LVLM, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """How many positions messages take in a prompt.

    Args:
        lvlm: the model.
        messages: in the core's form; they may be a part of a chat, as trimming makes them.
        tools: that the prompt tells of.
    """
    if not messages:
        return 0
    lvlm_with_tools = lvlm.with_tools(tools) if tools else lvlm
    try:
        return lvlm_with_tools.prepare(list(messages)).length
    except MessageError:  # A chat template need not take a part of a chat: an answer alone, a tool's result alone.
        return sum(lvlm.prepare([_as_question(message)]).length for message in messages)


def _as_question(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content") or []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    calls = message.get("tool_calls")
    if calls or not parts:
        parts.append({"type": "text", "text": json.dumps(calls) if calls else " "})
    return {"role": "user", "content": parts}
