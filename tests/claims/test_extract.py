"""An answer taken apart: what is claimed, where it stands, and as which statement it is verified."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_guard.claims.extract import EnglishClaims


def taken_apart(text: str, question: str = "") -> list[tuple[str, str, str, bool]]:
    return [
        (claim.kind, text[claim.start : claim.stop], claim.statement, claim.negated)
        for claim in EnglishClaims()(text, question)
    ]


@pytest.mark.parametrize(
    ("text", "question", "expected"),
    [
        (
            "The image shows a dog, two cats and a pair of scissors. The dog is on the left.",
            "",
            [
                ("object", "dog", "There is a dog in the image.", False),
                ("number", "two", "There are two cats in the image.", False),
                ("object", "cats", "There are cats in the image.", False),
                ("object", "pair of scissors", "There is a pair of scissors in the image.", False),
                ("place", "on the left", "The dog is on the left.", False),
            ],
        ),
        (
            "Yes, there is a cat.",
            "Is there a cat in the image?",
            [
                ("yes_no", "Yes", "There is a cat in the image.", False),
                ("object", "cat", "There is a cat in the image.", False),
            ],
        ),
        (
            "No.",
            "Is the apple on the left? Answer yes or no.",
            [("yes_no", "No", "The apple is on the left.", True)],
        ),
        ("Three.", "How many cups are there?", [("number", "Three", "There are three cups in the image.", False)]),
        ("On the left.", "Where is the apple?", [("place", "On the left", "The apple is on the left.", False)]),
        ("On the left, there is a cup and an apple.", "", [
            ("place", "On the left", "The cup is on the left.", False),
            ("place", "On the left", "The apple is on the left.", False),
            ("object", "cup", "There is a cup in the image.", False),
            ("object", "apple", "There is an apple in the image.", False),
        ]),
        ("At the bottom, there is no cup.", "", [
            ("place", "At the bottom", "The cup is at the bottom.", True),
            ("object", "no cup", "There is a cup in the image.", True),
        ]),
        ("The left side shows a cup.", "", [
            ("statement", "The left side shows a cup.", "The left side shows a cup.", False),
            ("object", "cup", "There is a cup in the image.", False),
        ]),
        ("No.", "Is there a dog or a tie? Answer yes or no.", [("statement", "No", "There is a dog or a tie.", True)]),
        ("Yes.", "Is there no dog in the image?", [("statement", "Yes", "There is no dog in the image.", False)]),
        ("There is no bird.", "", [("object", "no bird", "There is a bird in the image.", True)]),
        ("I do not see any birds.", "", [("object", "birds", "There are birds in the image.", True)]),
        ("No picture shows a dog.", "", [("object", "dog", "There is a dog in the image.", True)]),
        ("The cup is not on the left.", "", [
            ("object", "cup", "There is a cup in the image.", False),
            ("place", "on the left", "The cup is on the left.", True),
        ]),
        ("It was built in 1889 in Paris.", "", [
            ("statement", "It was built in 1889 in Paris.", "It was built in 1889 in Paris.", False)
        ]),
        ("I can not tell what this picture shows.", "", []),
        ("I can't see a dog in the image.", "Is there a dog in the image?", []),
        ("I am not sure, but there is a zebra.", "", [
            ("statement", "I am not sure, but there is a zebra.", "I am not sure, but there is a zebra.", False)
        ]),
        ("", "Is there a cat?", []),
    ],
)  # fmt: skip
def test_claims(text: str, question: str, expected: list[tuple[str, str, str, bool]]) -> None:
    assert taken_apart(text, question) == expected


def test_a_sentence_that_says_more_is_a_claim_of_its_own() -> None:
    kinds = [kind for kind, *_ in taken_apart("A black cat is sleeping on a couch.")]
    assert sorted(kinds) == ["object", "object", "place", "statement"]


@pytest.mark.parametrize(
    ("question", "text", "kind", "picture"),
    [
        ("Does picture 1 show a vase?", "Yes, picture 2 shows a vase.", "yes_no", 0),
        ("Does picture 1 show a vase?", "Yes.", "yes_no", 0),
        ("Is there a vase?", "Yes, picture 2 shows a vase.", "yes_no", 1),
        ("Does any picture show a vase?", "Yes, picture 2 shows a vase.", "yes_no", 1),
        ("Is there a vase in both pictures?", "Yes, there is a vase in picture 1.", "statement", None),
        ("Is there a vase in every image?", "No, there is no vase in picture 2.", "statement", None),
        ("Do all of the photos show a vase?", "Yes.", "statement", None),
        ("Do all three images contain a vase?", "Yes.", "statement", None),
        ("Are all apples red?", "Yes.", "yes_no", None),
    ],
)
def test_a_yes_is_about_the_pictures_that_the_question_names(
    question: str, text: str, kind: str, picture: int | None
) -> None:
    yes = EnglishClaims()(text, question)[0]
    assert (yes.kind, yes.picture) == (kind, picture)


@pytest.mark.parametrize("text", ["0\u00b2", "picture 0\u00b2", "How many \u0663 dogs?", "picture \u0663"])
def test_digits_of_other_kinds_are_no_numbers(text: str) -> None:
    assert all(claim.number is None for claim in EnglishClaims()(text, text))


def test_what_was_named_is_not_claimed_again() -> None:
    text = "There is a black cat and a cup. The cat is on the left."
    assert [kind for kind, *_ in taken_apart(text)] == ["object", "object", "place"]


@pytest.mark.parametrize(
    ("text", "question", "picture"),
    [
        ("Picture 2 shows a cow.", "", 1),
        ("The third image shows a cow.", "", 2),
        ("It shows a cow.", "What does picture 4 show?", 3),
        ("Pictures show a cow.", "", None),
        ("Picture 1 shows a cow that picture 2 does not show.", "", None),
    ],
)
def test_the_picture_that_is_named(text: str, question: str, picture: int | None) -> None:
    claims = EnglishClaims()(text, question)
    assert {claim.picture for claim in claims if claim.noun == "cow"} == {picture}


@given(st.text(max_size=200), st.text(max_size=60))
@settings(deadline=None)
def test_any_text_gives_claims_that_lie_in_it(text: str, question: str) -> None:
    claims = EnglishClaims()(text, question)
    assert all(0 <= claim.start < claim.stop <= len(text) for claim in claims)
    assert all(claim.statement.strip() for claim in claims)
    assert claims == sorted(claims, key=lambda claim: (claim.start, claim.stop))


WORDS = (
    "a",
    "the",
    "two",
    "no",
    "dog",
    "cat",
    "is",
    "not",
    "on",
    "left",
    ",",
    ".",
    "there",
    "picture",
    "yes",
    "and",
    "of",
)


@given(st.lists(st.sampled_from(WORDS), max_size=30))
@settings(deadline=None)
def test_words_in_any_order_are_taken_apart(words: list[str]) -> None:
    text = " ".join(words)
    assert all(0 <= claim.start < claim.stop <= len(text) for claim in EnglishClaims()(text, ""))
