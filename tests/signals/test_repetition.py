"""Earlier occurrences of a token."""

from __future__ import annotations

from saliency_guard.signals.repetition import repetition
from saliency_guard.signals.trace import AnswerTrace


def test_earlier_occurrences_are_counted(trace: AnswerTrace) -> None:
    assert trace.tokens.tolist() == [5, 9, 5, 11, 5, 9, 13]
    assert repetition(trace).tolist() == [0, 0, 1, 0, 2, 1, 0]
