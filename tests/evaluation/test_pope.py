"""POPE's rule and metrics."""

from __future__ import annotations

import math

import pytest

from saliency_guard.evaluation.pope import pope, says_yes


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("Yes", True),
        ("yes, there is a dog.", True),
        ("No", False),
        ("No, there is no dog in the image.", False),
        ("There is not a dog here.", False),
        ("There isn't one.", True),
        ("Yes. No doubt about it.", True),
        ("I know it: a notebook", True),
        ("", True),
    ],
)
def test_answers_are_read_as_pope_reads_them(answer: str, *, yes: bool) -> None:
    assert says_yes(answer) is yes


def test_pope_metrics() -> None:
    result = pope([(True, True), (True, False), (False, False), (False, True), (True, True)])
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["precision"] == pytest.approx(2 / 3)
    assert result["recall"] == pytest.approx(2 / 3)
    assert result["f1"] == pytest.approx(2 / 3)
    assert result["yes"] == pytest.approx(3 / 5)
    assert result["questions"] == 5
    assert math.isnan(pope([])["accuracy"])
