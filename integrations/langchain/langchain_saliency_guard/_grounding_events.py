"""The custom events of one answer, from the events of its run."""

from __future__ import annotations

from typing import Any

from langchain_saliency_guard._events import REJECTION, REPORT, RETRY, TOKEN
from saliency_guard import Attempt, TokenGrounding
from saliency_guard.adapters import RunEvent, token_report

Event = tuple[str, dict[str, Any]]


class GroundingEvents:
    """Custom events of one answer."""

    def __init__(self) -> None:
        self._retry: list[Event] = []
        self._seen = 0

    def of(self, event: RunEvent) -> list[Event]:
        """The custom events to send for a run's event; a retry is sent once the next attempt is made."""
        if isinstance(event, TokenGrounding):
            self._seen += 1
            return _of_token(event)
        if isinstance(event, Attempt):
            retry, self._retry = self._retry, []
            number = self._seen
            self._seen += 1
            if not event.accepted:
                data = {"attempt": number, "score": event.score, "refused": event.problem, "text": event.answer.text}
                self._retry = [(RETRY, data)]
            return retry
        tokens = event.answer.tokens if event.outcome is not None and event.answer is not None else ()
        return [*(of_token for token in tokens for of_token in _of_token(token)), (REPORT, event.report)]


def _of_token(token: TokenGrounding) -> list[Event]:
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
