from __future__ import annotations

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_guard.scenes.scene import Scene, SceneObject, sample_scene
from saliency_guard.scenes.statements import KINDS, PLACES, is_at, statement, things_at
from saliency_guard.scenes.vocabulary import CLASSES, counted, number, plural, singular

SEEDS = st.integers(0, 2**31)
PHRASES = {counted(name, count): (name, count) for name in CLASSES for count in range(1, 10)}
NUMBERED = {
    f"{number(count)} {singular(name) if count == 1 else plural(name)}": (name, count)
    for name in CLASSES
    for count in range(1, 10)
}
SINGLES = {singular(name): name for name in CLASSES}


def thing(name: str, x: float, y: float) -> SceneObject:
    return SceneObject(name, "", x, y, 0.2, 0.0, mirrored=False, tint=(1.0, 1.0, 1.0))


def scene_of(*things: SceneObject) -> Scene:
    return Scene(0, "noto", "farm", things)


def holds(scene: Scene, kind: str, text: str) -> bool:
    """Whether a statement is so, read from its words alone."""
    if kind == "object":
        phrase = re.search(r"(?:shows|is) (an? [\w ]+?)(?: in the image| in this picture)?\.", text)
        assert phrase, text
        return PHRASES[phrase[1]][0] in scene.counts
    if kind == "number":
        phrase = re.search(r"There (?:is|are) (?:exactly |precisely )?([\w ]+?)(?: in the image)?\.", text)
        assert phrase, text
        name, count = NUMBERED[phrase[1]]
        return scene.counts.get(name, 0) == count
    if kind == "place":
        phrase = re.fullmatch(r"The ([\w ]+?) is ((?:at|on|in) [\w ]+)\.", text)
        assert phrase, text
        words = set(phrase[2].split()) & {"left", "right", "top", "bottom", "center"}
        there = [thing for thing in scene.objects if thing.name == SINGLES[phrase[1]]]
        return any(words <= set(thing.place.split()) for thing in there)
    if kind == "relation":
        phrase = re.fullmatch(r"The ([\w ]+) is (to the left of|to the right of|above|below) the ([\w ]+)\.", text)
        assert phrase, text
        a, b = (
            next(thing for thing in scene.objects if thing.name == SINGLES[noun]) for noun in (phrase[1], phrase[3])
        )
        return {"to the left of": a.x < b.x, "to the right of": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}[
            phrase[2]
        ]
    inner = re.sub(r"^(The image shows|In the image, there (is|are)|This is a picture of|There (is|are)) ", "", text)
    phrases = re.split(r", | and ", inner.removesuffix(".").removesuffix(" in the image"))
    return all(scene.counts.get(PHRASES[phrase_][0], 0) == PHRASES[phrase_][1] for phrase_ in phrases)


@given(SEEDS, st.sampled_from(KINDS), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_statement_is_true_or_false_as_it_says(seed: int, kind: str, truth: bool) -> None:
    scene, rng = sample_scene(seed), random.Random(seed)
    made = statement(scene, rng, kind, truth=truth)  # type: ignore[arg-type]
    if made is None:
        return
    assert made.truth == truth
    assert holds(scene, kind, made.text) == truth, (made.text, scene.counts)
    assert made.answer.startswith("Yes, " if truth else "No, ")
    assert made.question.endswith("?")
    again = statement(scene, random.Random(seed), kind, truth=truth)  # type: ignore[arg-type]
    assert again == made


def test_most_scenes_allow_every_kind() -> None:
    for kind in KINDS:
        made = [statement(sample_scene(seed), random.Random(seed), kind, truth=seed % 2 == 0) for seed in range(200)]
        assert sum(each is not None for each in made) > 90, kind


def test_places_are_meant_as_people_mean_them() -> None:
    corner = thing("apple", 0.1, 0.1)
    assert corner.place == "at the top left"
    assert [place for place in PLACES if is_at(corner, place)] == ["at the top left", "at the top", "on the left"]
    middle = thing("apple", 0.5, 0.5)
    assert [place for place in PLACES if is_at(middle, place)] == ["in the center"]
    edge = thing("apple", 0.9, 0.5)
    assert [place for place in PLACES if is_at(edge, place)] == ["on the right"]
    scene = scene_of(thing("dog", 0.1, 0.9), thing("apple", 0.2, 0.5), thing("dog", 0.3, 0.1), thing("cat", 0.9, 0.9))
    assert things_at(scene, "on the left") == {"dog": 2, "apple": 1}
    assert list(things_at(scene, "at the bottom")) == ["cat", "dog"]


def test_what_is_so_instead_is_said() -> None:
    scene = scene_of(thing("dog", 0.1, 0.5), thing("apple", 0.9, 0.5), thing("apple", 0.9, 0.1))
    number_ = statement(scene, random.Random(1), "number", truth=False)
    assert number_ is not None
    assert number_.answer in {"No, there is a dog in the image.", "No, there are two apples in the image."}
    seen = {
        made.answer
        for seed in range(60)
        if (made := statement(scene, random.Random(seed), "place", truth=False)) is not None
    }
    assert "No, the dog is on the left." in seen
    assert any(re.fullmatch(r"No, there is no [\w ]+ in the image\.", answer) for answer in seen)
