"""Scenes in other hands' drawings: each scene's things coloured, outlined and bent in a way of its own.

On pictures of the usual styles a good model is hardly ever wrong, and nothing can be learnt of how its answers go wrong
on others. These are easy to tell for people, and often not for a model that has never seen them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageChops, ImageFilter, ImageOps

from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.sprites import Redrawings

_CELLS = 4
_BENT = 0.18
_EDGE = 18


class Redrawn(Redrawings):
    """The drawings of a scene's style, all redrawn in one way.

    Args:
        scene: whose drawings they are; its seed decides the way.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.style)
        self._seed = scene.seed

    def redraw(self, sprite: Image.Image) -> Image.Image:
        """A sprite as this hand draws it."""
        # The same numbers for each of a scene's drawings: they are of one hand.
        return _redrawn(sprite, random.Random(f"{self._seed} redrawn"))


def _redrawn(sprite: Image.Image, rng: random.Random) -> Image.Image:
    alpha = sprite.getchannel("A")
    colours = _HANDS[rng.randrange(len(_HANDS))](sprite.convert("RGB"), rng)
    if rng.random() < 0.5:
        border = ImageChops.subtract(alpha, alpha.filter(ImageFilter.MinFilter(rng.choice((5, 9)))))
        colours.paste((rng.randrange(60),) * 3, mask=border)
    merged = Image.merge("RGBA", (*colours.split(), alpha))
    return _bent(merged, rng) if rng.random() < 0.5 else merged


def _flat(colours: Image.Image, rng: random.Random) -> Image.Image:
    return ImageOps.posterize(colours.filter(ImageFilter.ModeFilter(9)), rng.choice((1, 2)))


def _negative(colours: Image.Image, _: random.Random) -> Image.Image:
    return ImageOps.invert(colours)


def _swapped(colours: Image.Image, rng: random.Random) -> Image.Image:
    channels = list(colours.split())
    rng.shuffle(channels)
    return Image.merge("RGB", channels)


def _two_colours(colours: Image.Image, rng: random.Random) -> Image.Image:
    dark, light = (tuple(rng.randrange(low, high) for _ in range(3)) for low, high in ((0, 120), (130, 256)))
    return ImageOps.colorize(colours.convert("L"), dark, light)


def _soft(colours: Image.Image, _: random.Random) -> Image.Image:
    return colours.filter(ImageFilter.GaussianBlur(colours.width / 18))


def _sketch(colours: Image.Image, _: random.Random) -> Image.Image:
    lines = colours.convert("L").filter(ImageFilter.GaussianBlur(2)).filter(ImageFilter.FIND_EDGES)
    drawn = lines.point([0] * _EDGE + [255] * (256 - _EDGE)).filter(ImageFilter.MaxFilter(5))
    return ImageOps.invert(drawn).convert("RGB")


def _shadow(colours: Image.Image, rng: random.Random) -> Image.Image:
    ink = tuple(rng.randrange(220) for _ in range(3))
    return Image.blend(colours, Image.new("RGB", colours.size, ink), rng.uniform(0.6, 0.9))


_HANDS: tuple[Callable[[Image.Image, random.Random], Image.Image], ...] = (
    _flat, _negative, _swapped, _two_colours, _soft, _sketch, _shadow,
)  # fmt: skip


def _bent(sprite: Image.Image, rng: random.Random) -> Image.Image:
    """A drawing whose parts are moved a little against each other."""
    step = sprite.width // _CELLS
    corners = {
        (x, y): (x * step + rng.uniform(-_BENT, _BENT) * step, y * step + rng.uniform(-_BENT, _BENT) * step)
        for x in range(_CELLS + 1)
        for y in range(_CELLS + 1)
    }
    mesh = [
        (
            (x * step, y * step, (x + 1) * step, (y + 1) * step),
            (*corners[x, y], *corners[x, y + 1], *corners[x + 1, y + 1], *corners[x + 1, y]),
        )
        for x in range(_CELLS)
        for y in range(_CELLS)
    ]
    return sprite.transform(sprite.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
