"""Claims of a text are found where they stand, and checked."""

from __future__ import annotations

import pytest

from saliency_guard.evaluation.claims import number_claimed, objects_claimed, yes_claimed
from saliency_guard.evaluation.mentions import ObjectVocabulary


def test_objects() -> None:
    text = "There are two cats and a dog."
    found = objects_claimed(text, shown=frozenset({"cat"}), vocabulary=ObjectVocabulary.world())
    assert [(text[one.start :].split(maxsplit=1)[0].strip("."), one.grounded) for one in found] == [
        ("cats", True),
        ("dog", False),
    ]


@pytest.mark.parametrize(
    ("text", "truth", "name", "grounded"),
    [("Yes, there is.", True, "yes", True), ("No.", True, "no", False), ("It is not.", False, "no", True)],
)
def test_yes_and_no(text: str, name: str, *, truth: bool, grounded: bool) -> None:
    (found,) = yes_claimed(text, truth=truth)
    assert (found.start, found.name, found.grounded) == (0, name, grounded)
    assert yes_claimed(" ", truth=True) == []


@pytest.mark.parametrize(
    ("text", "truth", "grounded"),
    [
        ("There are two cats.", 2, True),
        ("There are 3 of them.", 2, False),
        ("There is one.", 1, True),
        ("A cat.", 1, True),
    ],
)
def test_numbers(text: str, truth: int, *, grounded: bool) -> None:
    (found,) = number_claimed(text, truth=truth)
    assert found.grounded is grounded
    assert number_claimed("Many.", truth=3) == []
