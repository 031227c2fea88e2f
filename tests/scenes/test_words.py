"""Made-up texts: the same for the same random numbers, and about nothing that a picture shows."""

from __future__ import annotations

import random

import pytest

from saliency_guard.scenes import words
from saliency_guard.scenes.vocabulary import CLASSES


@pytest.mark.parametrize("make", [words.coined, words.value, words.sentence])
def test_random_numbers_decide(make: object) -> None:
    def several(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [make(rng) for _ in range(30)]  # type: ignore[operator]

    assert several(1) == several(1)
    assert several(1) != several(2)
    assert len(set(several(1))) > 10


def test_values_are_of_all_kinds() -> None:
    rng = random.Random(0)
    values = [words.value(rng) for _ in range(400)]
    assert all(value.strip() == value and value for value in values)
    assert any(value.isdigit() for value in values)
    assert any(value in words.CITIES for value in values)
    assert any(value.split()[0].isdigit() and value.split()[-1] == "euros" for value in values)


def test_sentences_are_sentences() -> None:
    rng = random.Random(0)
    made = [words.sentence(rng) for _ in range(100)]
    assert all(text[0].isupper() and text[-1] in ".:!" for text in made)


def test_a_preamble_has_as_many_sentences_as_asked_for() -> None:
    for count in (1, 4):
        text = words.preamble(random.Random(3), count)
        assert sum(text.count(end) for end in ".:!") == count
        assert text.strip() == text


def test_a_jumble_holds_no_thing_that_is_drawn() -> None:
    drawn = set(CLASSES)
    things = {word for group in (words.NAMES, words.CITIES, words.DAYS, words.MONTHS, words.ROOMS) for word in group}
    assert not drawn & things
    assert len(words.jumble(random.Random(1), 40).split()) >= 40
