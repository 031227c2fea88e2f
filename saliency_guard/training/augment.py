"""Style randomisation: training drawings recoloured, washed out and outlined at random.

A dozen icon sets are few. A tower that has seen every drawing in many colours, with and without dark
outlines, has a better chance with drawings of another hand.
"""

from __future__ import annotations

import math
import random
from functools import cache
from typing import TypeAlias

import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor

from saliency_guard.scenes.sprites import LINE_STYLES, Redrawings
from saliency_guard.training.blanks import any_colour

LOOKS = 32
"""How many other looks each style has."""

_EDGE_LEVEL = 40
_Colour: TypeAlias = tuple[int, int, int]


class Look(Redrawings):
    """The sprites of a style, all redrawn in one way that ``number`` decides."""

    def __init__(self, style: str, number: int) -> None:
        super().__init__(style)
        rng = random.Random(f"{style} {number}")
        self._lines = style in LINE_STYLES
        hue = rng.gauss(0.0, 0.35) if rng.random() < 0.7 else rng.uniform(-math.pi, math.pi)
        pale = rng.uniform(0.0, 0.7) if rng.random() < 0.5 else 0.0
        self._matrix = _colour_matrix(hue, rng.uniform(0.0, 1.6), pale)
        self._thickness = rng.choice((0, 0, 3, 3, 5))
        self._ink = rng.randrange(70)
        self._warp = _warp(rng)
        self._inks = _line_colours(rng)

    def redraw(self, sprite: Image.Image) -> Image.Image:
        """A sprite in this look."""
        if self._lines:
            colours = ImageOps.colorize(sprite.convert("L"), *self._inks)
        else:
            colours = sprite.convert("RGB").convert("RGB", self._matrix)
            if self._thickness:
                colours.paste((self._ink, self._ink, self._ink), mask=_outline(sprite, self._thickness))
        merged = Image.merge("RGBA", (*colours.split(), sprite.getchannel("A")))
        # Pillow maps output to input about the corner: shift, so that the centre stays where it is.
        a, b, c, d = self._warp
        half = sprite.width / 2
        about_centre = (a, b, half - a * half - b * half, c, d, half - c * half - d * half)
        return merged.transform(merged.size, Image.Transform.AFFINE, about_centre, Image.Resampling.BILINEAR)


@cache
def look(style: str, number: int) -> Look:
    """Look ``number`` of a style; kept, since drawing it costs more than drawing scenes with it."""
    return Look(style, number)


def jittered(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with other light and colours, half of them: contrast, brightness and saturation.

    Args:
        pixels: ``[P, 3, S, S]`` in -1..1.
        generator: on the same device.
    """
    chance, contrast, brightness, saturation = torch.rand(
        (4, len(pixels), 1, 1, 1), generator=generator, device=pixels.device
    )
    grey = pixels.mean(1, keepdim=True)
    coloured = grey + (pixels - grey) * (1.6 * saturation)
    changed = (coloured * (0.65 + 0.6 * contrast) + 0.5 * (brightness - 0.5)).clamp(-1, 1)
    return torch.where(chance < 0.5, changed, pixels)


def _line_colours(rng: random.Random) -> tuple[_Colour, _Colour]:
    """Ink and paper; the ink is mostly dark, the paper often white."""
    dark = any_colour(rng, (0.0, 0.25 if rng.random() < 0.75 else 0.45))
    return dark, (255, 255, 255) if rng.random() < 0.25 else any_colour(rng, (0.5, 0.97))


def _warp(rng: random.Random) -> tuple[float, float, float, float]:
    """A 2 x 2 map near the identity: a little narrower or lower, a little sheared."""
    return rng.uniform(1.0, 1.25), rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15), rng.uniform(1.0, 1.25)


def _colour_matrix(hue: float, saturation: float, pale: float) -> tuple[float, ...]:
    """A 3 x 4 matrix: hue turned about the grey axis (radians), saturation scaled, mixed with white."""
    cosine, sine = math.cos(hue), math.sin(hue)
    third, root = (1 - cosine) / 3, sine / math.sqrt(3)
    turned = (
        (cosine + third, third - root, third + root),
        (third + root, cosine + third, third - root),
        (third - root, third + root, cosine + third),
    )
    grey = (0.299, 0.587, 0.114)
    rows: list[float] = []
    for turned_row in turned:
        rows += [(1 - pale) * (saturation * t + (1 - saturation) * g) for t, g in zip(turned_row, grey, strict=True)]
        rows.append(255 * pale)
    return tuple(rows)


def _outline(sprite: Image.Image, thickness: int) -> Image.Image:
    """Where dark lines go: along the shape's border, and along strong changes of lightness within."""
    alpha = sprite.getchannel("A")
    border = ImageChops.subtract(alpha, alpha.filter(ImageFilter.MinFilter(thickness)))
    shown = Image.new("RGB", sprite.size, "white")
    shown.paste(sprite, mask=alpha)
    edges = shown.convert("L").filter(ImageFilter.FIND_EDGES).point([0] * _EDGE_LEVEL + [255] * (256 - _EDGE_LEVEL))
    return ImageChops.lighter(border, ImageChops.multiply(edges.filter(ImageFilter.MaxFilter(3)), alpha))
