"""Pictures that show nothing the model could name: plain, noisy, patterned, pages of text, and charts."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

KINDS = ("plain", "noise", "texture", "page", "chart")


def blank_picture(seed: int, size: int, kind: str | None = None) -> Image.Image:
    """A picture of a kind (a random one, where none is named); the same arguments give the same picture."""
    rng = random.Random(f"{seed} blank")
    drawn = KINDS[rng.randrange(len(KINDS))]
    return _DRAWERS[kind or drawn](rng, size)


def any_colour(rng: random.Random, lightness: tuple[float, float] = (0.0, 1.0)) -> tuple[int, int, int]:
    """Any hue and saturation, as RGB; the lightness between two bounds in 0..1."""
    red, green, blue = colorsys.hls_to_rgb(rng.random(), rng.uniform(*lightness), rng.random())
    return int(red * 255), int(green * 255), int(blue * 255)


def _plain(rng: random.Random, size: int) -> Image.Image:
    if rng.random() < 0.3:
        level = rng.randrange(256)
        return Image.new("RGB", (size, size), (level, level, level))
    if rng.random() < 0.6:
        return Image.new("RGB", (size, size), any_colour(rng))
    ramp = Image.linear_gradient("L").rotate(90 * rng.randrange(4)).resize((size, size))
    return Image.composite(
        Image.new("RGB", (size, size), any_colour(rng)), Image.new("RGB", (size, size), any_colour(rng)), ramp
    )


def _noise(rng: random.Random, size: int) -> Image.Image:
    dice = np.random.Generator(np.random.PCG64(rng.getrandbits(32)))
    cell = rng.choice((1, 1, 2, 4, 8))
    side = -(-size // cell)
    channels = rng.choice((1, 3))
    pixels: npt.NDArray[Any]
    if rng.random() < 0.5:
        pixels = dice.integers(0, 256, (side, side, channels))
    else:
        pixels = dice.normal(rng.uniform(60, 200), rng.uniform(15, 70), (side, side, channels))
    levels = np.clip(np.broadcast_to(pixels, (side, side, 3)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(levels).resize((side * cell, side * cell), Image.Resampling.NEAREST)
    picture = picture.crop((0, 0, size, size))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 6))) if rng.random() < 0.4 else picture


def _texture(rng: random.Random, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), any_colour(rng))
    draw = ImageDraw.Draw(picture)
    colours = [any_colour(rng) for _ in range(rng.randint(1, 3))]
    step = rng.randint(max(4, size // 40), size // 6)
    kind = rng.randrange(4)
    for number, at in enumerate(range(-size, 2 * size, step)):
        colour = colours[number % len(colours)]
        if kind == 0:  # stripes, at any angle
            draw.line((at, 0, at + rng.choice((0, size // 2, size)), size), fill=colour, width=max(1, step // 2))
        elif kind == 1:  # a grid
            draw.line((at, 0, at, size), fill=colour, width=max(1, step // 5))
            draw.line((0, at, size, at), fill=colour, width=max(1, step // 5))
        elif kind == 2:  # dots
            for x in range(0, size, step):
                draw.ellipse((x, at, x + step // 2, at + step // 2), fill=colour)
        else:  # tiles
            for column, x in enumerate(range(0, size, step)):
                if (column + number) % 2:
                    draw.rectangle((x, at, x + step - 1, at + step - 1), fill=colour)
    if rng.random() < 0.5:
        picture = picture.rotate(rng.uniform(0, 90), resample=Image.Resampling.BILINEAR, fillcolor=colours[0])
    return picture


def _page(rng: random.Random, size: int) -> Image.Image:
    """Lines of words, as far as they can be made out at this size."""
    paper, ink = (
        ("white", "black") if rng.random() < 0.7 else (any_colour(rng, (0.8, 1.0)), any_colour(rng, (0.0, 0.3)))
    )
    picture = Image.new("RGB", (size, size), paper)
    draw = ImageDraw.Draw(picture)
    margin, height = rng.randint(size // 30, size // 8), rng.randint(max(8, size // 28), max(9, size // 10))
    letters = "abcdefghijklmnopqrstuvwxyz"
    for line, top in enumerate(range(margin, size - margin - height, height + rng.randint(2, 6))):
        if line and rng.random() < 0.12:
            continue
        words: list[str] = []
        right = size - margin
        while sum(len(word) for word in words) < 40:
            words.append("".join(rng.choice(letters) for _ in range(rng.randint(2, 9))))
        text = " ".join(words).capitalize()
        width = max(1, int((right - margin) * (rng.uniform(0.3, 0.8) if rng.random() < 0.25 else 1.0)))
        strip = Image.new("RGB", (width, height), paper)
        # Pillow's own small letters, enlarged: no font file is needed, and no two sizes look alike.
        small = Image.new("RGB", (max(1, width * 12 // height), 12), paper)
        ImageDraw.Draw(small).text((0, 0), text, fill=ink)
        strip.paste(small.resize((width, height), Image.Resampling.BILINEAR))
        picture.paste(strip, (margin, top))
    if rng.random() < 0.4:
        draw.rectangle((margin, margin, size - margin, margin + height), outline=ink)
    return picture


def _chart(rng: random.Random, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), "white" if rng.random() < 0.7 else any_colour(rng, (0.85, 1.0)))
    draw = ImageDraw.Draw(picture)
    left, right, top, bottom = size * 0.12, size * 0.95, size * 0.08, size * 0.88
    kind = rng.randrange(4)
    if kind == 3:  # a pie
        at = 0.0
        while at < 360:
            turn = rng.uniform(20, 120)
            draw.pieslice(
                (left, top, right, bottom + size * 0.03), at, min(360, at + turn), fill=any_colour(rng, (0.3, 0.8))
            )
            at += turn
    else:
        for step in range(rng.randint(0, 6)):
            y = bottom - (bottom - top) * step / 6
            draw.line((left, y, right, y), fill=(210, 210, 210))
        draw.line((left, top, left, bottom, right, bottom), fill="black", width=max(1, size // 100))
        count = rng.randint(3, 12)
        series = [any_colour(rng, (0.25, 0.7)) for _ in range(rng.randint(1, 3))]
        for number, colour in enumerate(series):
            levels = [rng.uniform(0.05, 0.95) for _ in range(count)]
            points = [
                (left + (right - left) * (k + 0.5) / count, bottom - (bottom - top) * level)
                for k, level in enumerate(levels)
            ]
            width = (right - left) / count / (len(series) + 1)
            if kind == 0:  # bars
                for x, y in points:
                    start = x + (number - len(series) / 2) * width
                    draw.rectangle((start, y, start + width * 0.9, bottom), fill=colour)
            elif kind == 1:  # lines
                draw.line(points, fill=colour, width=max(1, size // 70))
            else:  # points
                for x, y in points:
                    draw.ellipse((x - size / 60, y - size / 60, x + size / 60, y + size / 60), fill=colour)
    draw.text((size * 0.3, 1), "".join(rng.choice("abcdefgh ") for _ in range(14)), fill="black")
    return picture


_DRAWERS: dict[str, Callable[[random.Random, int], Image.Image]] = {
    "plain": _plain,
    "noise": _noise,
    "texture": _texture,
    "page": _page,
    "chart": _chart,
}
