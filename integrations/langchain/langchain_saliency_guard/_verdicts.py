"""Verdicts on answers that are made inside of a tool: an agent has to see in its result that one is not grounded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from saliency_guard import GuardOutcome, GuardPolicy
from saliency_guard.adapters import bound, reason_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard said of an answer that was given out.

    Attributes:
        text: the answer.
        decision: of the policy.
        reason: why it was not accepted.
        passes: as of `GuardOutcome`.
    """

    text: str
    decision: str
    reason: str | None
    passes: bool


_VERDICTS: ContextVar[list[Verdict] | None] = ContextVar("saliency_guard_verdicts", default=None)


def collect_verdicts() -> AbstractContextManager[list[Verdict]]:
    """The verdicts on answers that are given out inside, in tasks and threads that are started inside, too."""
    verdicts: list[Verdict] = []
    return bound(_VERDICTS, verdicts)


def record(outcome: GuardOutcome | None) -> None:
    """Remember a verdict for the tool that is running, if one is."""
    verdicts = _VERDICTS.get()
    if verdicts is not None and outcome is not None:
        reason = reason_of(outcome.answer, outcome)
        verdicts.append(Verdict(outcome.text, outcome.decision, reason, outcome.passes))


def record_cached(text: str, report: Mapping[str, Any], policy: GuardPolicy | None) -> None:
    """Remember the verdict on an answer that came from a cache.

    Args:
        text: the answer.
        report: of its grounding.
        policy: that decided on it; None is none.
    """
    verdicts = _VERDICTS.get()
    if verdicts is None or policy is None:
        return
    decision = report["decision"]
    verdicts.append(Verdict(text, decision, report["reason"], policy.lets_pass(decision, text)))
