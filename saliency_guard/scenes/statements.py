"""True and false statements about a scene, with a correction of the false ones.

Places are used as people use them: an object at the top left is also on the left, and at the top. Numbers are exact;
"a dog" alone means one or more.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from saliency_guard.scenes.language import listed, negatives
from saliency_guard.scenes.scene import MAX_OBJECTS, Scene, SceneObject
from saliency_guard.scenes.vocabulary import CLASSES, counted, number, plural, singular

Kind = Literal["object", "number", "place", "relation", "list"]

KINDS: tuple[Kind, ...] = ("object", "number", "place", "relation", "list")

PLACES = (
    "at the top left",
    "at the top",
    "at the top right",
    "on the left",
    "in the center",
    "on the right",
    "at the bottom left",
    "at the bottom",
    "at the bottom right",
)
"""All values of `SceneObject.place`."""

_APART = 0.2
_OBJECT_FORMS = (
    "There is {thing} in the image.",
    "There is {thing}.",
    "There is {thing} in this picture.",
    "The image shows {thing}.",
    "The picture shows {thing}.",
)
_NUMBER_FORMS = ("There {verb} {things} in the image.", "There {verb} {things}.", "There {verb} {exactly} {things}.")
_LIST_FORMS = (
    "The image shows {things}.",
    "In the image, there {verb} {things}.",
    "This is a picture of {things}.",
    "There {verb} {things} in the image.",
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence about a scene.

    Attributes:
        text: the sentence.
        question: the same as a yes/no question.
        truth: whether it is true.
        instead: the true sentence; the same sentence if it is true.
        kind: what the statement is about.
    """

    text: str
    question: str
    truth: bool
    instead: str
    kind: Kind

    @property
    def answer(self) -> str:
        """Yes or no, with the true sentence."""
        return f"{'Yes' if self.truth else 'No'}, {lowered(self.instead)}"


def lowered(sentence: str) -> str:
    """A sentence without its capital."""
    return sentence[0].lower() + sentence[1:]


def is_at(thing: SceneObject, place: str) -> bool:
    """Whether an object is at a place, in the everyday sense of places."""
    if place == "in the center":
        return thing.place == place
    return set(place.split()[1:]) - {"the"} <= set(thing.place.split())


def statement(scene: Scene, rng: random.Random, kind: Kind, *, truth: bool) -> Statement | None:
    """A true or false statement of a kind; None if the scene allows none."""
    return {
        "object": _object,
        "number": _number,
        "place": _place,
        "relation": _relation,
        "list": _list,
    }[kind](scene, rng, truth=truth)


def things_at(scene: Scene, place: str) -> dict[str, int]:
    """Number of objects of each class at a place, in the order of ``CLASSES``."""
    names = [thing.name for thing in scene.objects if is_at(thing, place)]
    return {name: names.count(name) for name in CLASSES if name in names}


def number_sentence(name: str, count: int) -> str:
    """A sentence with the number of objects of a class."""
    verb = "is" if count <= 1 else "are"
    return f"There {verb} {counted(name, count)} in the image."


def _absent(scene: Scene, rng: random.Random) -> str:
    return negatives(scene, "adversarial" if rng.random() < 0.6 else "random", rng, 1)[0]


def _shown(scene: Scene, rng: random.Random) -> str | None:
    names = list(scene.counts)
    return names[rng.randrange(len(names))] if names else None


def _uniques(scene: Scene) -> list[SceneObject]:
    return [thing for thing in scene.objects if scene.counts[thing.name] == 1]


def _object(scene: Scene, rng: random.Random, *, truth: bool) -> Statement | None:
    name = _shown(scene, rng) if truth else _absent(scene, rng)
    if name is None:
        return None
    text = _OBJECT_FORMS[rng.randrange(len(_OBJECT_FORMS))].format(thing=counted(name, 1))
    place = "the picture" if rng.random() < 0.5 else "the image"
    question = (f"Is there {counted(name, 1)}?", f"Does {place} show {counted(name, 1)}?")[rng.randrange(2)]
    return Statement(text, question, truth, number_sentence(name, scene.counts.get(name, 0)), "object")


