"""Training texts about several pictures in a prompt: which one shows an object, what each shows, how they differ."""

from __future__ import annotations

import random
from collections.abc import Sequence

from saliency_guard.scenes import language
from saliency_guard.scenes.language import Exchange, listed
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.vocabulary import CLASSES, counted, number, plural, singular, with_article
from saliency_guard.scenes.words import pick, preamble
from saliency_guard.training.sheets import IMAGE, Branch, Sheet, asked, history, opening, sheet

Shown = Sequence[Scene | None]
"""The pictures of a prompt, in order; None is a picture without recognisable objects."""

_ORDINALS = ("first", "second", "third", "fourth")
_BRANCHES = 7
_SHORT = 0.5

WHICH = (
    "Which picture shows {a}?",
    "Which picture shows {a}?",
    "In which picture is {a}?",
    "Which image shows {a}?",
    "Which of the pictures shows {a}?",
    "In which image do you see {a}?",
    "On which picture is there {a}?",
    "Find the picture with {a}.",
)
UNSEEN_WHICH = ("Tell me which image contains {a}.", "{A} is in which picture?")
"""Only for evaluation."""
WHAT = (
    "What does picture {n} show?",
    "What is in picture {n}?",
    "What does the {nth} picture show?",
    "Describe picture {n}.",
    "Describe the {nth} image.",
    "What is in image {n}?",
    "What do you see in the {nth} picture?",
)
EACH = (
    "Describe each picture.",
    "Write a caption for each picture.",
    "Describe the pictures.",
    "What do the pictures show?",
    "Describe all images.",
    "What is in these images?",
    language.DESCRIBE,
    "Describe the images one by one.",
)
COMMON = (
    "What do all pictures show?",
    "What do the pictures have in common?",
    "What is in all of the images?",
    "Which objects are in every picture?",
)
DIFFERENCE = (
    "What is the difference between picture {n} and picture {m}?",
    "How do picture {n} and picture {m} differ?",
    "Compare picture {n} and picture {m}.",
    "What is different in picture {n} and picture {m}?",
)


def shows(number_: int, scene: Scene | None) -> str:
    """A sentence about the content of one of several pictures."""
    if scene is None:
        return f"I can not tell what picture {number_} shows."
    if not scene.objects:
        return f"Picture {number_} is empty."
    counts = sorted(scene.counts.items(), key=lambda item: CLASSES.index(item[0]))
    return f"Picture {number_} shows {listed([counted(name, count) for name, count in counts])}."


def pictures_with(shown: Shown, name: str) -> list[int]:
    """The numbers, from 1, of the pictures that show a class."""
    return [k for k, scene in enumerate(shown, start=1) if scene is not None and name in scene.counts]


def named(numbers: Sequence[int]) -> str:
    """Pictures with their numbers: ``"Picture 2"``, ``"Pictures 1 and 3"``."""
    return f"Picture{'s' if len(numbers) > 1 else ''} {listed([str(k) for k in numbers])}"


def which(shown: Shown, name: str) -> str:
    """The answer to "Which picture shows ...?"."""
    numbers = pictures_with(shown, name)
    if not numbers:
        return f"No picture shows {with_article(name)}."
    return f"{named(numbers)} {'show' if len(numbers) > 1 else 'shows'} {with_article(name)}."


def each(shown: Shown) -> str:
    """A caption for each picture."""
    return " ".join(shows(k, scene) for k, scene in enumerate(shown, start=1))


def common(shown: Shown) -> str:
    """The classes that all pictures show, in a sentence."""
    names = [name for name in CLASSES if len(pictures_with(shown, name)) == len(shown)]
    if not names:
        return "The pictures have nothing in common."
    return f"All pictures show {listed([with_article(name) for name in names])}."


def difference(shown: Shown, first: int, second: int) -> str:
    """The classes that only one of two pictures shows; ``first`` and ``second`` are numbers from 1."""
    sentences = []
    for here, there in ((first, second), (second, first)):
        scene, other = shown[here - 1], shown[there - 1]
        names, other_names = (set(shown_.counts) if shown_ is not None else set() for shown_ in (scene, other))
        only = [name for name in CLASSES if name in names - other_names]
        if only:
            sentences.append(f"Only picture {here} shows {listed([with_article(name) for name in only])}.")
    return " ".join(sentences) or f"Pictures {first} and {second} show the same."


