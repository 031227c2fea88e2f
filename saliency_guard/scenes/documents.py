"""Documents with made-up facts, questions about them, and questions that they do not answer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from saliency_guard.scenes.words import (
    ATTRIBUTES,
    CITIES,
    COLOURS,
    DAYS,
    EVENTS,
    NAMES,
    ROOMS,
    THINGS,
    coined,
    pick,
    sentence,
    value,
)

_REQUESTS = ("{}", "{}", "{}", "{}", "Please tell me: {}", "I would like to know: {}", "{} Please answer.")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a document says.

    Attributes:
        sentence: how it stands there, and how it is repeated.
        question: asks for it.
        topic: what it is about, as a key: ``"serial_number"``.
        value: what the question asks for.
    """

    sentence: str
    question: str
    topic: str
    value: str

    @property
    def answer(self) -> str:
        """The sentence again."""
        return self.sentence


def _made(sentence_: str, question: str, topic: str, answer: str) -> Fact:
    return Fact(sentence_, question, topic.replace(" ", "_"), answer)


def fact(rng: random.Random) -> Fact:
    """A fact and the question for it."""
    kind = rng.randrange(12)
    thing, who, said = pick(rng, THINGS), pick(rng, NAMES), value(rng)
    if rng.random() < 0.3:
        thing = coined(rng)
    if kind <= 2:
        attribute = pick(rng, ATTRIBUTES) if rng.random() < 0.85 else coined(rng)
        question = pick(rng, (f"What is the {attribute}?", f"Tell me the {attribute}.", f"Which {attribute} is given?"))
        return _made(f"The {attribute} is {said}.", question, attribute, said)
    if kind <= 4:
        attribute = pick(rng, ATTRIBUTES) if rng.random() < 0.85 else coined(rng)
        of = f"{attribute} of the {thing}"
        question = pick(rng, (f"What is the {of}?", f"What {attribute} does the {thing} have?", f"Tell me the {of}."))
        return _made(f"The {of} is {said}.", question, f"{thing} {attribute}", said)
    if kind == 5:
        place = pick(rng, CITIES) if rng.random() < 0.7 else coined(rng).capitalize()
        verb = pick(rng, ("live", "work", "come from", "stay in"))
        verb, preposition = (verb, "in") if verb in {"live", "work"} else (verb.split()[0], verb.split()[1])
        tail = " from" if preposition == "from" else ""
        return _made(f"{who} {verb}s {preposition} {place}.", f"Where does {who} {verb}{tail}?", f"{verb} place", place)
    if kind == 6:
        age = str(rng.randint(3, 99))
        return _made(f"{who} is {age} years old.", f"How old is {who}?", f"{who.lower()} age", age)
    if kind == 7:
        event = pick(rng, EVENTS)
        when = (
            f"at {rng.randint(1, 23)}:{rng.randrange(0, 60, 5):02d}" if rng.random() < 0.5 else f"on {pick(rng, DAYS)}"
        )
        verb = pick(rng, ("start", "end", "begin"))
        return _made(f"The {event} {verb}s {when}.", f"When does the {event} {verb}?", f"{event} {verb}", when[3:])
    if kind == 8:
        verb = pick(rng, ("wrote", "bought", "built", "sold", "sent", "signed", "repaired"))
        return _made(f"{who} {verb} the {thing}.", f"Who {verb} the {thing}?", f"{thing} person", who)
    if kind == 9:
        price = f"{rng.randrange(1, 2000)} {pick(rng, ('euros', 'dollars', 'pounds'))}"
        return _made(f"The {thing} costs {price}.", f"How much does the {thing} cost?", f"{thing} price", price)
    if kind == 10:
        colour = pick(rng, COLOURS)
        word = pick(rng, ("colour", "color"))
        return _made(f"The {thing} is {colour}.", f"What {word} is the {thing}?", f"{thing} {word}", colour)
    room = pick(rng, ROOMS)
    return _made(f"The {thing} stands in the {room}.", f"In which room is the {thing}?", f"{thing} room", room)


def facts(rng: random.Random, count: int) -> list[Fact]:
    """Facts whose questions, topics and values all differ."""
    made: list[Fact] = []
    while len(made) < count:
        new = fact(rng)
        if all(new.question != old.question and new.topic != old.topic for old in made):
            made.append(new)
    return made


ValueForm = Literal["year", "number", "place", "name", "word"]
"""What kind of value a fact has."""

_YEAR = re.compile(r"\b(?:19|20)\d\d$")
_LISTS = (CITIES, NAMES, COLOURS, DAYS, ROOMS)


def form_of(said: str) -> ValueForm:
    """What kind of value it is: a date with its year, another number or code, a place, a person's name, a word."""
    if any(character.isdigit() for character in said):
        return "year" if " " in said and _YEAR.search(said) else "number"
    if said in CITIES or said in ROOMS:
        return "place"
    return "name" if said.split(maxsplit=1)[0] in NAMES else "word"


def another_value(rng: random.Random, said: str) -> str:
    """Another value of the same form: 1984 for 1972, Oslo for Rome."""
    while True:
        other = _like(rng, said)
        if other != said:
            return other


def _like(rng: random.Random, said: str) -> str:
    listed = next((choices for choices in _LISTS if said in choices), None)
    if listed is not None:
        return pick(rng, listed)
    if ":" in said:
        return f"{rng.randint(1, 23)}:{rng.randrange(0, 60, 5):02d}"
    if form_of(said) == "year":
        return f"{said[:-4]}{rng.randint(1950, 2030)}"
    if any(character.isdigit() for character in said):
        head, last, tail = re.split(r"(\d+)(?!.*\d)", said)
        first = rng.choice("123456789" if len(last) > 1 and last[0] != "0" else "0123456789")
        return f"{head}{first}{''.join(rng.choice('0123456789') for _ in last[1:])}{tail}"
    words = said.split()
    return f"{pick(rng, NAMES)} {coined(rng).capitalize()}" if len(words) == 2 else coined(rng)


def with_value(known: Fact, said: str) -> str:
    """The sentence of a fact with another value, which makes it wrong."""
    head, _, tail = known.sentence.rpartition(known.value)
    return f"{head}{said}{tail}"


def request(rng: random.Random, question: str) -> str:
    """A question, sometimes with a word around it."""
    return pick(rng, _REQUESTS).format(question)


def document(rng: random.Random, known: Sequence[Fact], filler: int | None = None) -> str:
    """A text that states some facts among other sentences."""
    sentences = [each.sentence for each in known]
    for _ in range(rng.choice((0, 0, 1, 2)) if filler is None else filler):
        sentences.insert(rng.randint(0, len(sentences)), sentence(rng))
    glue = pick(rng, (" ", " ", "\n"))
    text = glue.join(sentences)
    if rng.random() < 0.15:
        text = f"{coined(rng).capitalize()} {coined(rng)}\n{text}"
    return text


def split(rng: random.Random, known: Sequence[Fact], documents: int) -> list[list[Fact]]:
    """Facts spread over a number of documents, at least one each where there are enough."""
    shares: list[list[Fact]] = [[] for _ in range(documents)]
    for number, each in enumerate(known):
        shares[number if number < documents else rng.randrange(documents)].append(each)
    return shares
