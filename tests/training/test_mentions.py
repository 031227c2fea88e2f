from __future__ import annotations

import pytest

from saliency_guard.scenes.scene import Scene, sample_scene
from saliency_guard.scenes.vocabulary import CLASSES, plural, singular
from saliency_guard.training.mentions import COUNTS, MOST_PICTURES, STEPS, labels, mentions
from saliency_guard.training.pictures import IGNORED


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Is the teddy bear to the left of two pairs of scissors?", ["teddy bear", "scissors"]),
        ('{"has_teddy_bear": true, "number_of_wine_glasses": 2}', ["teddy bear", "wine glass"]),
        ("How many People, and a hot dog or a dog?", ["person", "hot dog", "dog"]),
        ("A scarf for the carpet of the category.", []),
    ],
)
def test_names_of_things_are_found_in_sentences_and_in_keys(text: str, names: list[str]) -> None:
    named = mentions(text)
    assert [name for _, name in named] == names
    assert all(text[:end].lower().replace("_", " ").endswith((name, plural(name)[-5:])) for end, name in named)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_found_in_its_forms(name: str) -> None:
    for form in (name, singular(name), plural(name)):
        assert [each for _, each in mentions(f"the {form}.")] == [name]


def _scene(least: int) -> Scene:
    return next(scene for seed in range(1000) if len((scene := sample_scene(seed)).objects) >= least)


def test_what_is_to_be_known_of_a_thing() -> None:
    scene = _scene(4)
    for name, count in scene.counts.items():
        known = labels(name, [scene, None])
        assert known[:2] == (count, 0)
        assert known[2:MOST_PICTURES] == (IGNORED,) * 2
        assert max(known) < max(COUNTS, STEPS)
        if count == 1:
            thing = next(thing for thing in scene.objects if thing.name == name)
            assert known[-2] / STEPS <= thing.x < (known[-2] + 1) / STEPS
            assert known[-1] / STEPS <= thing.y < (known[-1] + 1) / STEPS
            assert labels(name, [scene, scene])[-2:] == (IGNORED, IGNORED), "two of them are at no one place"
        else:
            assert known[-2:] == (IGNORED, IGNORED)
    absent = next(name for name in CLASSES if name not in scene.counts)
    assert labels(absent, [scene]) == (0, *[IGNORED] * (MOST_PICTURES - 1), IGNORED, IGNORED)
