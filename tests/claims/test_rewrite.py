"""An answer without some of its claims is made of whole English sentences that claim nothing new."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_guard.claims.extract import EnglishClaims
from saliency_guard.claims.phrases import singular
from saliency_guard.claims.rewrite import rewritten, with_dependents
from saliency_guard.scenes.claims import is_true, world_claims
from saliency_guard.scenes.language import caption
from saliency_guard.scenes.scene import sample_scene

TEXT = "In the image, there are two dogs, a cat and an apple. The cat is on the left. The apple is below the cat."


def without(text: str, *pieces: str, question: str = "") -> str:
    claims = EnglishClaims()(text, question)
    spans = [text[claim.start : claim.stop] for claim in claims]
    return rewritten(text, claims, {spans.index(piece) for piece in pieces})


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((), TEXT),
        (("two",), TEXT.replace("there are two dogs", "there is at least one dog")),
        (
            ("two", "dogs"),
            "In the image, there is a cat and an apple. The cat is on the left. The apple is below the cat.",
        ),
        (("cat",), "In the image, there are two dogs and an apple."),
        (("apple",), "In the image, there are two dogs and a cat. The cat is on the left."),
        (("on the left",), "In the image, there are two dogs, a cat and an apple. The apple is below the cat."),
        (("dogs", "cat"), "In the image, there is an apple."),
        (("dogs", "cat", "apple"), ""),
    ],
)
def test_lists_and_places(pieces: tuple[str, ...], expected: str) -> None:
    assert without(TEXT, *pieces) == expected


def test_an_answer_to_a_question_goes_with_its_yes_or_no() -> None:
    text = "Yes, there are two cats in the image."
    assert without(text, "Yes", question="Is there a cat?") == ""
    assert without(text, "two", question="Is there a cat?") == "Yes, there is at least one cat in the image."


def test_sentences_that_say_more_are_left_out_whole() -> None:
    text = "A black cat is sleeping on a couch. The couch is red."
    assert without(text, "A black cat is sleeping on a couch.") == "The couch is red."
    assert without("There is a dog on the left.", "on the left") == "There is a dog."
    assert without("There is no dog. There is a cat.", "no dog") == "There is a cat."


def test_a_relation_is_no_list_of_things() -> None:
    text = "There is an apple. The apple is to the left of the keyboard."
    assert without(text, "to the left of the keyboard") == "There is an apple."
    assert without("The apple is to the left of the keyboard.", "to the left of the keyboard") == ""
    assert (
        without("There is an apple to the left of the keyboard.", "to the left of the keyboard") == "There is an apple."
    )


def test_what_hangs_on_a_missing_thing_goes_too() -> None:
    claims = EnglishClaims()(TEXT)
    cat = next(index for index, claim in enumerate(claims) if claim.kind == "object" and claim.noun == "cat")
    gone = with_dependents(claims, {cat})
    assert {claims[index].place for index in gone if claims[index].kind == "place"} == {"on the left", "below"}


@given(st.integers(500_000, 500_300), st.data())
@settings(max_examples=60, deadline=None)
def test_true_captions_stay_true_whatever_is_left_out(seed: int, data: st.DataObject) -> None:
    scene = sample_scene(seed)
    text = caption(scene, random.Random(seed))
    claims = world_claims(text)
    if not claims:
        return
    dropped = data.draw(st.sets(st.integers(0, len(claims) - 1)))
    left = rewritten(text, claims, dropped)
    assert left == "" or left.endswith(".")
    said = {(claim.kind, singular(claim.noun)) for claim in claims}
    for claim in world_claims(left):
        assert is_true(claim, scene), left
        assert (claim.kind, singular(claim.noun)) in said
    if len(with_dependents(claims, dropped)) == len(claims):
        assert left == ""
