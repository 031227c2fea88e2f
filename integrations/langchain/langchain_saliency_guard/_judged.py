"""What of a message a guard judges, and whether there is anything to judge: the turn, its text, its fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_saliency_guard._messages import SKIPPED_TYPES, has_picture
from saliency_guard import SaliencyGuardError
from saliency_guard.adapters import JudgedText, Turn, TurnMessage
from saliency_guard.adapters import nothing_to_score as nothing

ShouldScore = Callable[[Any, AIMessage], bool]
"""Whether an answer is to be scored: called with the request (of a guard, the chat) and the message."""


def judged_text(message: AIMessage, structured: Any = None) -> JudgedText | None:
    """What a message claims: its text, the fields of its structured answer, the arguments of its tool calls.

    Args:
        message: the message.
        structured: the object that was parsed from it; None where it is no structured answer.

    Returns:
        None for tool calls without arguments and nothing else: they claim nothing.
    """
    if structured is not None:  # Without a tool call, the text is the object itself.
        return JudgedText.of(message.text if message.tool_calls else "", structured)
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    others = [{"content": kind} for kind in _other_content(message)]  # Nothing can judge them: they leave it unscored.
    judged = JudgedText.of(message.text, *(call["args"] for call in calls), *others)
    return None if calls and not judged.text else judged


def _other_content(message: AIMessage) -> list[str]:
    """The kinds of blocks in a message that are neither its text nor its calls nor a thought."""
    blocks = message.content if isinstance(message.content, list) else []
    kinds = [str(block.get("type")) for block in blocks if isinstance(block, dict)]
    return [kind for kind in kinds if kind != "text" and kind not in SKIPPED_TYPES]


def nothing_to_score(
    chat: Sequence[BaseMessage],
    request: Any,
    message: AIMessage,
    text: JudgedText | None,
    *,
    should_score: ShouldScore | None,
    saw_picture: bool = False,
) -> str | None:
    """Why there is nothing to score; None where there is.

    Args:
        chat: what the message answers.
        request: what ``should_score`` is called with.
        message: the answer.
        text: what it claims, from `judged_text`.
        should_score: decides; None is `saliency_guard.adapters.Turn`'s own rule.
        saw_picture: whether there was a picture in the chat that may be gone.
    """
    is_scored = None if should_score is None else partial(should_score, request, message)
    turn = [TurnMessage(part.text, isinstance(part, HumanMessage), may_have_picture([part])) for part in chat]
    return nothing(text, lambda said: Turn.last_of(turn, said, saw_picture=saw_picture).other_subject, is_scored)


def may_have_picture(chat: Sequence[BaseMessage]) -> bool:
    """Whether a chat has a picture, or something in it that cannot be read, which may be one."""
    try:
        return has_picture(chat)
    except SaliencyGuardError:
        return True
