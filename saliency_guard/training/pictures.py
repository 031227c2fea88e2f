"""Pictures as input of the vision tower, and the class that each of their cells shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from saliency_guard.embedded.architecture import GRID, IMAGE_SIZE, IMAGE_TOKENS
from saliency_guard.scenes.scene import Rendering, Scene
from saliency_guard.scenes.vocabulary import CLASSES

IGNORED = -100
"""The label of positions without a loss."""

UNDECIDED = 255
"""The same for a cell in files."""


def resized(image: Image.Image) -> npt.NDArray[np.uint8]:
    """A square RGB picture in the model's size: ``[128, 128, 3]``."""
    if image.width != IMAGE_SIZE:
        image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(image)


def normalized(pixels: Tensor) -> Tensor:
    """What the processor makes of pixels: ``[..., 128, 128, 3]`` of 0..255 as ``[..., 3, 128, 128]`` in -1..1."""
    return pixels.float().movedim(-1, -3) / 127.5 - 1.0


def picture_tensor(image: Image.Image) -> Tensor:
    """What the processor makes of a square RGB picture: ``[3, 128, 128]`` in -1..1."""
    return normalized(torch.tensor(resized(image)))


def patch_labels(drawn: Rendering, scene: Scene) -> Tensor:
    """``[64]`` what each patch shows most; undecided where neither a thing nor background clearly does."""
    side = drawn.owners.shape[0] // GRID
    cells = drawn.owners.reshape(GRID, side, GRID, side).transpose(0, 2, 1, 3).reshape(IMAGE_TOKENS, -1)
    shares = np.stack([(cells == k).mean(axis=1) for k in range(len(scene.objects) + 1)], axis=1)
    names = np.array([len(CLASSES), *(CLASSES.index(thing.name) for thing in scene.objects)])
    things = shares[:, 1:]
    best = things.argmax(axis=1) + 1 if things.shape[1] else np.zeros(IMAGE_TOKENS, dtype=int)
    best_share = things.max(axis=1) if things.shape[1] else np.zeros(IMAGE_TOKENS)
    labels = np.where(best_share >= 0.25, names[best], np.where(best_share < 0.08, len(CLASSES), IGNORED))
    return torch.from_numpy(labels)
