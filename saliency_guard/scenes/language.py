"""Captions of scenes, and questions about scenes with their true answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from saliency_guard.scenes.scene import Scene, SceneObject
from saliency_guard.scenes.vocabulary import (
    CLASSES,
    NEVER_DRAWN,
    SCENE_TYPES,
    counted,
    number,
    plural,
    singular,
    with_article,
)

DESCRIBE = "Describe the image in detail."
UNKNOWN = "I can only answer questions about the objects in the image."
CANNOT_TELL = "I can not tell."
"""The answer to a question that neither the picture nor the text answers."""
CANNOT_SEE = "I can not tell what this picture shows."
"""The answer to a question about a picture without recognisable objects."""
EMPTY = "The image is empty. There are no objects in it."

Negatives = Literal["random", "popular", "adversarial"]

DESCRIBE_FORMS = (
    DESCRIBE,
    DESCRIBE,
    DESCRIBE,
    "Describe this image.",
    "Please describe this image in detail.",
    "What is shown in this image?",
    "What do you see?",
    "What is in the image?",
)
OFF_TOPIC = (
    "What is the capital of France?",
    "Who are you?",
    "What is the weather like today?",
    "Why is the sky blue?",
    "Write a poem about love.",
    "What is two plus two?",
    "Who took this photo?",
    "What time is it?",
    "Is it a nice day?",
    "Translate this into German.",
    "What will happen next?",
    "How much does it cost?",
)

_OTHER_FORMS = (
    "there {verb} {}.",
    "there {verb} {} in the image.",
    "there {verb} {} in this picture.",
    "{}.",
    "I see {}.",
    "I can see {} here.",
    "it shows {}.",
    "you can see {}.",
    "a picture with {}.",
    "the photo contains {}.",
    "we are looking at {}.",
    "it looks like {} to me.",
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question about a scene and its true answer."""

    question: str
    answer: str


def listed(phrases: list[str]) -> str:
    """Phrases joined as an English list: ``"a dog"``, ``"a dog and a cat"``, ``"a dog, a cat and a cup"``."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def caption(scene: Scene, rng: random.Random) -> str:
    """One to three true sentences: the objects, in the order of ``CLASSES``, then the places of some of them."""
    if not scene.objects:
        return EMPTY
    # With a fixed order the model never has to guess the next object, and a wrong guess would look like a
    # hallucination. In the order of the classes, the last word alone limits which objects may follow.
    counts = sorted(scene.counts.items(), key=lambda item: CLASSES.index(item[0]))
    things = [counted(name, count) for name, count in counts]
    opening = ("The image shows {}.", "In the image, there {verb} {}.", "This is a picture of {}.")[rng.randrange(3)]
    verb = "is" if counts[0][1] == 1 else "are"
    sentences = [opening.format(listed(things), verb=verb)]
    unique = [thing for thing in scene.objects if scene.counts[thing.name] == 1]
    rng.shuffle(unique)
    sentences += [_where_sentence(thing, unique, rng) for thing in unique[:2]]
    return " ".join(sentences)


def _where_sentence(thing: SceneObject, unique: list[SceneObject], rng: random.Random) -> str:
    others = [other for other in unique if abs(other.x - thing.x) > 0.2]
    if others and rng.random() < 0.4:
        other = others[rng.randrange(len(others))]
        side = "left" if thing.x < other.x else "right"
        return f"The {singular(thing.name)} is to the {side} of the {singular(other.name)}."
    return f"The {singular(thing.name)} is {thing.place}."


def presence(scene: Scene, name: str) -> Exchange:
    """POPE's question about an object, with an answer that begins with yes or no."""
    count = scene.counts.get(name, 0)
    if count == 0:
        answer = f"No, there is {counted(name, 0)} in the image."
    else:
        answer = f"Yes, there {'is' if count == 1 else 'are'} {counted(name, count)} in the image."
    return Exchange(presence_question(name), answer)


def presence_question(name: str) -> str:
    """POPE's question; like POPE, it puts the bare class name after the article: "a scissors", "a skis"."""
    article = "an" if with_article(name).startswith("an ") else "a"
    return f"Is there {article} {name} in the image?"


def how_many(scene: Scene, name: str) -> Exchange:
    """A question about the number of objects of a class."""
    count = scene.counts.get(name, 0)
    noun = singular(name) if count == 1 else plural(name)
    answer = f"There {'is' if count == 1 else 'are'} {number(count)} {noun} in the image."
    return Exchange(f"How many {plural(name)} are there in the image?", answer)


