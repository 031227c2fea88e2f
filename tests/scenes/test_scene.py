from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_guard.scenes.scene import MAX_OBJECTS, render, sample_scene
from saliency_guard.scenes.vocabulary import (
    DRAWINGS,
)

SEEDS = st.integers(0, 2**31)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_seed_fixes_a_scene_bit_for_bit(seed: int) -> None:
    assert sample_scene(seed) == sample_scene(seed)
    one, two = (render(sample_scene(seed), 96) for _ in range(2))
    assert one.image.tobytes() == two.image.tobytes()
    assert (one.owners == two.owners).all()


def test_scenes_stay_what_they_are() -> None:
    """Seeds name pictures in results and in the training run: changing what they draw is a decision."""
    digest = hashlib.sha256()
    for seed in range(20):
        digest.update(repr(sample_scene(seed)).encode())
    assert digest.hexdigest()[:16] == "30003fe9073c79a2"


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_the_ground_truth_is_what_is_drawn(seed: int) -> None:
    scene = sample_scene(seed)
    drawn = render(scene, 128)
    assert len(scene.objects) <= MAX_OBJECTS
    assert set(np.unique(drawn.owners)) == set(range(len(scene.objects) + 1)) | {0}
    for index, thing in enumerate(scene.objects):
        assert thing.drawing in DRAWINGS[thing.name]
        left, top, right, bottom = drawn.box(index)
        assert 0 <= left < right <= 128
        assert 0 <= top < bottom <= 128
        assert left - 128 * 0.1 < thing.x * 128 < right + 128 * 0.1
        seen = int((drawn.owners == index + 1).sum())
        assert seen > 30, "every object is to be seen"
