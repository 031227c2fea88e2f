"""What a cell of a picture shows."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from saliency_guard.embedded.architecture import GRID, IMAGE_SIZE
from saliency_guard.scenes.scene import Rendering, Scene, SceneObject
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.training.pictures import IGNORED, patch_labels, picture_tensor

BACKGROUND = len(CLASSES)


def labels(*owners: float, name: str = "dog") -> list[int]:
    """Labels of the first cells of which these parts belong to a thing."""
    side = IMAGE_SIZE // GRID
    table = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for cell, part in enumerate(owners):
        table[: round(part * side), cell * side : (cell + 1) * side] = 1
    thing = SceneObject(name, "", 0.5, 0.5, 0.2, 0.0, mirrored=False, tint=(1.0, 1.0, 1.0))
    drawn = Rendering(image=Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE)), owners=table)
    values: list[int] = patch_labels(drawn, Scene(0, "noto", "farm", (thing,))).tolist()
    return values


def test_a_cell_shows_a_thing_background_or_is_undecided() -> None:
    values = labels(1.0, 0.5, 0.25, 0.2, 0.1, 0.0)
    dog = CLASSES.index("dog")
    assert values[:6] == [dog, dog, dog, IGNORED, IGNORED, BACKGROUND]
    assert set(values[6:]) == {BACKGROUND}


def test_an_empty_scene_is_background() -> None:
    drawn = Rendering(
        image=Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE)), owners=np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    )
    assert set(patch_labels(drawn, Scene(0, "noto", "farm", ())).tolist()) == {BACKGROUND}


def test_pixels_lie_between_minus_one_and_one() -> None:
    black, white = (picture_tensor(Image.new("RGB", (64, 64), colour)) for colour in ("black", "white"))
    assert black.shape == (3, IMAGE_SIZE, IMAGE_SIZE)
    assert torch.equal(black, torch.full_like(black, -1.0))
    assert torch.equal(white, torch.full_like(white, 1.0))
    red = picture_tensor(Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), "red"))
    assert red[:, 0, 0].tolist() == [1.0, -1.0, -1.0]
