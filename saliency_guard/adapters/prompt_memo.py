"""Prompts of one guarded call: pictures are fetched and prompts prepared once, however many attempts are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from saliency_guard.adapters.bound import bound
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.lvlm import LVLM

Message = TypeVar("Message")
CoreMessages = list[dict[str, Any]]
Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class _Prompt:
    """A prepared prompt, and what it was prepared from."""

    lvlm: LVLM
    messages: CoreMessages
    tools: Tools
    prepared: PreparedPrompt

    def is_of(self, lvlm: LVLM, messages: CoreMessages, tools: Tools) -> bool:
        """Whether preparing these would give the same prompt; the lists of messages are never changed."""
        same_model = self.lvlm.model is lvlm.model and self.lvlm.processor is lvlm.processor
        return same_model and self.messages is messages and list(self.tools) == list(tools)


class PromptMemo:
    """Remembers the chats and prompts of one guarded call.

    Args:
        is_shared: whether more than one call may ask for a prompt.
    """

    def __init__(self, *, is_shared: bool = True) -> None:
        self.is_shared = is_shared
        self._chats: list[tuple[Sequence[Any], CoreMessages]] = []
        self._prompts: list[_Prompt] = []

    def messages(self, chat: Sequence[Message], convert: Callable[[Sequence[Message]], CoreMessages]) -> CoreMessages:
        """A framework's chat as the core's messages; an equal chat gives the same list again.

        Args:
            chat: messages of LangChain or LlamaIndex.
            convert: makes the core's messages of them, and fetches their pictures.
        """
        for known, messages in self._chats:
            if _are_equal(known, chat):
                return messages
        converted = convert(chat)
        self._chats.append((list(chat), converted))
        return converted

    def prompt(self, lvlm: LVLM, messages: CoreMessages, tools: Tools = ()) -> PreparedPrompt:
        """Messages, prepared for a model that is told of tools.

        Args:
            lvlm: the model, without the tools.
            messages: from `messages`.
            tools: as for `LVLM.with_tools`.
        """
        for known in self._prompts:
            if known.is_of(lvlm, messages, tools):
                return known.prepared
        prepared = (lvlm.with_tools(tools) if tools else lvlm).prepare(messages)
        self._prompts.append(_Prompt(lvlm, messages, list(tools), prepared))
        return prepared


_MEMO: ContextVar[PromptMemo | None] = ContextVar("saliency_guard_prompts", default=None)


def remember_prompts() -> AbstractContextManager[PromptMemo]:
    """Calls of our models inside share their prompts, in tasks and threads that are started inside, too."""
    return bound(_MEMO, PromptMemo())


def current_prompts() -> PromptMemo:
    """The memo of the guarded call that is running; a new one outside."""
    return _MEMO.get() or PromptMemo(is_shared=False)


def _are_equal(known: Sequence[Any], chat: Sequence[Any]) -> bool:
    """Whether two chats are equal; arrays cannot be compared, so chats with different array objects are not."""
    try:
        return list(known) == list(chat)
    except ValueError:
        return False
