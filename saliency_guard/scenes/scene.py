"""Scenes with exact ground truth: the objects and their places are sampled first, then drawn.

``sample_scene(seed)`` samples a scene; ``render(scene, size)`` draws it. Both depend only on their arguments, so that a
seed identifies a picture.
"""

from __future__ import annotations

import colorsys
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from saliency_guard.scenes.sprites import STYLES, drawable, load_style
from saliency_guard.scenes.vocabulary import SCENE_TYPES

MAX_OBJECTS = 8
_MIN_VISIBLE_FRACTION = 0.6
_PLACEMENT_TRIES = 40


@dataclass(frozen=True, slots=True)
class SceneObject:
    """An object of a scene. Lengths are fractions of the picture's side, angles are in degrees."""

    name: str
    drawing: str
    x: float
    y: float
    size: float
    angle: float
    mirrored: bool
    tint: tuple[float, float, float]

    @property
    def place(self) -> str:
        """The cell of a 3 x 3 grid with its centre, in words: ``"at the top left"``, ``"in the center"``."""
        column = "left" if self.x < 0.36 else "right" if self.x > 0.64 else ""
        row = "top" if self.y < 0.36 else "bottom" if self.y > 0.64 else ""
        if row:
            return f"at the {row} {column}".rstrip()
        return f"on the {column}" if column else "in the center"


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of a picture. ``objects`` are drawn in order, later ones in front."""

    seed: int
    style: str
    scene_type: str
    objects: tuple[SceneObject, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of objects of each class, in drawing order."""
        return dict(Counter(thing.name for thing in self.objects))


@dataclass(frozen=True, slots=True, eq=False)
class Rendering:
    """A drawn scene.

    Attributes:
        image: RGB picture, ``size`` x ``size``.
        owners: ``[size, size]`` uint8; 0 is background, k is the k-th object (from 1), as visible.
    """

    image: Image.Image
    owners: npt.NDArray[np.uint8]

    def box(self, index: int) -> tuple[int, int, int, int]:
        """Pixel box (left, top, right, bottom; right and bottom exclusive) of the visible part of object ``index``."""
        rows, columns = np.nonzero(self.owners == index + 1)
        return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def sample_scene(seed: int, *, styles: tuple[str, ...] = STYLES, max_objects: int = MAX_OBJECTS) -> Scene:
    """Sample a scene; the same arguments give the same scene.

    Args:
        seed: identifies the scene.
        styles: the styles to choose from (each scene has one style).
        max_objects: the largest number of objects; from 0 (rarely) up to this many are placed.
    """
    rng = random.Random(seed)
    style = styles[rng.randrange(len(styles))]
    scene_type = sorted(SCENE_TYPES)[rng.randrange(len(SCENE_TYPES))]
    drawings = drawable(style)
    names = list(drawings)
    usual = [name for name in SCENE_TYPES[scene_type] if name in drawings] or names
    target_count = 0 if rng.random() < 0.03 else 1 + min(int(rng.random() ** 1.3 * max_objects), max_objects - 1)
    placed: list[SceneObject] = []
    while len(placed) < target_count:
        chance = rng.random()
        if placed and chance < 0.2:
            name = placed[rng.randrange(len(placed))].name
        elif chance < 0.75:
            name = usual[rng.randrange(len(usual))]
        else:
            name = names[rng.randrange(len(names))]
        thing = _place(rng, name, drawings[name], placed)
        if thing is None:
            break
        placed.append(thing)
    return Scene(seed=seed, style=style, scene_type=scene_type, objects=tuple(placed))


def _place(rng: random.Random, name: str, drawings: Sequence[str], placed: list[SceneObject]) -> SceneObject | None:
    """One more object at a free place, or None if the picture is full."""
    drawing = drawings[rng.randrange(len(drawings))]
    for _ in range(_PLACEMENT_TRIES):
        size = 0.2 + 0.24 * rng.random() ** 1.5
        margin = size * 0.5
        x, y = (margin + (1 - 2 * margin) * rng.random() for _ in range(2))
        if all(_hidden(x, y, size, other) <= 1 - _MIN_VISIBLE_FRACTION for other in placed):
            tint = tuple(0.8 + 0.35 * rng.random() for _ in range(3))
            return SceneObject(
                name=name,
                drawing=drawing,
                x=x,
                y=y,
                size=size,
                angle=(rng.random() - 0.5) * 40,
                mirrored=rng.random() < 0.5,
                tint=(tint[0], tint[1], tint[2]),
            )
    return None


