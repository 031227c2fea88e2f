from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.scenes.sprites import load_style
from saliency_guard.training.augment import LOOKS, Look, jittered, look


def test_a_look_redraws_every_sprite_of_its_style_and_stays_what_it_is() -> None:
    sprites, drawn = load_style("noto"), look("noto", 3)
    assert set(drawn) == set(sprites)
    assert len(drawn) == len(sprites)
    for name in ("dog", "wine-glass"):
        assert drawn[name].size == sprites[name].size
        assert drawn[name].tobytes() == Look("noto", 3)[name].tobytes()
        assert drawn[name].tobytes() != sprites[name].tobytes()
    assert look("noto", 3) is drawn
    with pytest.raises(KeyError):
        drawn["no such drawing"]


def test_looks_differ_in_colour_and_line_and_keep_the_thing_in_place() -> None:
    sprite = load_style("twemoji")["dog"]
    others = [look("twemoji", number)["dog"] for number in range(LOOKS)]
    assert len({other.tobytes() for other in others}) == LOOKS
    pixels = [np.asarray(other) for other in others]
    dark = [float((pixel_row[..., :3].max(-1) < 70)[pixel_row[..., 3] > 200].mean()) for pixel_row in pixels]
    assert max(dark) > 0.15, "some have outlines"
    assert min(dark) < 0.05, "some have none"
    rows, columns = np.nonzero(np.asarray(sprite.getchannel("A")) > 128)
    for other in others:
        rows_, columns_ = np.nonzero(np.asarray(other.getchannel("A")) > 128)
        assert abs(rows_.mean() - rows.mean()) < 12
        assert abs(columns_.mean() - columns.mean()) < 12


def test_a_scene_drawn_in_a_look_is_the_same_scene() -> None:
    scene = sample_scene(50)
    plain, other = render(scene, 96), render(scene, 96, sprites=look(scene.style, 1))
    assert plain.image.tobytes() != other.image.tobytes()
    assert set(np.unique(plain.owners)) == set(np.unique(other.owners))


def test_line_drawings_come_in_other_inks_and_on_other_paper() -> None:
    sprite = load_style("ph")["cat"]
    inside = np.asarray(sprite)[..., 3] > 200
    for number in range(4):
        drawn = np.asarray(Look("ph", number)["cat"])
        lightness = drawn[..., :3].astype(int).sum(-1)
        shape = drawn[..., 3] > 250
        rim = shape & ~np.asarray(Image.fromarray(shape).filter(ImageFilter.MinFilter(5)))
        assert lightness[rim].mean() < lightness[shape & ~rim].mean(), "ink is darker than paper, and the rim is ink"
    white = (np.asarray(sprite)[..., :3].min(-1) > 200) & inside
    assert 0.2 < white.sum() / inside.sum() < 0.9, "what lines close in is paper"


def test_jitter_changes_about_half_of_the_pictures_and_is_the_same_for_the_same_seed() -> None:
    pixels = torch.rand(40, 3, 8, 8) * 2 - 1
    changed = jittered(pixels, torch.Generator().manual_seed(1))
    torch.testing.assert_close(changed, jittered(pixels, torch.Generator().manual_seed(1)), rtol=0, atol=0)
    same = (changed == pixels).flatten(1).all(1)
    assert 8 < int(same.sum()) < 32
    assert changed.abs().max() <= 1
