"""JSON about pictures and documents: simple schemas, told in the prompt or only forced on the answer."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saliency_guard.scenes import documents, language
from saliency_guard.scenes.language import CANNOT_TELL
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.vocabulary import CLASSES, plural, singular, with_article
from saliency_guard.scenes.words import coined, pick, preamble
from saliency_guard.training import single
from saliency_guard.training.sheets import ASSISTANT, Branch, Sheet, opening, sheet

NOWHERE = "not in the image"
"""The place of what is not there."""


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a JSON object.

    Attributes:
        key: its name.
        schema: of its value.
        value: the true one; None is ``CANNOT_TELL`` for a string.
        description: what it holds, in words.
    """

    key: str
    schema: dict[str, Any]
    value: Any
    description: str


FLAGS = (
    "has_{one}",
    "{one}_present",
    "contains_{one}",
    "{one}_visible",
    "shows_{one}",
    "is_there_{a}",
    "{one}",
    "{one}_exists",
    "there_are_{many}",
    "is_{a}_shown",
    "picture_has_{one}",
)
NUMBERS = (
    "number_of_{many}",
    "{one}_count",
    "num_{many}",
    "how_many_{many}",
    "{many}",
    "count_of_{many}",
    "{many}_in_image",
    "{many}_number",
    "amount_of_{many}",
    "{one}_total",
)
PLACES = (
    "{one}_position",
    "{one}_location",
    "{one}_place",
    "where_is_{one}",
    "place_of_{one}",
    "{one}_area",
    "location_of_{one}",
)
LISTS = ("objects", "things", "items", "labels", "visible_objects", "names", "contents", "objects_in_image")
TEXTS = ("caption", "description", "summary", "title", "short_description", "text")
TOTALS = ("total", "object_count", "number_of_objects", "count", "total_objects")
ANSWERS = ("answer", "result", "response", "value")

UNSEEN: dict[str, tuple[str, ...]] = {
    "flag": ("is_{one}_visible", "{one}_in_image", "any_{many}"),
    "number": ("{many}_count", "total_{many}", "count_{many}"),
    "place": ("{one}_where", "position_of_{one}"),
    "list": ("visible_things", "object_names"),
    "text": ("image_caption", "image_description"),
}
"""Patterns of keys for evaluation alone: new keys of words that are known."""


def keyed(pattern: str, name: str) -> str:
    """A pattern filled with a class: ``"has_{one}"`` gives ``"has_teddy_bear"``."""
    words = {"one": name, "many": plural(name).removeprefix("pairs of "), "a": with_article(name)}
    return pattern.format(**words).replace(" ", "_")


def flag(scene: Scene, name: str, key: str) -> Field:
    """Whether a class is shown."""
    described = f"Whether the image shows {with_article(name)}"
    return Field(key, {"type": "boolean"}, name in scene.counts, described)


def amount(scene: Scene, name: str, key: str) -> Field:
    """How many of a class there are."""
    return Field(key, {"type": "integer"}, scene.counts.get(name, 0), f"Number of {plural(name)} in the image")


def position(scene: Scene, name: str, key: str) -> Field:
    """Where a thing is; the first of several in drawing order is not known, so there is one, or none."""
    places = [thing.place for thing in scene.objects if thing.name == name]
    return Field(key, {"type": "string"}, places[0] if places else NOWHERE, f"Where the {singular(name)} is")


def shown(scene: Scene, key: str) -> Field:
    """The classes that are shown."""
    names = [name for name in CLASSES if name in scene.counts]
    return Field(key, {"type": "array", "items": {"type": "string"}}, names, "The objects in the image")


def told(scene: Scene, key: str) -> Field:
    """A caption."""
    return Field(key, {"type": "string"}, single.brief(scene), "A description of the image")


def total(scene: Scene, key: str) -> Field:
    """How many things there are."""
    return Field(key, {"type": "integer"}, len(scene.objects), "Number of objects in the image")


def empty(scene: Scene, key: str) -> Field:
    """Whether nothing is shown."""
    return Field(key, {"type": "boolean"}, not scene.objects, "Whether the image shows nothing")