def present(shown: Shown, number_: int, name: str) -> Exchange:
    """Whether one of the pictures shows a class."""
    scene = shown[number_ - 1]
    count = scene.counts.get(name, 0) if scene is not None else 0
    verb = "are" if count > 1 else "is"
    answer = f"{'Yes' if count else 'No'}, there {verb} {counted(name, count)} in picture {number_}."
    return Exchange(f"Is there {with_article(name)} in picture {number_}?", answer)


def how_many(shown: Shown, number_: int, name: str) -> Exchange:
    """The number of objects of a class in one of the pictures."""
    scene = shown[number_ - 1]
    count = scene.counts.get(name, 0) if scene is not None else 0
    noun = singular(name) if count == 1 else plural(name)
    answer = f"There {'is' if count == 1 else 'are'} {number(count)} {noun} in picture {number_}."
    return Exchange(f"How many {plural(name)} are in picture {number_}?", answer)


def anywhere(shown: Shown, name: str) -> Exchange:
    """Whether any picture shows a class."""
    numbers = pictures_with(shown, name)
    question = f"Does any picture show {with_article(name)}?"
    if not numbers:
        return Exchange(question, f"No, no picture shows {with_article(name)}.")
    return Exchange(question, f"Yes, {which(shown, name)[0].lower()}{which(shown, name)[1:]}")


def where(shown: Shown, number_: int, name: str) -> Exchange:
    """The place of an object in one of the pictures, which shows only one of its class."""
    scene = shown[number_ - 1]
    places = [thing.place for thing in scene.objects if thing.name == name] if scene is not None else []
    question = f"Where is the {singular(name)} in picture {number_}?"
    return Exchange(question, f"In picture {number_}, the {singular(name)} is {places[0]}.")


def _name(shown: Shown, rng: random.Random) -> str:
    """A class, usually one that one of the pictures shows."""
    names = [name for scene in shown if scene is not None for name in scene.counts]
    if names and rng.random() < 0.8:
        return names[rng.randrange(len(names))]
    return CLASSES[rng.randrange(len(CLASSES))]


def _exchange(shown: Shown, rng: random.Random) -> Branch:
    chance = rng.random()
    name, k = _name(shown, rng), rng.randrange(len(shown)) + 1
    if chance < 0.3:
        article = with_article(name)
        question = pick(rng, WHICH).format(a=article)
        return asked(question, which(shown, name))
    if chance < 0.48:
        question = pick(rng, WHAT).format(n=k, nth=_ORDINALS[k - 1])
        return asked(question, shows(k, shown[k - 1]))
    if chance < 0.54:
        return asked(pick(rng, EACH), each(shown))
    if chance < 0.6:
        return asked(pick(rng, COMMON), common(shown))
    if chance < 0.66:
        m = (k + rng.randrange(len(shown) - 1)) % len(shown) + 1
        return asked(pick(rng, DIFFERENCE).format(n=k, m=m), difference(shown, k, m))
    if chance < 0.69:
        answer = f"There are {number(len(shown))} pictures."
        return asked(pick(rng, ("How many pictures are there?", "How many images do you see?")), answer)
    if chance < 0.74:
        made = anywhere(shown, name)
        return asked(made.question, made.answer)
    if chance < 0.8:
        scene = shown[k - 1]
        unique = [class_ for class_, count in scene.counts.items() if count == 1] if scene is not None else []
        if unique:
            made = where(shown, k, unique[rng.randrange(len(unique))])
            return asked(made.question, made.answer)
    made = how_many(shown, k, name) if chance > 0.93 else present(shown, k, name)
    return asked(made.question, made.answer, short=made.answer[:2] in {"Ye", "No"} and rng.random() < _SHORT)


def several(shown: Shown, rng: random.Random) -> Sheet:
    """Questions about several pictures, with the pictures placed in the prompt in one of several ways."""
    system = preamble(rng, 1) if rng.random() < 0.15 else ""
    layout = rng.random()
    if layout < 0.75:
        prefix = opening(len(shown), system=system)
    elif layout < 0.9:  # The first picture in an earlier turn of the chat.
        first = shows(1, shown[0]).replace("Picture 1", "The image").replace("what picture 1", "what this picture")
        turns = history([(pick(rng, language.DESCRIBE_FORMS), first)])
        prefix = opening(1, system=system) + turns + f"{IMAGE}\n" * (len(shown) - 1)
    else:  # Each after a short text.
        word = pick(rng, ("Here is a picture:", "Look at this:", "Photo:", "An image:"))
        system_line = f"{system}\n" if system else ""
        prefix = f"<s>{system_line}USER: " + "".join(f"{word}{IMAGE}\n" for _ in shown)
    return sheet(prefix, [_exchange(shown, rng) for _ in range(_BRANCHES)])
