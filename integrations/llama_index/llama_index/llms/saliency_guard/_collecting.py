"""Context variables for calls of the model: the active collectors of its scores, and the settings of an attempt.

Much of LlamaIndex calls a model through `LLM.predict`, which takes no settings and returns only a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from saliency_guard import LVLM
from saliency_guard.adapters import Finished, PlannedAttempt, ReportDetail, bound


@dataclass(frozen=True, slots=True)
class CollectedCall:
    """A call of a `SaliencyGuardedLVLM`.

    Attributes:
        lvlm: the model that answered.
        finished: its last event, with the answer.
        detail: how much the report holds.
    """

    lvlm: LVLM
    finished: Finished
    detail: ReportDetail = "summary"

    @property
    def report(self) -> dict[str, Any]:
        """The report, as in ``ChatResponse.raw["grounding"]``."""
        return self.finished.report(self.detail)


@dataclass(slots=True)
class GroundingCollector:
    """Collects the calls of `SaliencyGuardedLVLM` made inside `collect_grounding`.

    Attributes:
        calls: finished calls, in the order in which they ended.
        errors: errors raised by calls, because some callers swallow them.
    """

    calls: list[CollectedCall] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The reports of all calls."""
        return [call.report for call in self.calls]


_COLLECTORS: ContextVar[tuple[GroundingCollector, ...]] = ContextVar("collectors", default=())
_ATTEMPT: ContextVar[PlannedAttempt | None] = ContextVar("attempt", default=None)


@contextmanager
def collect_grounding() -> Iterator[GroundingCollector]:
    """Collect the scores of all calls made inside the ``with`` block, also by query engines that return only a text.

    Tasks and threads that were started inside are included, others are not.
    """
    collector = GroundingCollector()
    with bound(_COLLECTORS, (*_COLLECTORS.get(), collector)):
        yield collector


def attempting(planned: PlannedAttempt) -> AbstractContextManager[PlannedAttempt]:
    """Calls inside the ``with`` block use the settings of a policy's attempt."""
    return bound(_ATTEMPT, planned)


def collectors() -> tuple[GroundingCollector, ...]:
    """The collectors that are active in this context."""
    return _COLLECTORS.get()


def current_attempt() -> PlannedAttempt | None:
    """The attempt that calls in this context belong to; None outside of a retry loop."""
    return _ATTEMPT.get()
