"""Pictures unlike those of the picture world: photographs out of installed packages, and synthetic ones.

The photographs come inside scikit-image, scikit-learn and matplotlib; what they show of the world's classes was
checked by eye. A model of the picture world should get no number for its answers about any of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from saliency_guard.chat.images import load_image
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.errors import InputError
from saliency_guard.evaluation.questions import Question
from saliency_guard.scenes.claims import class_names
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.vocabulary import CLASSES, with_article

_SIDE = 224
_ABSENT = 2


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph inside a package.

    Attributes:
        package: that it comes with.
        path: in the package.
        shown: classes that it shows.
        unsure: classes that people could argue about: what is said of them is not labelled.
    """

    package: str
    path: str
    shown: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()

    @property
    def file(self) -> Path | None:
        """Where it lies; None where the package is not installed, or comes without it."""
        spec = find_spec(self.package)
        folder = next(iter(spec.submodule_search_locations or ()), None) if spec is not None else None
        file = Path(folder) / self.path if folder is not None else None
        return file if file is not None and file.is_file() else None


PHOTOGRAPHS: tuple[Photograph, ...] = (
    Photograph("skimage", "data/astronaut.png", ("person",)),
    Photograph("skimage", "data/brick.png"),
    Photograph("skimage", "data/camera.png", ("person",), ("car", "truck", "bus")),
    Photograph("skimage", "data/cell.png"),
    Photograph("skimage", "data/chelsea.png", ("cat",)),
    Photograph("skimage", "data/coffee.png", ("cup", "spoon"), ("dining table", "bowl")),
    Photograph("skimage", "data/coins.png", (), ("clock", "sports ball")),
    Photograph("skimage", "data/grass.png"),
    Photograph("skimage", "data/gravel.png"),
    Photograph("skimage", "data/horse.png", ("horse",)),
    Photograph("skimage", "data/hubble_deep_field.jpg"),
    Photograph("skimage", "data/ihc.png"),
    Photograph("skimage", "data/moon.png"),
    Photograph("skimage", "data/motorcycle_left.png", ("motorcycle",), ("bench", "bicycle", "bottle", "suitcase")),
    Photograph("skimage", "data/page.png", (), ("book",)),
    Photograph("skimage", "data/retina.jpg", (), ("orange", "apple", "sports ball")),
    Photograph("skimage", "data/rocket.jpg"),
    Photograph("skimage", "data/text.png", (), ("book",)),
    Photograph("sklearn", "datasets/images/china.jpg", (), ("boat", "bench", "person")),
    Photograph("sklearn", "datasets/images/flower.jpg", (), ("potted plant", "vase")),
    Photograph("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", ("person",), ("tie",)),
)
"""Photographs, with what they show of the picture world's classes."""

SYNTHETIC = ("plain", "noise", "stripes", "page", "chart")


def photograph_questions(*, crops: int = 3) -> Iterator[Question]:
    """Questions about every photograph that is there, and about random parts of each.

    Of a part it is not known whether it still shows what the whole shows; what the whole does not show it does not.

    Args:
        crops: how many parts of each.

    Raises:
        InputError: if no package with photographs is installed.
    """
    installed = [(photograph, photograph.file) for photograph in PHOTOGRAPHS]
    if not any(file is not None for _, file in installed):
        msg = "there are no photographs: install scikit-image, scikit-learn or matplotlib"
        raise InputError(msg)
    for photograph, file in installed:
        if file is None:
            continue
        whole = load_image(file)
        name = f"{photograph.package}/{photograph.path}"
        yield from _questions(name, whole, photograph.shown, photograph.unsure)
        rng = random.Random(f"crops of {name}")
        for number in range(crops):
            part = _part(whole, rng)
            yield from _questions(f"{name} part {number + 1}", part, (), (*photograph.shown, *photograph.unsure))


def synthetic_questions(count: int) -> Iterator[Question]:
    """Questions about pictures that show nothing the world has a name for: plain, noise, stripes, a page, a chart.

    Args:
        count: how many pictures.
    """
    for number in range(count):
        kind = SYNTHETIC[number % len(SYNTHETIC)]
        yield from _questions(f"{kind} {number}", synthetic_picture(number, kind), (), ())


