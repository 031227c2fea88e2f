"""Claims about scenes against what the scenes' own sentences say: two ways to the same truth."""

from __future__ import annotations

import random

import pytest

from saliency_guard.scenes import statements
from saliency_guard.scenes.claims import is_true, world_claims
from saliency_guard.scenes.language import (
    caption,
    counted_otherwise,
    described_otherwise,
    how_many,
    negatives,
    presence,
    present_otherwise,
    where,
)
from saliency_guard.scenes.scene import Scene, sample_scene

SEEDS = range(500_000, 500_150)


def truths(text: str, question: str, scene: Scene, *, answer: bool | None = None) -> list[bool | None]:
    return [is_true(claim, scene, answer=answer) for claim in world_claims(text, question)]


@pytest.mark.parametrize("kind", statements.KINDS)
@pytest.mark.parametrize("truth", [True, False])
def test_statements_are_as_true_as_they_were_made(kind: statements.Kind, *, truth: bool) -> None:
    checked = 0
    for seed in SEEDS:
        scene = sample_scene(seed)
        made = statements.statement(scene, random.Random(seed), kind, truth=truth)
        if made is None:
            continue
        found = truths(made.text, "", scene)
        assert found, made.text
        assert all(found) is truth, made.text
        assert None not in found
        # As a question: what is answered is true, whatever the statement is.
        assert set(truths(made.answer, made.question, scene, answer=truth)) == {True}, made
        checked += 1
    assert checked > 40


def test_whatever_is_said_of_a_scene_by_its_own_language_is_true() -> None:
    for seed in SEEDS:
        scene, rng = sample_scene(seed), random.Random(seed)
        if not scene.objects:
            continue
        shown = next(iter(scene.counts))
        absent = negatives(scene, "random", rng, 1)[0]
        said = [(caption(scene, rng), "", None), (described_otherwise(scene, rng), "", None)]
        for name in (shown, absent):
            question = presence(scene, name).question
            answers = (presence(scene, name).answer, present_otherwise(scene, name, rng))
            said += [(answer, question, name in scene.counts) for answer in answers]
        counted = how_many(scene, shown)
        said += [
            (counted.answer, counted.question, None),
            (counted_otherwise(scene, shown, rng), counted.question, None),
        ]
        placed = where(scene, shown)
        if scene.counts[shown] == 1:
            said.append((placed.answer, placed.question, None))
        for text, question, answer in said:
            assert set(truths(text, question, scene, answer=answer)) == {True}, (text, question)


def test_what_the_world_does_not_know_has_no_truth() -> None:
    scene = next(scene for seed in SEEDS if (scene := sample_scene(seed)).objects)
    assert truths("There is a unicorn.", "", scene) == [None]
    assert truths("It was painted in 1889.", "", scene) == [None]
    assert truths("The image is empty. There are no objects in it.", "", scene) == [False, False]
    assert truths("The image is empty.", "", Scene(**{**_fields(scene), "objects": ()})) == [True]


def _fields(scene: Scene) -> dict[str, object]:
    return {name: getattr(scene, name) for name in scene.__dataclass_fields__}
