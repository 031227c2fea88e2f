"""The nouns of the picture world."""

from __future__ import annotations

from saliency_guard.scenes.vocabulary import (
    CLASSES,
    NEVER_DRAWN,
    SCENE_TYPES,
    counted,
    plural,
    with_article,
)


def test_the_nouns_are_consistent() -> None:
    assert {name for names in SCENE_TYPES.values() for name in names} == set(CLASSES)
    assert not set(CLASSES) & set(NEVER_DRAWN)
    assert with_article("apple") == "an apple"
    assert with_article("scissors") == "a pair of scissors"
    assert with_article("umbrella") == "an umbrella"
    assert plural("knife") == "knives"
    assert counted("person", 3) == "three people"
    assert counted("skis", 2) == "two pairs of skis"
    assert counted("bus", 0) == "no bus"