def _hidden(x: float, y: float, size: float, other: SceneObject) -> float:
    """The overlap of the new square with that of ``other``, as a fraction of the smaller square."""
    overlap = (size + other.size) / 2
    width = max(0.0, overlap - abs(x - other.x))
    height = max(0.0, overlap - abs(y - other.y))
    smaller = min(size, other.size)
    return min(width, smaller) * min(height, smaller) / smaller**2


def render(scene: Scene, size: int = 448, *, sprites: Mapping[str, Image.Image] | None = None) -> Rendering:
    """Draw a scene at ``size`` x ``size`` pixels.

    Args:
        scene: what to draw.
        size: side in pixels.
        sprites: RGBA drawings by name, used instead of those of the scene's style.
    """
    rng = random.Random(scene.seed ^ 0x5EED)
    image = _background(rng, scene.scene_type, size)
    owners = Image.new("L", (size, size), 0)
    if sprites is None:
        sprites = load_style(scene.style)
    for index, thing in enumerate(scene.objects, start=1):
        side = max(4, round(thing.size * size))
        sprite = sprites[thing.drawing].resize(
            (side, side), Image.Resampling.BOX if side < 64 else Image.Resampling.BILINEAR
        )
        if thing.mirrored:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        sprite = sprite.rotate(thing.angle, resample=Image.Resampling.BILINEAR)
        sprite = _tinted(sprite, thing.tint)
        corner = (round(thing.x * size - side / 2), round(thing.y * size - side / 2))
        image.paste(sprite, corner, sprite)
        mask = sprite.getchannel("A").point([0] * 128 + [255] * 128)
        owners.paste(index, (*corner, corner[0] + side, corner[1] + side), mask)
    return Rendering(image=_lit(rng, image), owners=np.asarray(owners))


def _tinted(sprite: Image.Image, tint: tuple[float, float, float]) -> Image.Image:
    table = [min(255, int(level * gain)) for gain in tint for level in range(256)]
    return sprite.point(table + list(range(256)))


def _background(rng: random.Random, scene_type: str, size: int) -> Image.Image:
    """Two bands of colour with a few large faint shapes; the hue is only a hint at the scene type."""
    hue = (sorted(SCENE_TYPES).index(scene_type) / len(SCENE_TYPES) + rng.uniform(-0.08, 0.08)) % 1.0

    def colour(lightness: float) -> tuple[int, int, int]:
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, rng.uniform(0.1, 0.5))
        return int(red * 255), int(green * 255), int(blue * 255)

    light = rng.uniform(0.45, 0.95)
    image = Image.new("RGB", (size, size), colour(light))
    draw = ImageDraw.Draw(image)
    horizon = int(size * rng.uniform(0.3, 0.8))
    draw.rectangle((0, horizon, size, size), fill=colour(light * rng.uniform(0.6, 0.95)))
    for _ in range(rng.randrange(5)):
        x, y = rng.uniform(-0.2, 1.0) * size, rng.uniform(-0.2, 1.0) * size
        w, h = rng.uniform(0.1, 0.6) * size, rng.uniform(0.1, 0.6) * size
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=colour(min(0.97, light * rng.uniform(0.8, 1.15))))
    return image


def _lit(rng: random.Random, image: Image.Image) -> Image.Image:
    """Uneven light over the whole picture, and a little sensor noise."""
    size = image.width
    ramp = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    slope_x, slope_y, level = rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15), rng.uniform(0.82, 1.1)
    light = level + slope_x * ramp[None, :] + slope_y * ramp[:, None]
    noise = np.random.Generator(np.random.PCG64(rng.getrandbits(32))).integers(-4, 5, (size, size, 1))
    pixels = np.asarray(image, dtype=np.float32) * light[..., None] + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
