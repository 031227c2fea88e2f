"""Grounding on the dispatcher: events that any `BaseEventHandler` receives."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher

dispatcher = get_dispatcher(__name__)


class GroundingScoreEvent(BaseEvent):
    """An answer is finished, or a policy decided on it.

    Attributes:
        report: the report, as in ``ChatResponse.raw["grounding"]``.
    """

    report: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return "GroundingScoreEvent"


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
    """

    text: str
    token_id: int
    logprob: float
    saliency: float
    threshold: float | None
    position: int
    taken: str

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return "GroundingRejectionEvent"


class GroundingRetryEvent(BaseEvent):
    """An answer was refused and is retried.

    Attributes:
        attempt: number of the refused answer, from 0.
        score: its calibrated grounding; None without a calibration.
        refused: why it was refused.
        text: the refused answer.
    """

    attempt: int
    score: float | None
    refused: str
    text: str

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return "GroundingRetryEvent"
