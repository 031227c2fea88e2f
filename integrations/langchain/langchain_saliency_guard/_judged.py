"""What of a message a guard judges, and whether there is anything to judge: the turn, its text, its fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_saliency_guard._messages import SKIPPED_TYPES, has_picture
from saliency_guard import SaliencyGuardError
from saliency_guard.adapters import NO_ARGUMENTS, SAID_SO, JudgedText, Turn

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
    if text is None:
        return NO_ARGUMENTS
    if should_score is not None:
        return None if should_score(request, message) else SAID_SO
    return _turn(chat, text.text, saw_picture=saw_picture).other_subject


def may_have_picture(chat: Sequence[BaseMessage]) -> bool:
    """Whether a chat has a picture, or something in it that cannot be read, which may be one."""
    try:
        return has_picture(chat)
    except SaliencyGuardError:
        return True


def _turn(chat: Sequence[BaseMessage], answer: str, *, saw_picture: bool) -> Turn:
    start = _start_of_turn(chat)
    first = next((number for number, message in enumerate(chat) if may_have_picture([message])), 0)
    return Turn(
        question=" ".join(message.text for message in chat[start:] if isinstance(message, HumanMessage)),
        answer=answer,
        earlier=[message.text for message in chat[first:start]],
        has_picture=may_have_picture(chat[start:]),
        chat_has_picture=saw_picture or may_have_picture(chat),
    )


def _start_of_turn(chat: Sequence[BaseMessage]) -> int:
    """Where the last turn begins: the first of the user's last messages in a row."""
    last = next((number for number in reversed(range(len(chat))) if isinstance(chat[number], HumanMessage)), 0)
    while last > 0 and isinstance(chat[last - 1], HumanMessage):
        last -= 1
    return last
