"""Drawings of another hand: the same things in the same places, drawn as no style draws them."""

from __future__ import annotations

import numpy as np

from saliency_guard.scenes.redrawn import Redrawn
from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.scenes.sprites import STYLES, load_style

SCENES = [sample_scene(seed, styles=STYLES) for seed in range(500_000, 500_040)]


def test_a_scenes_drawings_are_redrawn_the_same_each_time() -> None:
    for scene in SCENES[:4]:
        first, second = Redrawn(scene), Redrawn(scene)
        usual = load_style(scene.style)
        assert list(first) == list(usual)
        assert len(first) == len(usual)
        for thing in scene.objects:
            drawn = first[thing.drawing]
            assert drawn is first[thing.drawing]
            assert (drawn.mode, drawn.size) == ("RGBA", usual[thing.drawing].size)
            assert drawn.tobytes() == second[thing.drawing].tobytes() != usual[thing.drawing].tobytes()


def test_things_stay_where_they_are() -> None:
    for scene in SCENES:
        if not scene.objects:
            continue
        usual, other = render(scene, 96), render(scene, 96, sprites=Redrawn(scene))
        covered = [np.isin(drawn.owners, range(1, len(scene.objects) + 1)) for drawn in (usual, other)]
        assert (covered[0] & covered[1]).sum() > 0.75 * covered[0].sum()
        assert (covered[0] & covered[1]).sum() > 0.75 * covered[1].sum()


def test_there_are_many_hands() -> None:
    shown = [scene for scene in SCENES if scene.objects]
    names = [scene.objects[0].drawing for scene in shown]
    changed = [
        np.abs(np.asarray(Redrawn(scene)[name], float) - np.asarray(load_style(scene.style)[name], float)).mean()
        for scene, name in zip(shown, names, strict=True)
    ]
    assert min(changed) > 0.5
    assert np.std(changed) > 5.0
