"""Context variables around a call of the model: collectors of its scores, and the settings of an attempt.

Much of LlamaIndex calls a model through `LLM.predict`, which takes no settings and returns a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from saliency_guard import LVLM
from saliency_guard.adapters import Finished, PlannedAttempt


@dataclass(frozen=True, slots=True)
class CollectedCall:
    """One call of a `SaliencyGuardedLVLM`.

    Attributes:
        lvlm: the model that answered.
        finished: the end of its answer.
    """

    lvlm: LVLM
    finished: Finished

    @property
    def report(self) -> dict[str, Any]:
        """What ``ChatResponse.raw["grounding"]`` holds."""
        return self.finished.report


@dataclass(slots=True)
class GroundingCollector:
    """The calls of `SaliencyGuardedLVLM` that are made while it collects.

    Attributes:
        calls: in the order in which they ended.
        errors: raised by calls; some callers swallow them.
    """

    calls: list[CollectedCall] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The report of every call."""
        return [call.report for call in self.calls]


_COLLECTORS: ContextVar[tuple[GroundingCollector, ...]] = ContextVar("collectors", default=())
_ATTEMPT: ContextVar[PlannedAttempt | None] = ContextVar("attempt", default=None)


@contextmanager
def collect_grounding() -> Iterator[GroundingCollector]:
    """Collect the scores of all calls that are made inside, also by query engines that return only a text.

    Concurrent tasks and threads that were started inside are included, others are not.
    """
    collector = GroundingCollector()
    token = _COLLECTORS.set((*_COLLECTORS.get(), collector))
    try:
        yield collector
    finally:
        _COLLECTORS.reset(token)


@contextmanager
def attempting(planned: PlannedAttempt) -> Iterator[None]:
    """Calls inside use the settings of an attempt of a policy."""
    token = _ATTEMPT.set(planned)
    try:
        yield
    finally:
        _ATTEMPT.reset(token)


def collectors() -> tuple[GroundingCollector, ...]:
    """The collectors that are active here."""
    return _COLLECTORS.get()


def current_attempt() -> PlannedAttempt | None:
    """The attempt that a call made here belongs to; None where it is no attempt."""
    return _ATTEMPT.get()
