"""What of an answer a guard judges, and whether there is anything to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.llms.saliency_guard._messages import has_picture
from saliency_guard import SaliencyGuardError
from saliency_guard.adapters import Turn, TurnMessage

ShouldScore = Callable[[Any, Any], bool]
"""Whether an answer is to be scored: called with the request (a chat or a query) and the answer."""

NO_SOURCE = "there is no picture among the sources"


def may_have_picture(chat: Sequence[ChatMessage]) -> bool:
    """Whether a chat has a picture, or something in it that cannot be read, which may be one."""
    try:
        return has_picture(chat)
    except SaliencyGuardError:
        return True


def other_subject(chat: Sequence[ChatMessage], answer: str, *, saw_picture: bool) -> str | None:
    """Why the last turn of a chat is about no picture; None where it may be.

    Args:
        chat: what is answered.
        answer: the answer.
        saw_picture: whether there was a picture in the chat that may be gone.
    """
    messages = [
        TurnMessage(message.content or "", message.role == MessageRole.USER, may_have_picture([message]))
        for message in chat
    ]
    return Turn.last_of(messages, answer, saw_picture=saw_picture).other_subject
