"""Eq. 6 as a signal."""

from __future__ import annotations

import math

import pytest
import tiny

from saliency_guard import score_answer
from saliency_guard.signals.saliency import saliency
from saliency_guard.signals.trace import AnswerTrace


def test_it_is_the_score_of_the_paper(trace: AnswerTrace) -> None:
    case = tiny.build("llava-gqa")
    expected = score_answer(case.model, case.inputs, trace.tokens.tolist()).saliency
    assert math.isnan(float(saliency(trace)[0]))
    assert saliency(trace)[1:].tolist() == pytest.approx(expected[1:].tolist(), rel=1e-4)
