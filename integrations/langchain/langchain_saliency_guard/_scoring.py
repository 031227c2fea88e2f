"""Scoring the answers of any chat model with a local model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message

from langchain_saliency_guard._messages import to_core
from langchain_saliency_guard._report import GROUNDING
from saliency_guard import ConfigError
from saliency_guard.adapters import LocalScorer


class ChatScorer(LocalScorer):
    """Scores answers to LangChain's messages."""

    def core_messages(self, messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
        """Messages in the core's form."""
        return to_core(messages, fetch_image=self.fetch_image)


def as_answer(answer: Any) -> AIMessage:
    """An answer, given as a message, a chunk or a text, as a message.

    Raises:
        ConfigError: if it is none of these.
    """
    if isinstance(answer, AIMessageChunk):
        answer = message_chunk_to_message(answer)
    if isinstance(answer, AIMessage):
        return answer
    if isinstance(answer, (BaseMessage, str)):
        return AIMessage(answer if isinstance(answer, str) else answer.text)
    msg = f"the answer must be a message or a text, not {type(answer).__name__}"
    raise ConfigError(msg)


def says_something(message: AIMessage) -> bool:
    """Whether a message is an answer: not a tool call, and not empty."""
    return not message.tool_calls and bool(message.text.strip())


def with_report(message: AIMessage, report: dict[str, Any], text: str | None = None) -> AIMessage:
    """A copy of a message with its report.

    Args:
        message: is not changed, because caches return the same object again.
        report: report of its grounding.
        text: replaces the message's text.
    """
    update: dict[str, Any] = {"response_metadata": {**message.response_metadata, GROUNDING: report}}
    if text is not None and text != message.text:
        update["content"] = text
    return message.model_copy(update=update)
