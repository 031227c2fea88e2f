"""Grounding on the dispatcher: events that any `BaseEventHandler` receives."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher

from saliency_guard import LowGroundingError
from saliency_guard.adapters import ReportDetail, raised_report

dispatcher = get_dispatcher(__name__)


class GroundingScoreEvent(BaseEvent):
    """An answer is finished, or a policy decided on it; its ``decision`` may be ``"raised"``.

    Attributes:
        report: the report, as in ``ChatResponse.raw["grounding"]``.
        attempt: number of the attempt that was decided for, from 0; None where no attempt is given out.
    """

    report: dict[str, Any]
    attempt: int | None = 0

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return "GroundingScoreEvent"


def raised_event(error: LowGroundingError, detail: ReportDetail) -> GroundingScoreEvent:
    """The event of an answer that a policy did not give out."""
    return GroundingScoreEvent(report=raised_report(error, detail=detail), attempt=None)


class GroundingRejectionEvent(BaseEvent):
    """SGRS rejected a candidate.

    Attributes:
        text: text of the candidate.
        token_id: token id of the candidate.
        logprob: log-probability of the candidate.
        saliency: its saliency (Eq. 6).
        threshold: the lowest saliency that is accepted (Eq. 7).
        position: position of the token in the answer, from 0.
        taken: text of the token that was accepted instead.
        attempt: number of the attempt that it belongs to, from 0.
    """

    text: str
    token_id: int
    logprob: float
    saliency: float
    threshold: float | None
    position: int
    taken: str
    attempt: int = 0

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return "GroundingRejectionEvent"


class GroundingRetryEvent(BaseEvent):
    """An answer was refused, or could not be judged, and another attempt is made.

    Attributes:
        attempt: number of the attempt within its call, from 0.
        verdict: ``"refused"`` or ``"unscored"``.
        score: its calibrated grounding; None without a calibration.
        reason: why it was not accepted.
        text: the refused answer; None unless ``report="full"``.
    """

    attempt: int
    verdict: str
    score: float | None
    reason: str | None
    text: str | None = None

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return "GroundingRetryEvent"
