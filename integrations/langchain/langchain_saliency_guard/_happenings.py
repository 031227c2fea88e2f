"""What happens while an answer is written, as custom events."""

from __future__ import annotations

from typing import Any

from langchain_saliency_guard._events import REJECTION, REPORT, RETRY, TOKEN
from saliency_guard import Attempt, TokenGrounding
from saliency_guard.adapters.run import Happening, token_report

Event = tuple[str, dict[str, Any]]


class Events:
    """The events of one answer, from what happens."""

    def __init__(self) -> None:
        self._refused: list[Event] = []
        self._told = 0

    def of(self, happening: Happening) -> list[Event]:
        """What to tell of it; a retry is told once it is known that there is one."""
        if isinstance(happening, TokenGrounding):
            self._told += 1
            return _of_token(happening)
        if isinstance(happening, Attempt):
            told, self._refused = self._refused, []
            number = self._told
            self._told += 1
            if happening.refused is not None:
                data = {
                    "attempt": number,
                    "score": happening.score,
                    "refused": happening.refused,
                    "text": happening.answer.text,
                }
                self._refused = [(RETRY, data)]
            return told
        tokens = happening.answer.tokens if happening.outcome is not None and happening.answer is not None else ()
        events = [event for token in tokens for event in _of_token(token)]
        return [*events, (REPORT, happening.report)]


def _of_token(token: TokenGrounding) -> list[Event]:
    rejections = [
        (
            REJECTION,
            {
                **one.model_dump(mode="json"),
                "position": token.position,
                "threshold": token.threshold,
                "taken": token.text,
            },
        )
        for one in token.rejected
    ]
    return [*rejections, (TOKEN, token_report(token))]