def tallied(scene: Scene, key: str) -> Field:
    """Classes with their numbers."""
    schema = {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
            "required": ["name", "count"],
        },
    }
    counts = [{"name": name, "count": scene.counts[name]} for name in CLASSES if name in scene.counts]
    return Field(key, schema, counts, "The objects in the image and how many there are of each")


def _class_key(rng: random.Random, patterns: Sequence[str], name: str) -> str:
    if rng.random() < 0.18:  # A key of unknown words: its class and its type are what is left.
        patterns = (f"{coined(rng)}_{{one}}", f"{{one}}_{coined(rng)}", f"{{many}}_{coined(rng)}")
    return keyed(pick(rng, tuple(patterns)), name)


def _field(scene: Scene, rng: random.Random) -> Field:
    chance, name = rng.random(), single.name_for(scene, rng)
    if chance < 0.27:
        return flag(scene, name, _class_key(rng, FLAGS, name))
    if chance < 0.52:
        return amount(scene, name, _class_key(rng, NUMBERS, name))
    if chance < 0.64 and scene.counts.get(name, 0) <= 1:
        return position(scene, name, _class_key(rng, PLACES, name))
    if chance < 0.76:
        return shown(scene, pick(rng, LISTS))
    if chance < 0.87:
        return told(scene, pick(rng, TEXTS))
    if chance < 0.92:
        return total(scene, pick(rng, TOTALS))
    if chance < 0.94:
        return empty(scene, pick(rng, ("is_empty", "empty", "nothing_visible")))
    if chance < 0.98:
        return tallied(scene, pick(rng, ("objects", "counts", "items", "inventory")))
    key = pick(rng, ("author", "artist", "year", "photographer", "camera", "city", "country", "weather"))
    return Field(key, {"type": "string"}, CANNOT_TELL, f"The {key} of the image")


def fields(scene: Scene, rng: random.Random, count: int) -> list[Field]:
    """Fields with different keys."""
    made: dict[str, Field] = {}
    while len(made) < count:
        new = _field(scene, rng)
        made.setdefault(new.key, new)
    return list(made.values())


