from __future__ import annotations

import math

import pytest

from saliency_guard.evaluation.chair import chair, score_caption
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.pope import pope, says_yes

WORLD = ObjectVocabulary.world()


def test_chair_counts_mentions_sentences_and_objects() -> None:
    one = score_caption("A dog and a cat. The dog is on the left.", {"dog", "car"}, WORLD)
    assert (one.mentioned, one.hallucinated, one.found, one.shown, one.words) == (3, 1, 1, 2, 11)
    two = score_caption("Two cars.", {"car"}, WORLD)
    result = chair([one, two])
    assert result == {"chair_s": 0.5, "chair_i": 0.25, "recall": 2 / 3, "words": 6.5}


def test_chair_of_nothing_is_no_number() -> None:
    assert all(math.isnan(value) for value in chair([]).values())
    silent = chair([score_caption("Nothing here.", {"dog"}, WORLD)])
    assert math.isnan(silent["chair_i"])
    assert silent["recall"] == 0


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
