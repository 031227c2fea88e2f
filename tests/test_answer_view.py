"""What is shown beside an answer is immutable, checked, and quiet about its bytes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from saliency_guard.answer_view import AnswerView, HeatMap, PictureView


def test_views_are_frozen_and_checked() -> None:
    view = AnswerView(question="What?")
    with pytest.raises(ValidationError, match="frozen"):
        view.question = "Why?"
    with pytest.raises(ValidationError):
        HeatMap(source="saliency", layer=None, peaks=(float("nan"),), values=b"")
    with pytest.raises(ValidationError):
        HeatMap(source="gradient", layer=None, peaks=(), values=b"")
    with pytest.raises(ValidationError):
        PictureView(source="image_0", width=1, height=1, jpeg=b"", positions=1, patches=((0.0, 0.0, 2.0, 1.0),))


def test_bytes_are_not_printed() -> None:
    heat = HeatMap(source="saliency", layer=3, peaks=(0.5,), values=b"\x00\xff")
    assert repr(heat) == "HeatMap(source='saliency', layer=3)"
