"""Verdicts on answers that are made inside of a tool: an agent has to see in its result that one is not grounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from saliency_guard import GuardOutcome

_VERDICTS: ContextVar[list[GuardOutcome] | None] = ContextVar("saliency_guard_verdicts", default=None)


@contextmanager
def collect_verdicts() -> Iterator[list[GuardOutcome]]:
    """The verdicts on answers that are given out inside, in tasks and threads that are started inside, too."""
    verdicts: list[GuardOutcome] = []
    token = _VERDICTS.set(verdicts)
    try:
        yield verdicts
    finally:
        _VERDICTS.reset(token)


def record(outcome: GuardOutcome | None) -> None:
    """Remember a verdict for the tool that is running, if one is."""
    verdicts = _VERDICTS.get()
    if verdicts is not None and outcome is not None:
        verdicts.append(outcome)
