"""The share of all pictures."""

from __future__ import annotations

import pytest
import tiny

from saliency_guard.signals.image_share import image_share
from saliency_guard.signals.trace import AnswerTrace, trace_answer


def test_the_shares_of_two_pictures_are_added(trace: AnswerTrace) -> None:
    shares = trace.scores.shares
    assert trace.layout.visual_sources == {"image_0", "image_1"}
    assert image_share(trace).tolist() == pytest.approx((shares["image_0"] + shares["image_1"]).tolist())
    assert float(shares["image_1"].min()) > 0


def test_without_a_picture_it_is_nothing() -> None:
    case = tiny.build("llava-gqa")
    ids = case.inputs["input_ids"][:, [0, 1, 6, 7]]
    text = trace_answer(case.model, {"input_ids": ids}, [5, 9])
    assert image_share(text).tolist() == [0.0, 0.0]
