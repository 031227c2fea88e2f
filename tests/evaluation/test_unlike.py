"""Pictures unlike the world's, and what is known of them."""

from __future__ import annotations

import pytest

from saliency_guard import InputError
from saliency_guard.evaluation import unlike
from saliency_guard.evaluation.unlike import (
    PHOTOGRAPHS,
    SYNTHETIC,
    Photograph,
    photograph_questions,
    synthetic_picture,
    synthetic_questions,
)
from saliency_guard.scenes.claims import world_claims
from saliency_guard.scenes.vocabulary import CLASSES

SKLEARN = tuple(each for each in PHOTOGRAPHS if each.package == "sklearn")


def test_all_photographs_are_there_and_their_labels_are_classes() -> None:
    for photograph in PHOTOGRAPHS:
        assert photograph.file is not None, photograph
        assert {*photograph.shown, *photograph.unsure} <= {*CLASSES, "boat", "bowl", "bench", "bicycle"} | set(
            unlike.class_names().values()
        )
        assert not set(photograph.shown) & set(photograph.unsure)
    assert Photograph("skimage", "data/none.png").file is None
    assert Photograph("no_such_package", "x.png").file is None


def test_what_is_known_of_a_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    cat = Photograph("skimage", "data/chelsea.png", ("cat",), ("dog",))
    monkeypatch.setattr(unlike, "PHOTOGRAPHS", (cat,))
    asked = list(photograph_questions(crops=1))
    whole = [each for each in asked if each.picture == "skimage/data/chelsea.png"]
    part = [each for each in asked if each.picture.endswith("part 1")]
    assert [each.question for each in whole][1] == "Is there a cat in the image?"

    def truths(each: unlike.Question, text: str) -> list[bool | None]:
        return [each.check(claim) for claim in world_claims(text, each.question)]

    assert truths(whole[0], "There is a cat and a truck in the image.") == [True, False]
    assert truths(whole[0], "There is a dog in the image.") == [None]  # Not labelled.
    assert truths(whole[0], "There are two cats.") == [None, True]  # How many is not labelled, that there are is.
    assert truths(whole[0], "There are two trucks.") == [False, False]
    assert truths(whole[1], "Yes.") == [True]
    assert truths(whole[1], "No.") == [False]
    assert truths(whole[2], "Yes.") == [False]
    assert truths(part[0], "There is a cat and a truck in the image.") == [None, False]
    assert "cat" not in " ".join(each.question for each in part)


def test_without_photographs_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlike, "PHOTOGRAPHS", (Photograph("no_such_package", "x.png"),))
    with pytest.raises(InputError, match="install scikit-image"):
        next(photograph_questions())


@pytest.mark.parametrize("kind", SYNTHETIC)
def test_synthetic_pictures_are_the_same_every_time(kind: str) -> None:
    assert synthetic_picture(3, kind).tobytes() == synthetic_picture(3, kind).tobytes()
    assert synthetic_picture(3, kind).tobytes() != synthetic_picture(4, kind).tobytes()
    assert synthetic_picture(3, kind).size == (224, 224)


def test_nothing_is_on_synthetic_pictures() -> None:
    asked = list(synthetic_questions(2))
    assert len({each.picture for each in asked}) == 2
    (claim,) = world_claims("There is a cat in the image.")
    assert asked[0].check(claim) is False
    assert [asked[1].check(claim) for claim in world_claims("No.", asked[1].question)] == [True]
