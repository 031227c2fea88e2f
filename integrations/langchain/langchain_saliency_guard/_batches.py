"""Several chats answered in one batch; each keeps its own run, callbacks and cache entry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from saliency_guard import LVLM, GroundedAnswer, SaliencyGuardError
from saliency_guard.adapters import PreparedPrompt, Request, RunEvent, answered, run_events

Item = TypeVar("Item")
_Result = GroundedAnswer | PreparedPrompt | Exception


class Batch:
    """Chats that are answered in groups: a group when its first answer is needed. Each chat is converted once.

    Args:
        chats: one function per chat, which returns its messages in the core's form.
        size: number of chats in a group.
    """

    def __init__(self, chats: Sequence[Callable[[], list[dict[str, Any]]]], size: int) -> None:
        self._chats = chats
        self._size = size
        self._lock = threading.Lock()
        self._results: dict[int, _Result] = {}

    def result(self, index: int, lvlm: LVLM, request: Request) -> GroundedAnswer | PreparedPrompt:
        """The answer to a chat; its prepared prompt if its group cannot be answered as a batch.

        Raises:
            Exception: the error of converting or preparing this chat.
        """
        with self._lock:
            if index not in self._results:
                start = index // self._size * self._size
                group = range(start, min(start + self._size, len(self._chats)))
                self._results.update(zip(group, self._group_results(group, lvlm, request), strict=True))
            result = self._results[index]
        if isinstance(result, Exception):
            raise result
        return result

    def _group_results(self, group: range, lvlm: LVLM, request: Request) -> Sequence[_Result]:
        """A result for each chat of a group; an error in one chat does not stop the others."""
        prompts = [self._prepared(index, lvlm) for index in group]
        usable = [prompt for prompt in prompts if isinstance(prompt, PreparedPrompt)]
        try:
            answers = iter(lvlm.generate_batch(usable, **request.generation, batch_size=self._size))
        except SaliencyGuardError:  # Answered singly instead: each call then raises the error of its own chat.
            return prompts
        return [next(answers) if isinstance(prompt, PreparedPrompt) else prompt for prompt in prompts]

    def _prepared(self, index: int, lvlm: LVLM) -> PreparedPrompt | Exception:
        try:
            return lvlm.prepare(self._chats[index]())
        except Exception as error:  # noqa: BLE001 - `result` raises it for the chat it belongs to
            return error


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a chat in a batch.

    Attributes:
        batch: the batch.
        index: index of the chat in it.
        run_id: id of the chat's run; calls made by a callback handler in between have other ids.
    """

    batch: Batch
    index: int
    run_id: UUID | None

    def run_events(self, lvlm: LVLM, request: Request, cancel: threading.Event) -> Generator[RunEvent, None, None]:
        """As `saliency_guard.adapters.run_events`, from the batch's answer if there is one."""
        result = self.batch.result(self.index, lvlm, request)
        if isinstance(result, PreparedPrompt):
            yield from run_events(lvlm, result, request.generation, cancel=cancel, live=False)
            return
        yield from answered(result)


_PLACE: ContextVar[Place | None] = ContextVar("saliency_guard_place", default=None)


def place_of(run_id: UUID | None) -> Place | None:
    """The place in a batch of the run with this id; None if the run is not part of a batch."""
    place = _PLACE.get()
    return place if place is not None and run_id is not None and place.run_id == run_id else None


def at_place(place: Place | None, call: Callable[[], Item]) -> Item:
    """Call a function with that place in a batch as the current one."""
    token = _PLACE.set(place)
    try:
        return call()
    finally:
        _PLACE.reset(token)