def written(filled: Sequence[Field]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A JSON object as constrained decoding writes it, and the characters of it that are no values."""
    text, silent = "{", []
    start = 0
    for number, field in enumerate(filled):
        text += ("" if number == 0 else ", ") + f"{json.dumps(field.key)}: "
        silent.append((start, len(text)))
        text += json.dumps(field.value)
        start = len(text)
    silent.append((start, start + 1))
    return text + "}", tuple(silent)


def schema_of(filled: Sequence[Field], rng: random.Random | None = None, *, described: bool = False) -> dict[str, Any]:
    """The JSON schema, in the order pydantic writes it, with its titles where ``rng`` says so."""
    titled = rng is not None and rng.random() < 0.5
    properties = {}
    for field in filled:
        one: dict[str, Any] = {"description": field.description} if described else {}
        if titled:
            one["title"] = field.key.replace("_", " ").title()
        properties[field.key] = {**one, **field.schema}
    top = {"title": pick(rng, ("Picture", "Answer", "Image", "Result"))} if rng is not None and titled else {}
    return {"properties": properties, "required": [field.key for field in filled], **top, "type": "object"}


TOLD = (
    "{question}\nAnswer with a JSON object of this schema: {schema}",
    "{question} Write JSON that follows this schema:\n{schema}",
    "{question}\n\nYour output has to be a JSON object that fits the schema below.\n```\n{schema}\n```",
    "This is a JSON schema:\n{schema}\n\nFill it in. {question}",
    "{question} Output a valid JSON object, do not repeat the schema.\n{schema}",
    "{question} Return JSON with the keys {keys}.",
    "{question} Answer in JSON with {keys}.",
    "{question}\nReturn the result as a JSON with {keys} and nothing else.",
)
UNSEEN_TOLD = ("{question}\nUse this schema for your JSON answer:\n{schema}",)
"""For evaluation alone."""
_QUESTIONS = ("", "What is in the image?", "Look at the image.", "Describe the image.", "Extract the data.")
_NO_SCHEMA = (*language.DESCRIBE_FORMS, *single.BRIEF, "Fill in the form.", "Extract the data.", "What is there?")


def in_json(filled: Sequence[Field], rng: random.Random, question: str) -> Branch:
    """A form that the prompt tells of."""
    keys = ", ".join(f"'{field.key}'" for field in filled)
    schema = json.dumps(schema_of(filled, rng, described=rng.random() < 0.3), indent=rng.choice((None, None, None, 2)))
    prompt = pick(rng, TOLD).format(question=question, schema=schema, keys=keys).strip()
    text, _ = written(filled)
    return Branch(f"{prompt}\n{ASSISTANT}", text)


def forced(filled: Sequence[Field], question: str) -> Branch:
    """A form that only the decoder knows of: what is no value will be forced."""
    text, silent = written(filled)
    return Branch(f"{question}\n{ASSISTANT}", text, silent)


def _asked(scene: Scene, rng: random.Random) -> tuple[str, Field]:
    """A question, and a key that holds its answer."""
    key, name, chance = pick(rng, ANSWERS), single.name_for(scene, rng), rng.random()
    forms = single.forms_of(name)
    if chance < 0.35:
        question = pick(rng, (language.presence_question(name), *single.PRESENCE)).format(**forms)
        if rng.random() < 0.6:
            return question, flag(scene, name, key)
        return question, Field(key, {"type": "string"}, language.presence(scene, name).answer, "The answer")
    if chance < 0.65:
        question = pick(rng, single.NUMBER).format(**forms)
        if rng.random() < 0.6:
            return question, amount(scene, name, pick(rng, (*ANSWERS, "count", "number")))
        return question, Field(key, {"type": "string"}, language.how_many(scene, name).answer, "The answer")
    if chance < 0.85 and scene.counts.get(name, 0) <= 1:
        return pick(rng, single.PLACE).format(**forms), position(
            scene, name, pick(rng, ("place", "position", "location"))
        )
    made = single.exchange(scene, rng)
    return made.question, Field(key, {"type": "string"}, made.answer, "The answer")


def _count(rng: random.Random) -> int:
    return rng.choice((1, 1, 1, 2, 2, 3, 4))


def picture_form(scene: Scene, rng: random.Random) -> Branch:
    """A form about a picture."""
    chance = rng.random()
    if chance < 0.35:
        return forced(fields(scene, rng, _count(rng)), pick(rng, _NO_SCHEMA))
    if chance < 0.5:
        question, field = _asked(scene, rng)
        return forced([field], question)
    if chance < 0.65:
        question, field = _asked(scene, rng)
        return in_json([field], rng, question)
    return in_json(fields(scene, rng, _count(rng)), rng, pick(rng, _QUESTIONS))


def picture_forms(scene: Scene, rng: random.Random) -> Sheet:
    """Several forms about one picture."""
    system = preamble(rng, 1) if rng.random() < 0.15 else ""
    return sheet(opening(system=system), [picture_form(scene, rng) for _ in range(6)])


def fact_field(told_: documents.Fact) -> Field:
    """A key for a fact of a document."""
    number = told_.value.isdigit() and not told_.value.startswith("0")
    value: Any = int(told_.value) if number else told_.value
    return Field(told_.topic, {"type": "integer" if number else "string"}, value, told_.question.rstrip("?."))


def document_forms(rng: random.Random, pictures: int = 0) -> Sheet:
    """Facts of a text, as JSON."""
    known = documents.facts(rng, rng.randint(2, 4))
    text = documents.document(rng, known)
    lead = pick(rng, ("Extract the data from this text:\n", "Text: ", "", "Document:\n"))
    branches: list[Branch] = []
    for _ in range(4):
        chosen = rng.sample(known, rng.randint(1, min(3, len(known))))
        filled = [fact_field(each) for each in chosen]
        if rng.random() < 0.5:
            branches.append(forced(filled, f"\n{pick(rng, ('Fill in the form.', 'Extract the data.', ''))}".rstrip()))
        else:
            made = in_json(filled, rng, pick(rng, ("", "Extract the data.", "Fill in what the text says.")))
            branches.append(Branch(f"\n{made.prompt}", made.answer))
    return sheet(f"{opening(pictures)}{lead}{text}", branches)
