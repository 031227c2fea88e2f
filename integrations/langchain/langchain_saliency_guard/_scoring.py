"""Scoring the answers of any chat model with a local model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from langchain_core.prompt_values import PromptValue

from langchain_saliency_guard._messages import to_core
from langchain_saliency_guard._report import GROUNDING
from saliency_guard import ConfigError, GuardOutcome, MessageError
from saliency_guard.adapters import LocalScorer, shown

_NAMES = ("id", "model", "model_name", "model_provider", "created", "created_at", "system_fingerprint", "service_tier")
_ENDS = ("finish_reason", "stop_reason", "done", "done_reason", "token_usage", "usage")
_ABOUT_THE_CALL = frozenset((*_NAMES, *_ENDS))
"""Metadata of a response that say nothing of its text."""


class ChatScorer(LocalScorer):
    """Scores answers to LangChain's messages."""

    def core_messages(self, messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
        """Messages in the core's form."""
        return to_core(messages, fetch_image=self.fetch_image)


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked answer.

    Attributes:
        chat: what it answers.
        message: the answer, with its report.
        outcome: what the policy decided.
    """

    chat: list[BaseMessage]
    message: AIMessage
    outcome: GuardOutcome


def chat_of(chat: Any) -> list[BaseMessage]:
    """The messages of a chat, given as anything that a chat model takes.

    Raises:
        MessageError: if it is no list of messages.
    """
    if isinstance(chat, PromptValue):
        return chat.to_messages()
    messages = [chat] if isinstance(chat, (str, BaseMessage)) else chat
    try:
        return convert_to_messages(messages)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        msg = f"{shown(messages)} is not a list of messages: {error}"
        raise MessageError(msg) from error


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


def with_report(message: AIMessage, report: dict[str, Any], text: str | None = None) -> AIMessage:
    """A copy of a message with its report.

    Args:
        message: is not changed, because caches return the same object again.
        report: report of its grounding.
        text: replaces what the message says, its tool calls included; None leaves them.
    """
    is_replaced = text is not None
    # A provider's metadata may hold the answer, such as its tokens with their log-probabilities.
    kept = {
        name: value for name, value in message.response_metadata.items() if not is_replaced or name in _ABOUT_THE_CALL
    }
    update: dict[str, Any] = {"response_metadata": {**kept, GROUNDING: report}}
    if is_replaced:
        update |= {"content": text, "tool_calls": [], "invalid_tool_calls": [], "additional_kwargs": {}}
    return message.model_copy(update=update)
