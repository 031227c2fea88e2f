"""Sentences taken apart by rule: noun phrases, places, numbers, negations, and what a question asks."""

from __future__ import annotations

from typing import Any

import pytest

from saliency_guard.claims.phrases import (
    abstains,
    counted_noun,
    last_line,
    picture_named,
    question_as_statement,
    sentences,
    singular,
    with_article,
    yes_statement,
)


def only(text: str) -> Any:
    (sentence,) = sentences(text)
    return sentence


def test_sentences_end_at_full_stops_and_not_inside_numbers() -> None:
    text = "It costs 3.50 euros. Is it new? Yes!\nA list"
    assert [sentence.text for sentence in sentences(text)] == ["It costs 3.50 euros.", "Is it new?", "Yes!", "A list"]
    assert all(text[sentence.start :].startswith(sentence.text) for sentence in sentences(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There are two black dogs and a bowl of fruit.", [("black dogs", 2, True), ("bowl of fruit", None, False)]),
        ("Several cats sit on the couch.", [("cats", None, True), ("couch", None, False)]),
        ("There is no bird.", [("bird", 0, False)]),
        ("A dog sleeping on a mat.", [("dog", None, False), ("mat", None, False)]),
        ("The image shows the left side.", []),
    ],
)
def test_noun_phrases(text: str, expected: list[tuple[str, int | None, bool]]) -> None:
    phrases = only(text).noun_phrases
    assert [(phrase.noun, phrase.number, phrase.plural) for phrase in phrases] == expected
    for phrase in phrases:
        assert text[phrase.noun_start : phrase.stop] == phrase.noun
        assert phrase.start == phrase.determiner[0] < phrase.determiner[1] <= phrase.noun_start


def test_what_a_sentence_denies() -> None:
    def negated(text: str) -> list[bool]:
        return [phrase.negated for phrase in only(text).noun_phrases]

    assert negated("There is no bird and a cat.") == [True, False]
    assert negated("I do not see any birds, but a cat.") == [True, False]
    assert negated("There isn't a dog.") == [True]
    assert negated("The cat is not on the mat.") == [False, False]  # Both are there.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The dog is on the left.", [("on the left", "dog", "")]),
        ("The dog is on the left of the image.", [("on the left", "dog", "")]),
        ("A cat sits next to the dog.", [("next to", "cat", "dog")]),
        ("The cups are to the left of the plate.", [("to the left of", "cups", "plate")]),
        ("There is a dog.", []),
    ],
)
def test_places(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(place.words, place.subject, place.other) for place in only(text).places] == expected


@pytest.mark.parametrize(
    ("text", "picture"),
    [
        ("Picture 2 shows a cow.", 1),
        ("The third image shows a cow.", 2),
        ("photo number four", 3),
        ("picture 1 and picture 2", None),
        ("picture 0", None),
        ("a picture", None),
    ],
)
def test_the_picture_that_a_text_names(text: str, picture: int | None) -> None:
    assert picture_named(text) == picture


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("Is there a cat in the image?", "There is a cat in the image."),
        ("Are there two dogs? Answer yes or no.", "There are two dogs."),
        ("Is the apple on the left?", "The apple is on the left."),
        ("Can you see a bus?", "The image shows a bus."),
        ("Does the picture show a dog?", "The picture shows a dog."),
        ("Is this true: There is a cat.", "There is a cat."),
        ("True or false: the cat is red", "The cat is red."),
        ("What is it?", ""),
        ("", ""),
    ],
)
def test_the_statement_that_a_yes_makes_of_a_question(question: str, statement: str) -> None:
    assert question_as_statement(question) == statement


def test_what_is_counted() -> None:
    assert counted_noun("How many red cups are there?") == "red cups"
    assert counted_noun("how many dogs?") == "dogs"
    assert counted_noun("Where is the dog?") == ""


def test_sentences_that_claim_nothing() -> None:
    assert abstains("I can not tell what this is.")
    assert abstains("I'm not sure.")
    assert not abstains("The cat is not on the mat.")


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("dogs", "dog"), ("cherries", "cherry"), ("boxes", "box"), ("glasses", "glass"), ("bus", "bus"),
     ("grass", "grass"), ("pairs of skis", "pair of skis"), ("watches", "watch"), ("brushes", "brush")],
)  # fmt: skip
def test_singulars(noun: str, expected: str) -> None:
    assert singular(noun) == expected


def test_articles() -> None:
    assert [with_article(noun) for noun in ("apple", "dog", "owl")] == ["an apple", "a dog", "an owl"]


def test_the_span_of_a_sentence_ends_with_its_last_character() -> None:
    text = " A cat.  A dog. "
    assert [text[slice(*sentence.span)] for sentence in sentences(text)] == ["A cat.", "A dog."]


def test_what_a_yes_says_names_the_question_where_its_form_is_not_known() -> None:
    assert last_line("Read this.\n\nIs there a cat? \n") == "Is there a cat?"
    assert last_line("  ") == ""
    assert yes_statement("Is there a cat?") == "There is a cat."
    assert yes_statement("Would it float?") == "The answer to this question is yes: Would it float?"
