"""Claims about the picture world: what an answer says of a scene, in the world's own words, and whether it is so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

from saliency_guard.claims.extract import ClaimExtractor, EnglishClaims, ExtractedClaim
from saliency_guard.scenes.scene import Scene, SceneObject
from saliency_guard.scenes.statements import is_at
from saliency_guard.scenes.vocabulary import CLASSES, NEVER_DRAWN, plural, singular, with_article

Extractor = Literal["english", "picture_world"]
"""What takes answers apart, by name."""
_GENERAL = frozenset({"object", "objects", "thing", "things", "item", "items"})
_SPOTS = frozenset({"left", "right", "top", "bottom", "center"})
_SIDES = {"to the left of": (0, -1), "to the right of": (0, 1), "above": (1, -1), "below": (1, 1)}


@cache
def class_names() -> dict[str, str]:
    """Every spelling of a noun of the world, singular and plural -> its class."""
    names: dict[str, str] = {}
    for name in (*CLASSES, *NEVER_DRAWN):
        for form in (name, singular(name), plural(name), plural(name).removeprefix("pairs of ")):
            names[form] = name
    return names


@cache
def _extractor() -> EnglishClaims:
    return EnglishClaims({form: with_article(name) for form, name in class_names().items()})


def extractor_of(name: Extractor | None) -> ClaimExtractor:
    """What takes answers apart; plain English where nothing is named."""
    return world_claims if name == "picture_world" else EnglishClaims()


def world_claims(text: str, question: str = "") -> Sequence[ExtractedClaim]:
    """Claims of an answer about a scene; see `ClaimExtractor`."""
    return _extractor()(text, question)


def is_true(claim: ExtractedClaim, scene: Scene, *, answer: bool | None = None) -> bool | None:
    """Whether a claim holds for a scene; None where the world does not know.

    "A dog" means one or more; a number is meant exactly; a place is meant as people mean it (see `statements`), and is
    true if one of the things is there.

    Args:
        claim: from `world_claims`.
        scene: what it is about.
        answer: the true answer to the question, for a yes or no.
    """
    if claim.kind == "yes_no":
        return None if answer is None else answer is not claim.negated
    name = class_names().get(claim.noun)
    if claim.kind == "object":
        if name is None:
            return (not scene.objects) is claim.negated if claim.noun in _GENERAL else None
        return (name in scene.counts) is not claim.negated
    if claim.kind == "number":
        return None if name is None else scene.counts.get(name, 0) == claim.number
    if claim.kind == "place" and name is not None:
        placed = _placed(claim, [thing for thing in scene.objects if thing.name == name], scene)
        return None if placed is None else placed is not claim.negated
    if claim.statement.strip().lower() == "the image is empty.":
        return not scene.objects
    return None


def _placed(claim: ExtractedClaim, things: Sequence[SceneObject], scene: Scene) -> bool | None:
    if not claim.other:
        words = claim.place.split()
        known = len(words) > 2 and words[1] == "the" and set(words[2:]) <= _SPOTS
        return any(is_at(thing, claim.place) for thing in things) if known else None
    others = [thing for thing in scene.objects if thing.name == class_names().get(claim.other)]
    side = _SIDES.get(claim.place)
    if side is None or claim.other not in class_names():
        return None
    axis, sign = side
    return any(((thing.x, thing.y)[axis] - (other.x, other.y)[axis]) * sign > 0 for thing in things for other in others)