def _number(scene: Scene, rng: random.Random, *, truth: bool) -> Statement | None:
    name = _shown(scene, rng)
    if name is None:
        return None
    count = scene.counts[name]
    # "There is a dog" is also true of two dogs, so statements about one object say "exactly one".
    stated = count
    while not truth and stated == count:
        stated = max(1, min(MAX_OBJECTS, count + (-2, -1, -1, 1, 1, 2)[rng.randrange(6)]))
    verb = "is" if stated == 1 else "are"
    things = f"{number(stated)} {singular(name) if stated == 1 else plural(name)}"
    form = _NUMBER_FORMS[2 if stated == 1 else rng.randrange(3)]
    exactly = "exactly" if stated == 1 or rng.random() < 0.7 else "precisely"
    text = form.format(verb=verb, things=things, exactly=exactly)
    question = f"{verb.capitalize()} there {'exactly ' if stated == 1 or rng.random() < 0.3 else ''}{things}?"
    instead = number_sentence(name, count)
    return Statement(text, question, truth, instead, "number")


def _place(scene: Scene, rng: random.Random, *, truth: bool) -> Statement | None:
    things = _uniques(scene)
    if not truth and rng.random() < 0.15:
        name, place = _absent(scene, rng), PLACES[rng.randrange(len(PLACES))]
        if name in scene.counts:
            return None
        noun = singular(name)
        absent = number_sentence(name, 0)
        return Statement(f"The {noun} is {place}.", f"Is the {noun} {place}?", truth, absent, "place")
    if not things:
        return None
    thing = things[rng.randrange(len(things))]
    fitting = [place for place in PLACES if is_at(thing, place) == truth]
    place = fitting[rng.randrange(len(fitting))]
    if truth and rng.random() < 0.5:
        place = thing.place
    noun = singular(thing.name)
    instead = f"The {noun} is {place if truth else thing.place}."
    return Statement(f"The {noun} is {place}.", f"Is the {noun} {place}?", truth, instead, "place")


def _relation(scene: Scene, rng: random.Random, *, truth: bool) -> Statement | None:
    things = _uniques(scene)
    rng.shuffle(things)
    across = rng.random() < 0.65
    for thing in things:
        for other in things:
            apart = (thing.x - other.x) if across else (thing.y - other.y)
            if abs(apart) > _APART:
                words = ("to the left of", "to the right of") if across else ("above", "below")
                true_relation, false_relation = words if apart < 0 else words[::-1]
                a, b = singular(thing.name), singular(other.name)
                relation = true_relation if truth else false_relation
                return Statement(
                    f"The {a} is {relation} the {b}.",
                    f"Is the {a} {relation} the {b}?",
                    truth,
                    f"The {a} is {true_relation} the {b}.",
                    "relation",
                )
    return None


def _list(scene: Scene, rng: random.Random, *, truth: bool) -> Statement | None:
    counts = sorted(scene.counts.items(), key=lambda item: CLASSES.index(item[0]))
    if len(counts) < 2:
        return None
    chosen = [item for item in counts if rng.random() < 0.75] or counts[:2]
    instead = ""
    if not truth:
        index = rng.randrange(len(chosen))
        name, count = chosen[index]
        if count > 1 and rng.random() < 0.4:
            stated = count + (1 if count == 2 or rng.random() < 0.5 else -1)
            chosen[index], instead = (name, stated), number_sentence(name, count)
        else:
            other = _absent(scene, rng)
            chosen[index], instead = (other, 1 if rng.random() < 0.8 else 2), number_sentence(other, 0)
            chosen.sort(key=lambda item: CLASSES.index(item[0]))
    things = listed([counted(name, count) for name, count in chosen])
    verb = "is" if chosen[0][1] == 1 else "are"
    text = _LIST_FORMS[rng.randrange(len(_LIST_FORMS))].format(things=things, verb=verb)
    return Statement(text, f"Does the image show {things}?", truth, instead or text, "list")
