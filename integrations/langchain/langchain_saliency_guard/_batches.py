"""Several chats answered side by side, while each keeps its own run, callbacks and cache entry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from saliency_guard import LVLM, GroundedAnswer, SaliencyGuardError
from saliency_guard.adapters import PreparedPrompt, Request, RunEvent, finished, run_events

Item = TypeVar("Item")
_Result = GroundedAnswer | PreparedPrompt | Exception


class Batch:
    """Chats, each converted and prepared once, that are answered together when the first of a group is needed.

    Args:
        chats: functions that give the core's messages of each.
        size: of a group.
    """

    def __init__(self, chats: Sequence[Callable[[], list[dict[str, Any]]]], size: int) -> None:
        self._chats = chats
        self._size = size
        self._lock = threading.Lock()
        self._results: dict[int, _Result] = {}

    def result(self, index: int, lvlm: LVLM, request: Request) -> GroundedAnswer | PreparedPrompt:
        """The answer to one of the chats; its prompt where the chats of its group cannot be answered together.

        Raises:
            Exception: what converting or preparing this chat raised.
        """
        with self._lock:
            if index not in self._results:
                start = index // self._size * self._size
                group = range(start, min(start + self._size, len(self._chats)))
                self._results.update(zip(group, self._together(group, lvlm, request), strict=True))
            result = self._results[index]
        if isinstance(result, Exception):
            raise result
        return result

    def _together(self, group: range, lvlm: LVLM, request: Request) -> Sequence[_Result]:
        """A result for each of a group; chats with an error do not keep the others from being answered."""
        prompts = [self._prepared(index, lvlm) for index in group]
        usable = [prompt for prompt in prompts if isinstance(prompt, PreparedPrompt)]
        try:
            answers = iter(lvlm.generate_batch(usable, **request.generation, batch_size=self._size))
        except SaliencyGuardError:  # Each call, made alone, says what is wrong with its own chat.
            return prompts
        return [next(answers) if isinstance(prompt, PreparedPrompt) else prompt for prompt in prompts]

    def _prepared(self, index: int, lvlm: LVLM) -> PreparedPrompt | Exception:
        try:
            return lvlm.prepare(self._chats[index]())
        except Exception as error:  # noqa: BLE001 - raised by `result`, for the chat it belongs to
            return error


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one chat in a batch.

    Attributes:
        batch: all chats.
        index: number of the chat.
        run_id: of its run, which tells it from calls that a handler makes meanwhile.
    """

    batch: Batch
    index: int
    run_id: UUID | None

    def run_events(self, lvlm: LVLM, request: Request, cancel: threading.Event) -> Generator[RunEvent, None, None]:
        """As `saliency_guard.adapters.run_events`, from the answer of the batch where there is one."""
        result = self.batch.result(self.index, lvlm, request)
        if isinstance(result, PreparedPrompt):
            yield from run_events(lvlm, result, request.generation, cancel=cancel)
            return
        for token in result.tokens:  # As a stream has them: grounding and signals come with the finished answer.
            yield token.model_copy(update={"grounding": None, "signals": {}})
        yield finished(result)


_PLACE: ContextVar[Place | None] = ContextVar("saliency_guard_place", default=None)


def place_of(run_id: UUID | None) -> Place | None:
    """The place in a batch of the run with this id; None where it is not part of a batch."""
    place = _PLACE.get()
    return place if place is not None and run_id is not None and place.run_id == run_id else None


def at_place(place: Place | None, call: Callable[[], Item]) -> Item:
    """Call a function for that place in a batch."""
    token = _PLACE.set(place)
    try:
        return call()
    finally:
        _PLACE.reset(token)
