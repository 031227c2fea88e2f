"""Several chats answered side by side, while each keeps its own run, callbacks and cache entry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from saliency_guard import LVLM, GroundedAnswer, SaliencyGuardError
from saliency_guard.adapters.run import Happening, finished, happenings
from saliency_guard.adapters.settings import Request

Item = TypeVar("Item")


class Batch:
    """Chats that are answered together as soon as the first of a group is wanted.

    Args:
        chats: functions that give the core's messages of each.
        size: of a group.
    """

    def __init__(self, chats: Sequence[Callable[[], list[dict[str, Any]]]], size: int) -> None:
        self._chats = chats
        self._size = size
        self._lock = threading.Lock()
        self._answers: dict[int, GroundedAnswer | None] = {}

    def answer(self, index: int, lvlm: LVLM, request: Request) -> GroundedAnswer | None:
        """One of the answers; None if its group cannot be answered together: then each says what is wrong with it."""
        with self._lock:
            if index not in self._answers:
                start = index // self._size * self._size
                group = range(start, min(start + self._size, len(self._chats)))
                self._answers.update(zip(group, self._together(group, lvlm, request), strict=True))
        return self._answers[index]

    def chat(self, index: int) -> list[dict[str, Any]]:
        """The core's messages of one of the chats."""
        return self._chats[index]()

    def _together(self, group: range, lvlm: LVLM, request: Request) -> Sequence[GroundedAnswer | None]:
        try:
            chats = [self._chats[index]() for index in group]
            return lvlm.generate_batch(chats, **request.generation, batch_size=self._size)
        except SaliencyGuardError:
            return [None] * len(group)


def alone(
    lvlm: LVLM, messages: list[dict[str, Any]], request: Request, cancel: threading.Event
) -> Generator[Happening, None, None]:
    """What happens to one request; arguments and errors as for `saliency_guard.adapters.run.happenings`."""
    return happenings(
        lvlm,
        messages,
        request.generation,
        cancel=cancel,
        policy=request.policy,
        tools=request.tools,
        timeout=request.timeout,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """One chat of a batch."""

    batch: Batch
    index: int
    owner: object

    def belongs_to(self, model: object, messages: list[dict[str, Any]]) -> bool:
        """Whether a call is the one this place is for, and not one that a handler makes meanwhile."""
        return model is self.owner and messages == self.batch.chat(self.index)

    def happenings(
        self, lvlm: LVLM, messages: list[dict[str, Any]], request: Request, cancel: threading.Event
    ) -> Generator[Happening, None, None]:
        """As `alone`, from the answer of the batch where there is one."""
        answer = self.batch.answer(self.index, lvlm, request)
        if answer is None:
            yield from alone(lvlm, messages, request, cancel)
            return
        for token in answer.tokens:  # As `invoke` has them: these are known when the answer is finished.
            yield token.model_copy(update={"grounding": None, "signals": {}})
        yield finished(answer)


_PLACE: ContextVar[Place | None] = ContextVar("saliency_guard_place", default=None)


def place() -> Place | None:
    """The place in a batch of the call that is on."""
    return _PLACE.get()


def at(own: Place | None, call: Callable[[], Item]) -> Item:
    """Call something as that place."""
    token = _PLACE.set(own)
    try:
        return call()
    finally:
        _PLACE.reset(token)
