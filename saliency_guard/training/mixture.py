"""Which kind of training text how often, and the pictures it is about."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from saliency_guard.scenes.scene import Scene
from saliency_guard.training import agents, calls, forms, frames, repeats, several, single
from saliency_guard.training.sheets import Sheet

Shown = Sequence[Scene | None]
Maker = Callable[[Shown, random.Random], Sheet]


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of text.

    Attributes:
        name: what it is.
        share: of all sheets.
        make: makes a sheet about some pictures.
        pictures: possible numbers of pictures, equally often; 0 is none.
        blank: how often a picture is one that shows nothing.
    """

    name: str
    share: float
    make: Maker
    pictures: tuple[int, ...] = (1,)
    blank: float = 0.0


def _maybe(shown: Shown) -> Scene | None:
    return shown[0] if shown else None


def _scene(shown: Shown) -> Scene:
    scene = shown[0]
    if scene is None:
        msg = "this kind of text is about a scene"
        raise ValueError(msg)
    return scene


_REPEATING = "repeating"
_EARLY_SHARE = 0.22

MIXTURE: tuple[Part, ...] = (
    Part("one picture", 0.27, lambda shown, rng: single.one_picture(shown[0], rng), blank=0.05),
    Part("follow-ups", 0.05, lambda shown, rng: single.follow_ups(_scene(shown), rng)),
    Part("several pictures", 0.25, several.several, pictures=(2, 2, 3, 3, 4, 4), blank=0.04),
    Part("forms", 0.12, lambda shown, rng: forms.picture_forms(_scene(shown), rng)),
    Part("forms of documents", 0.02, lambda shown, rng: forms.document_forms(rng, len(shown)), pictures=(0, 1)),
    Part("tools", 0.15, lambda shown, rng: calls.choosing(_maybe(shown), rng), pictures=(0, 1)),
    Part("retrieval", 0.03, lambda shown, rng: frames.retrieval(_maybe(shown), rng), pictures=(0, 1, 1)),
    Part("documents", 0.03, lambda shown, rng: frames.plain_documents(_maybe(shown), rng), pictures=(0, 1, 1)),
    Part("citations", 0.015, lambda _, rng: frames.citations(rng), pictures=(0,)),
    Part("refining", 0.01, lambda shown, rng: frames.refining(_maybe(shown), rng), pictures=(0, 1)),
    Part("summaries", 0.01, lambda shown, rng: frames.summarizing(_maybe(shown), rng), pictures=(0, 1)),
    Part("condensing", 0.01, lambda _, rng: agents.condensing(rng), pictures=(0,)),
    Part("reacting", 0.01, lambda shown, rng: agents.reacting(_maybe(shown), rng), pictures=(0, 1)),
    Part("long preambles", 0.005, lambda shown, rng: repeats.long_preamble(_scene(shown), rng)),
    Part(_REPEATING, 0.02, lambda _, rng: repeats.repeating(rng), pictures=(0,)),
)


def shares(*, early: bool = False) -> list[float]:
    """How often each kind comes.

    Early, for a model that cannot yet find again what stands in its prompt, there is much to repeat: without that it
    learns nothing from documents, forms and tools.
    """
    if not early:
        return [each.share for each in MIXTURE]
    usual = sum(each.share for each in MIXTURE if each.name != _REPEATING)
    rest = (1 - _EARLY_SHARE) / usual
    return [_EARLY_SHARE if each.name == _REPEATING else each.share * rest for each in MIXTURE]


def part(rng: random.Random, *, early: bool = False) -> tuple[Part, int]:
    """A kind of text, drawn by its share, and its number in ``MIXTURE``."""
    number = rng.choices(range(len(MIXTURE)), shares(early=early))[0]
    return MIXTURE[number], number