def synthetic_picture(seed: int, kind: str) -> Image.Image:
    """A picture of a kind of `SYNTHETIC`; the same arguments give the same picture."""
    return _DRAWERS[kind](random.Random(f"synthetic {kind} {seed}"))


def _questions(name: str, image: Image.Image, shown: tuple[str, ...], unsure: tuple[str, ...]) -> Iterator[Question]:
    rng = random.Random(f"asked {name}")
    check = partial(_is_true, shown=frozenset(shown), unsure=frozenset(unsure))
    yield Question(name, (image,), DESCRIBE, check)
    absent = rng.sample([each for each in CLASSES if each not in shown and each not in unsure], _ABSENT)
    for about in (*shown, *absent):
        yield Question(
            name, (image,), f"Is there {with_article(about)} in the image?", partial(check, answer=about in shown)
        )


def _is_true(
    claim: ExtractedClaim, shown: frozenset[str], unsure: frozenset[str], *, answer: bool | None = None
) -> bool | None:
    """Whether a claim holds for a picture of which the classes are known, but neither their number nor their place."""
    if claim.kind == "yes_no":
        return None if answer is None else answer is not claim.negated
    name = class_names().get(claim.noun)
    if name is None or name in unsure:
        return None
    if claim.kind == "object":
        return (name in shown) is not claim.negated
    return None if name in shown else claim.negated


def _part(whole: Image.Image, rng: random.Random) -> Image.Image:
    scale = rng.uniform(0.4, 0.8)
    left, top = rng.uniform(0.0, 1.0 - scale), rng.uniform(0.0, 1.0 - scale)
    width, height = whole.size
    return whole.crop((int(left * width), int(top * height), int((left + scale) * width), int((top + scale) * height)))


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _plain(rng: random.Random) -> Image.Image:
    ramp = Image.linear_gradient("L").rotate(90 * rng.randrange(4)).resize((_SIDE, _SIDE))
    first, second = (Image.new("RGB", (_SIDE, _SIDE), _colour(rng)) for _ in range(2))
    return first if rng.random() < 0.5 else Image.composite(first, second, ramp)


def _noise(rng: random.Random) -> Image.Image:
    cell = rng.choice((1, 2, 4, 8))
    pixels = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (_SIDE // cell, _SIDE // cell, 3))
    noise = Image.fromarray(pixels.astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
    return noise.filter(ImageFilter.GaussianBlur(3)) if rng.random() < 0.5 else noise


def _stripes(rng: random.Random) -> Image.Image:
    picture = Image.new("RGB", (_SIDE * 2, _SIDE * 2), _colour(rng))
    draw, step, colour = ImageDraw.Draw(picture), rng.randint(6, 30), _colour(rng)
    for at in range(0, 2 * _SIDE, 2 * step):
        draw.rectangle((at, 0, at + step, 2 * _SIDE), fill=colour)
    half = _SIDE // 2
    return picture.rotate(rng.uniform(0, 90)).crop((half, half, half + _SIDE, half + _SIDE))


def _page(rng: random.Random) -> Image.Image:
    picture = Image.new("RGB", (_SIDE, _SIDE), (rng.randint(230, 255),) * 3)
    draw = ImageDraw.Draw(picture)
    for line in range(12, _SIDE - 12, rng.randint(11, 16)):
        words = (rng.choice(("lorem", "ipsum", "dolor", "sit", "amet", "elit", "sed", "tempor")) for _ in range(6))
        draw.text((14, line), " ".join(words), fill=(20, 20, 20))
    return picture


def _chart(rng: random.Random) -> Image.Image:
    picture = Image.new("RGB", (_SIDE, _SIDE), "white")
    draw, colour = ImageDraw.Draw(picture), _colour(rng)
    draw.line((24, 16, 24, 200, 212, 200), fill="black", width=2)
    heights = [rng.randint(20, 160) for _ in range(8)]
    if rng.random() < 0.5:
        for index, height in enumerate(heights):
            draw.rectangle((30 + index * 22, 200 - height, 46 + index * 22, 199), fill=colour)
    else:
        draw.line([(36 + index * 22, 200 - height) for index, height in enumerate(heights)], fill=colour, width=3)
    return picture


_DRAWERS: dict[str, Callable[[random.Random], Image.Image]] = {
    "plain": _plain,
    "noise": _noise,
    "stripes": _stripes,
    "page": _page,
    "chart": _chart,
}
