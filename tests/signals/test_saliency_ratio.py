"""Saliency over that of the tokens before."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from saliency_guard.signals.saliency_ratio import saliency_ratio
from saliency_guard.signals.trace import AnswerTrace


def scored(trace: AnswerTrace, *scores: float) -> list[float]:
    changed = dataclasses.replace(trace.scores, saliency=torch.tensor(scores))
    return saliency_ratio(dataclasses.replace(trace, scores=changed)).tolist()


def test_a_token_is_compared_with_the_mean_of_the_five_before_it(trace: AnswerTrace) -> None:
    ratios = scored(trace, math.nan, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert [math.isnan(ratio) for ratio in ratios] == [True, True, *[False] * 5]
    assert ratios[2:] == pytest.approx([2.0, 3 / 1.5, 4 / 2, 5 / 2.5, 6 / 3])
    assert scored(trace, math.nan, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0)[7] == pytest.approx(2.0)


def test_over_nothing_there_is_no_ratio(trace: AnswerTrace) -> None:
    assert math.isnan(scored(trace, math.nan, 0.0, 2.0)[2])
