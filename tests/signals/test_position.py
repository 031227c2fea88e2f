"""The index in the answer."""

from __future__ import annotations

from saliency_guard.signals.position import position
from saliency_guard.signals.trace import AnswerTrace


def test_positions_count_from_zero(trace: AnswerTrace) -> None:
    assert position(trace).tolist() == [0, 1, 2, 3, 4, 5, 6]