def where(scene: Scene, name: str) -> Exchange:
    """A question about the places of the objects of a class."""
    things = [thing for thing in scene.objects if thing.name == name]
    question = f"Where is the {singular(name)}?"
    if not things:
        return Exchange(question, f"There is {counted(name, 0)} in the image.")
    if len(things) == 1:
        return Exchange(question, f"The {singular(name)} is {things[0].place}.")
    places = listed([f"one {thing.place}" for thing in things])
    return Exchange(question, f"There are {counted(name, len(things))}: {places}.")


def described_otherwise(scene: Scene, rng: random.Random) -> str:
    """A true caption in other words than `caption`: some of the objects, in any order and any form.

    `caption` has the wording that the embedded model was trained on; answers to be scored may have any wording.
    """
    counts = sorted(scene.counts.items())
    rng.shuffle(counts)
    chosen = counts[: rng.randint(1, len(counts))]
    things = listed([counted(name, count) for name, count in chosen])
    verb = "is" if chosen[0][1] == 1 else "are"
    first = _OTHER_FORMS[rng.randrange(len(_OTHER_FORMS))].format(things, verb=verb)
    unique = [thing for thing in scene.objects if scene.counts[thing.name] == 1]
    text = first[0].upper() + first[1:]
    if unique and rng.random() < 0.3:
        thing = unique[rng.randrange(len(unique))]
        text += f" You find the {singular(thing.name)} {thing.place}."
    return text


def present_otherwise(scene: Scene, name: str, rng: random.Random) -> str:
    """A true answer to `presence` in other words."""
    things = plural(name)
    count = scene.counts.get(name, 0)
    forms = (
        (f"No, I see no {things}.", "No.", f"No, I don't see any {things} here.", f"There are no {things}.")
        if count == 0
        else (
            "Yes.",
            f"Yes, I can see {counted(name, count)}.",
            "Yes, there is.",
            f"Yes, it shows {counted(name, count)}.",
        )
    )
    return forms[rng.randrange(len(forms))]


def counted_otherwise(scene: Scene, name: str, rng: random.Random) -> str:
    """A true answer to `how_many` in other words."""
    count = scene.counts.get(name, 0)
    noun = singular(name) if count == 1 else plural(name)
    word = number(count)
    forms = (
        f"{count}",
        f"{word[0].upper()}{word[1:]}.",
        f"I count {word} {noun}.",
        f"I see {count} {noun} in the picture.",
    )
    return forms[rng.randrange(len(forms))]


def negatives(scene: Scene, kind: Negatives, rng: random.Random, count: int) -> list[str]:
    """Absent classes to ask about, chosen like POPE's.

    ``random``: any class; ``popular``: the classes that most scene types have; ``adversarial``: first the classes that
    are usual in this scene type.
    """
    shown = scene.counts
    absent = [name for name in CLASSES if name not in shown]
    rng.shuffle(absent)
    if kind == "popular":
        absent.sort(key=lambda name: -sum(name in names for names in SCENE_TYPES.values()))
        absent = absent[:12]
        rng.shuffle(absent)
    elif kind == "adversarial":
        absent.sort(key=lambda name: name not in SCENE_TYPES[scene.scene_type])
    return absent[:count]


def describe(scene: Scene, rng: random.Random) -> Exchange:
    """A request for a description in one of several forms, and a caption."""
    return Exchange(DESCRIBE_FORMS[rng.randrange(len(DESCRIBE_FORMS))], caption(scene, rng))


def questions(scene: Scene, rng: random.Random, count: int) -> list[Exchange]:
    """A balanced mix for training: as many yes as no answers, numbers, places, and unanswerable questions."""
    present = list(scene.counts)
    exchanges: list[Exchange] = []
    while len(exchanges) < count:
        chance = rng.random()
        kind: Negatives = ("random", "adversarial")[rng.randrange(2)]
        absent = negatives(scene, kind, rng, 1)[0]
        name = present[rng.randrange(len(present))] if present and rng.random() < 0.5 else absent
        if chance < 0.03:
            exchanges.append(Exchange(OFF_TOPIC[rng.randrange(len(OFF_TOPIC))], UNKNOWN))
        elif chance < 0.06:
            exchanges.append(presence(scene, NEVER_DRAWN[rng.randrange(len(NEVER_DRAWN))]))
        elif chance < 0.16:
            exchanges.append(how_many(scene, name))
        elif chance < 0.28:
            exchanges.append(where(scene, name))
        else:
            exchanges.append(presence(scene, name))
    return exchanges
