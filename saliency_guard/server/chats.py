"""Chats that a gateway's guardrail showed before their answers came: the answers are judged by them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from saliency_guard.adapters.prompt_memo import CoreMessages

_MOST = 256
_MOST_BYTES = 256_000_000
_LONGEST = 600.0


class RecentChats:
    """The newest chats by their call's id, for ten minutes at most, and as many as fit into 256 MB.

    Args:
        clock: seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._chats: OrderedDict[str, tuple[float, int, CoreMessages]] = OrderedDict()
        self._size = 0

    def remember(self, call_id: str, messages: CoreMessages) -> None:
        """Keep a chat.

        Args:
            call_id: of the call that answers it.
            messages: in the core's form, pictures as bytes.
        """
        self.forget(call_id)
        size = len(call_id) + sum(map(_size, messages))
        self._chats[call_id] = (self._clock(), size, messages)
        self._size += size
        while self._chats and (len(self._chats) > _MOST or self._size > _MOST_BYTES or self._is_old()):
            self.forget(next(iter(self._chats)))

    def recall(self, call_id: str | None) -> CoreMessages | None:
        """The chat of a call; None where it is not known, or not any more."""
        while self._chats and self._is_old():
            self.forget(next(iter(self._chats)))
        known = self._chats.get(call_id) if call_id is not None else None
        return known[2] if known is not None else None

    def forget(self, call_id: str) -> None:
        """Drop a chat."""
        known = self._chats.pop(call_id, None)
        self._size -= known[1] if known is not None else 0

    def _is_old(self) -> bool:
        return self._clock() - next(iter(self._chats.values()))[0] > _LONGEST


def _size(message: dict[str, Any]) -> int:
    """What a message takes."""
    parts = sum(len(part["image"]) if part["type"] == "image" else len(str(part)) for part in message["content"])
    return parts + sum(len(str(value)) for name, value in message.items() if name != "content")
