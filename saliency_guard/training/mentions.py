"""What the middle layers learn where a text names a thing: how many each picture shows, and where it is.

An answer such as "to the left of" needs two looks and a comparison, and the loss of one word says little about which of
the three went wrong. With these labels beside the text each look is learnt by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from saliency_guard.scenes.scene import MAX_OBJECTS, Scene
from saliency_guard.scenes.vocabulary import CLASSES, plural
from saliency_guard.training.pictures import IGNORED

MOST_PICTURES = 4
"""In a prompt of the training texts."""
COUNTS = MAX_OBJECTS + 1
"""Numbers of things a picture may show, none among them."""
STEPS = 8
"""Columns, and rows, that a place is told by."""

Labels = tuple[int, ...]
"""``MOST_PICTURES`` counts, then the column and the row of the only such thing; ``IGNORED`` where there is none."""

_FORMS = {form: name for name in CLASSES for form in (name, plural(name).removeprefix("pairs of "))}
_PATTERN = re.compile(
    "(?<![a-z])("
    + "|".join(re.escape(form).replace(r"\ ", "[ _]") for form in sorted(_FORMS, key=len, reverse=True))
    + ")(?![a-z])",
    re.IGNORECASE,
)


def mentions(text: str) -> list[tuple[int, str]]:
    """Where the names of classes end in a text, and the classes; JSON keys like ``has_teddy_bear`` count."""
    return [(each.end(), _FORMS[each[1].lower().replace("_", " ")]) for each in _PATTERN.finditer(text)]


def labels(name: str, shown: Sequence[Scene | None]) -> Labels:
    """The labels of a class name in a text about some pictures."""
    counts = [scene.counts.get(name, 0) if scene is not None else 0 for scene in shown]
    things = [thing for scene in shown if scene is not None for thing in scene.objects if thing.name == name]
    place = [int(each * STEPS) for each in (things[0].x, things[0].y)] if len(things) == 1 else [IGNORED] * 2
    return (*counts, *[IGNORED] * (MOST_PICTURES - len(counts)), *place)
