"""The closed classes of words are consistent with each other."""

from __future__ import annotations

import pytest

from saliency_guard.claims import english
from saliency_guard.claims.phrases import number_word, singular

CLASSES = (
    "ONE",
    "DEFINITE",
    "SEVERAL",
    "MEASURES",
    "FRAME",
    "PREPOSITIONS",
    "GRAMMAR",
    "VERBS",
    "NEGATIONS",
    "REPORTING",
)


@pytest.mark.parametrize("name", CLASSES)
def test_words_are_written_as_they_are_looked_up(name: str) -> None:
    words = getattr(english, name)
    assert words
    assert all(word == word.lower().strip() and " " not in word for word in words)


def test_an_article_a_determiner_and_a_preposition_are_told_apart() -> None:
    assert english.ONE.isdisjoint(english.DEFINITE)
    assert english.PREPOSITIONS.isdisjoint(english.VERBS)
    assert english.ONE.isdisjoint(english.NUMBERS)


def test_number_words_count_from_nothing() -> None:
    assert [english.NUMBERS[word] for word in ("no", "one", "ten", "twenty")] == [0, 1, 10, 20]
    assert [number_word(count) for count in (0, 2, 20, 21)] == ["no", "two", "twenty", "21"]
    assert english.ORDINALS.index("third") == 2


@pytest.mark.parametrize(("several", "single"), english.IRREGULAR_PLURALS.items())
def test_irregular_plurals_have_their_singular(several: str, single: str) -> None:
    assert singular(several) == single
    assert singular(f"wooden {several}") == f"wooden {single}"
