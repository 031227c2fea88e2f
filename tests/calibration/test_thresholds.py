"""The thresholds that guarantees are tested for."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from saliency_guard.calibration.thresholds import THRESHOLDS


def test_they_are_even_steps_of_log_odds_from_the_most_lenient() -> None:
    odds = [math.log(value / (1 - value)) for value in THRESHOLDS]
    steps = [after - before for before, after in pairwise(odds)]
    assert len(THRESHOLDS) == 41
    assert steps == pytest.approx([0.25] * 40, abs=2e-3)
    assert (odds[0], odds[-1]) == pytest.approx((-3.0, 7.0), abs=2e-3)
