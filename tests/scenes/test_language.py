"""What is said of a scene is true."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_guard.scenes import language
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.scenes.vocabulary import (
    counted,
    number,
)

SEEDS = st.integers(0, 2**31)


@given(SEEDS)
@settings(max_examples=80, deadline=None)
def test_what_is_said_is_true(seed: int) -> None:
    scene, rng = sample_scene(seed), random.Random(seed)
    text = language.caption(scene, rng)
    assert (text == language.EMPTY) == (not scene.objects)
    for name, count in scene.counts.items():
        assert counted(name, count) in text
        assert language.presence(scene, name).answer.startswith("Yes")
        assert f" {number(count)} " in language.how_many(scene, name).answer
    for kind in ("random", "popular", "adversarial"):
        for name in language.negatives(scene, kind, rng, 5):
            assert name not in scene.counts
            assert language.presence(scene, name).answer.startswith("No")
            assert "no " in language.where(scene, name).answer


def test_yes_and_no_are_asked_alike_often() -> None:
    answers = [
        exchange.answer.split(",")[0]
        for seed in range(400)
        for exchange in language.questions(sample_scene(seed), random.Random(seed), 5)
        if exchange.answer.startswith(("Yes", "No,"))
    ]
    assert 0.42 < answers.count("Yes") / len(answers) < 0.58
