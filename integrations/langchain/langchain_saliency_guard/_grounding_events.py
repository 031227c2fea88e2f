"""The custom events of an answer, made from the events of its run."""

from __future__ import annotations

from typing import Any

from langchain_saliency_guard._events import REJECTION, REPORT, RETRY, TOKEN
from saliency_guard import Attempt, TokenGrounding
from saliency_guard.adapters import RunEvent, token_report

Event = tuple[str, dict[str, Any]]


class GroundingEvents:
    """Makes the custom events of an answer."""

    def __init__(self) -> None:
        self._pending_retry: list[Event] = []
        self._attempt_count = 0

    def of(self, event: RunEvent) -> list[Event]:
        """The custom events to send for an event of the run; a retry event is sent when the next attempt exists."""
        if isinstance(event, TokenGrounding):
            return _token_events(event)
        if isinstance(event, Attempt):
            retry, self._pending_retry = self._pending_retry, []
            number = self._attempt_count
            self._attempt_count += 1
            if not event.accepted:
                data = {"attempt": number, "score": event.score, "refused": event.problem, "text": event.answer.text}
                self._pending_retry = [(RETRY, data)]
            return retry
        tokens = event.answer.tokens if event.outcome is not None and event.answer is not None else ()
        return [*(token_event for token in tokens for token_event in _token_events(token)), (REPORT, event.report)]


def _token_events(token: TokenGrounding) -> list[Event]:
    rejections = [
        (
            REJECTION,
            {
                **candidate.model_dump(mode="json"),
                "position": token.position,
                "threshold": token.threshold,
                "taken": token.text,
            },
        )
        for candidate in token.rejected
    ]
    return [*rejections, (TOKEN, token_report(token))]
