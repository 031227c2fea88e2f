"""The drawings of objects, one set of sprites per style, loaded once and cached.

Six styles are shipped as sheets, with seven others that are for training alone; two more, only for evaluation, come
from other packages.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from saliency_guard.scenes import openmoji, tuxpaint
from saliency_guard.scenes.vocabulary import DRAWINGS

SPRITE_SIZE = 128
"""Side of a stored sprite in pixels."""

STYLES: tuple[str, ...] = (
    "noto",
    "twemoji",
    "fluent-emoji-flat",
    "fluent-emoji",
    "noto-v1",
    "emojione",
)
"""The styles of the drawn world: the embedded model's pictures look like these (licences: sprites/LICENSES.md)."""

LINE_STYLES: tuple[str, ...] = ("fluent-emoji-high-contrast", "emojione-monotone", "game-icons", "mdi", "ph")
"""Styles for training alone, black on white: lines or solid shapes, and white is what they close in."""

OTHER_STYLES: tuple[str, ...] = ("fxemoji", "streamline-emojis", *LINE_STYLES)
"""Styles for training alone, most without some of the classes."""

_SPRITES = Path(__file__).parent / "sprites"


class Redrawings(Mapping[str, Image.Image]):
    """The drawings of a style, each redrawn when it is first asked for; `redraw` says how.

    Args:
        style: of the drawings; errors as of `load_style`.
    """

    def __init__(self, style: str) -> None:
        self._sprites = load_style(style)
        self._drawn: dict[str, Image.Image] = {}

    @abstractmethod
    def redraw(self, sprite: Image.Image) -> Image.Image:
        """A sprite in another look, RGBA, of the stored size."""

    def __getitem__(self, drawing: str) -> Image.Image:
        """The redrawn sprite, RGBA, of the stored size."""
        if drawing not in self._drawn:
            self._drawn[drawing] = self.redraw(self._sprites[drawing])
        return self._drawn[drawing]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sprites)

    def __len__(self) -> int:
        return len(self._sprites)


def style_files(style: str, directory: Path = _SPRITES) -> tuple[Path, Path]:
    """The paths of a style's picture and of its list of names."""
    return directory / f"{style}.webp", directory / f"{style}.json"


@lru_cache(maxsize=16)
def load_style(style: str, directory: Path = _SPRITES) -> MappingProxyType[str, Image.Image]:
    """The sprites of a style by drawing name, RGBA, ``SPRITE_SIZE`` square.

    Raises:
        FileNotFoundError: if the style has no sheet in ``directory``.
        MissingExtraError: for ``"openmoji"``, if it is not installed.
        InputError: for ``"tuxpaint"``, if it is not installed.
    """
    if style in _INSTALLED_STYLES:
        return MappingProxyType(_INSTALLED_STYLES[style](SPRITE_SIZE))
    picture_file, index_file = style_files(style, directory)
    if not index_file.exists():
        known = sorted([*(path.stem for path in directory.glob("*.json")), *_INSTALLED_STYLES])
        msg = f"no sprite sheet for style {style!r} in {directory}; there are: {', '.join(known)}"
        raise FileNotFoundError(msg)
    names: list[str] = json.loads(index_file.read_text(encoding="utf-8"))
    with Image.open(picture_file, formats=("WEBP",)) as opened:
        sheet = opened.convert("RGBA")
    return MappingProxyType(
        {name: sheet.crop((SPRITE_SIZE * i, 0, SPRITE_SIZE * (i + 1), SPRITE_SIZE)) for i, name in enumerate(names)}
    )


_INSTALLED_STYLES = MappingProxyType({openmoji.NAME: openmoji.load, tuxpaint.NAME: tuxpaint.load})


@lru_cache(maxsize=16)
def drawable(style: str) -> MappingProxyType[str, tuple[str, ...]]:
    """The classes that a style has drawings of, in the order of ``CLASSES``, and the drawings of each."""
    sprites = load_style(style)
    table = tuxpaint.STAMPS if style == tuxpaint.NAME else DRAWINGS
    available = {name: tuple(drawing for drawing in table.get(name, ()) if drawing in sprites) for name in DRAWINGS}
    return MappingProxyType({name: drawings for name, drawings in available.items() if drawings})
