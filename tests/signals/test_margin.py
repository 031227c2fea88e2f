"""The margin between the two most probable tokens."""

from __future__ import annotations

import pytest

from saliency_guard.signals.margin import margin
from saliency_guard.signals.trace import AnswerTrace


def test_margin_is_between_the_two_most_probable_tokens(trace: AnswerTrace) -> None:
    for probabilities, value in zip(trace.logits.softmax(-1).tolist(), margin(trace).tolist(), strict=True):
        first, second = sorted(probabilities, reverse=True)[:2]
        assert value == pytest.approx(first - second, rel=1e-3, abs=1e-6)
