"""What stands around a call of the model, in context variables: who collects its scores; which attempt it is part of.

Much of LlamaIndex calls a model through `LLM.predict`, which takes no settings and returns a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from saliency_guard import LVLM
from saliency_guard.adapters.run import Finished
from saliency_guard.guard.retry import PlannedAttempt


@dataclass(frozen=True, slots=True)
class CollectedCall:
    """One call of a `SaliencyGuardedLVLM`.

    Attributes:
        lvlm: that answered.
        finished: what it came to.
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
        errors: that calls raised; some callers swallow them.
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
    """Calls inside are made with the settings of an attempt that a policy plans."""
    token = _ATTEMPT.set(planned)
    try:
        yield
    finally:
        _ATTEMPT.reset(token)


def collectors() -> tuple[GroundingCollector, ...]:
    """Who collects here."""
    return _COLLECTORS.get()


def current_attempt() -> PlannedAttempt | None:
    """The planned attempt that a call made here belongs to; None outside of any."""
    return _ATTEMPT.get()
