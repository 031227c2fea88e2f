"""Measures the embedded model's abilities other than captions and POPE, on unseen scenes and with unseen wordings."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from saliency_guard.calibration.reliability import auroc
from saliency_guard.chat.messages import parse_messages
from saliency_guard.chat.tools import parse_tool_calls
from saliency_guard.evaluation.document_questions import wrong_value
from saliency_guard.evaluation.questions import messages_about
from saliency_guard.evaluation.statistics import ratio
from saliency_guard.evaluation.world import PICTURE_SIZE, WorldPicture
from saliency_guard.lvlm import LVLM
from saliency_guard.scenes import documents, language
from saliency_guard.scenes.language import CANNOT_SEE, CANNOT_TELL, DESCRIBE
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.statements import KINDS, statement
from saliency_guard.scenes.vocabulary import CLASSES, counted, plural, singular, with_article
from saliency_guard.scenes.words import pick
from saliency_guard.signals.verification import VerifyConfig
from saliency_guard.training import blanks, calls, forms, frames, several, single, statements
from saliency_guard.training.prompts import answers, assistant, picture, user
from saliency_guard.verifier import Verifier

_PHRASES = {counted(name, count): (name, count) for name in CLASSES for count in range(1, 9)}
_SINGLES = {singular(name): name for name in CLASSES}


class Tally:
    """Counts how many answers of each kind are right."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._all: Counter[str] = Counter()

    def add(self, kind: str, *, right: bool) -> None:
        """Count an answer of a kind."""
        self._right[kind] += right
        self._all[kind] += 1

    def parts(self, *, total: str = "all") -> dict[str, float]:
        """The share of right answers, over all and for each kind."""
        whole = ratio(sum(self._right.values()), sum(self._all.values()))
        return {total: whole} | {kind: ratio(self._right[kind], self._all[kind]) for kind in sorted(self._all)}


def caption_details(texts: Iterable[str], scenes: Iterable[Scene]) -> dict[str, float]:
    """Shares of right numbers, places and sides of correctly mentioned objects, and the share of wrong articles.

    ``numbers`` is over all mentioned classes that the scene has, ``numbers_above_one`` over those with several objects.
    """
    tally, articles = Tally(), Tally()
    for text, scene in zip(texts, scenes, strict=True):
        first, *rest = re.split(r"(?<=\.) ", text)
        listed = re.sub(r"^(The image shows|In the image, there (is|are)|This is a picture of) ", "", first).rstrip(".")
        for phrase in re.split(r", | and ", listed):
            name, count = _PHRASES.get(phrase, ("", 0))
            if name in scene.counts:
                tally.add("numbers", right=count == scene.counts[name])
                if scene.counts[name] > 1:
                    tally.add("numbers_above_one", right=count == scene.counts[name])
        for sentence in rest:
            _place(sentence.rstrip("."), scene, tally)
        for article, noun in re.findall(r"\b(an?) (\w+)", text):
            articles.add("wrong", right=article != with_article(noun).split()[0])
    return {**tally.parts(), "articles_wrong": articles.parts()["all"]}


def _place(sentence: str, scene: Scene, tally: Tally) -> None:
    side = re.fullmatch(r"The ([\w ]+) is to the (left|right) of the ([\w ]+)", sentence)
    place = re.fullmatch(r"The ([\w ]+?) is ((?:at|on|in) the [\w ]+)", sentence)
    uniques = {thing.name: thing for thing in scene.objects if scene.counts[thing.name] == 1}
    if side:
        a, b = (uniques.get(_SINGLES.get(noun, "")) for noun in (side[1], side[3]))
        if a is not None and b is not None:
            tally.add("sides", right=(a.x < b.x) == (side[2] == "left"))
    elif place:
        thing = uniques.get(_SINGLES.get(place[1], ""))
        if thing is not None:
            tally.add("places", right=thing.place == place[2])


def statements_told(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> dict[str, float]:
    """Statements of every kind, in seen and unseen wordings, alone and after a caption, some of which are wrong."""
    cases: list[tuple[str, str, bool, list[dict[str, Any]]]] = []
    for number, world_picture in enumerate(world_pictures):
        rng = random.Random(f"{world_picture.scene.seed} statements")
        kind = KINDS[number % len(KINDS)]
        made = statement(world_picture.scene, rng, kind, truth=number // len(KINDS) % 2 == 0)
        if made is None:
            continue
        variant = rng.randrange(3)
        form = pick(rng, statements.UNSEEN_ASKED if variant == 1 else statements.ASKED)
        question = statements.put(made, form)
        if variant == 2:
            before = made.text if rng.random() < 0.5 else single.brief(world_picture.scene)
            messages = [user(picture(world_picture.image), DESCRIBE), assistant(before), user(question)]
        else:
            messages = [user(picture(world_picture.image), question)]
        way = ("seen words", "unseen words", "behind a caption")[variant]
        cases.append((kind, way, made.truth, messages))
    replies = answers(lvlm, [case[3] for case in cases], max_new_tokens=3)
    tally, ways = Tally(), Tally()
    for (about, way, truth, _), reply in zip(cases, replies, strict=True):
        right = reply.startswith("Yes" if truth else "No")
        tally.add(about, right=right)
        ways.add(way, right=right)
    return tally.parts() | {way: value for way, value in ways.parts().items() if way != "all"}


def _right_answers(lvlm: LVLM, cases: Sequence[tuple[str, str, list[dict[str, Any]]]]) -> dict[str, float]:
    """Share of right answers to questions (kind, true answer, messages) by kind; of presence only yes or no counts."""
    tally = Tally()
    for (kind, truth, _), reply in zip(cases, answers(lvlm, [case[2] for case in cases]), strict=True):
        tally.add(kind, right=reply.split(",")[0] == truth.split(",")[0] if kind == "presence" else reply == truth)
    return tally.parts()


def other_words(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> dict[str, float]:
    """Questions about presence, numbers and places in unseen wordings."""
    cases = []
    for number, world_picture in enumerate(world_pictures):
        rng = random.Random(f"{world_picture.scene.seed} words")
        kind = tuple(single.UNSEEN)[number % len(single.UNSEEN)]
        name = single.name_for(world_picture.scene, rng)
        if kind == "place" and world_picture.scene.counts.get(name, 0) > 1:
            continue
        question = pick(rng, single.UNSEEN[kind]).format(**single.forms_of(name))
        maker = {
            "presence": language.presence,
            "number": language.how_many,
            "place": language.where,
        }
        cases.append(
            (kind, maker[kind](world_picture.scene, name).answer, [user(picture(world_picture.image), question)])
        )
    return _right_answers(lvlm, cases)


def several_shown(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> dict[str, float]:
    """Two to four pictures: which one shows an object (in seen and unseen wordings), and other questions about them."""
    cases = []
    at = 0
    while at + 4 <= len(world_pictures):
        rng = random.Random(f"{world_pictures[at].scene.seed} several")
        group = world_pictures[at : at + rng.randint(2, 4)]
        at += len(group)
        scenes = [world_picture.scene for world_picture in group]
        name = pick(rng, tuple(name for scene in scenes for name in scene.counts))
        pictures = [picture(world_picture.image) for world_picture in group]
        unseen = rng.random() < 0.3
        article = with_article(name)
        form = pick(rng, several.UNSEEN_WHICH if unseen else several.WHICH)
        question = form.format(a=article, A=article[0].upper() + article[1:])
        cases.append(("which", several.which(scenes, name), [user(*pictures, question)]))
        k = rng.randrange(len(group)) + 1
        present = several.present(scenes, k, name if rng.random() < 0.5 else single.name_for(scenes[k - 1], rng))
        cases.append(("in one of them", present.answer, [user(*pictures, present.question)]))
        cases.append(
            ("what one shows", several.shows(k, scenes[k - 1]), [user(*pictures, f"What does picture {k} show?")])
        )
        cases.append(("all in common", several.common(scenes), [user(*pictures, several.COMMON[0])]))
    tally = Tally()
    for (kind, truth, _), reply in zip(cases, answers(lvlm, [case[2] for case in cases]), strict=True):
        tally.add(
            kind, right=reply.split(",")[0] == truth.split(",")[0] if kind == "in one of them" else reply == truth
        )
    return {kind: value for kind, value in tally.parts().items() if kind != "all"}


def unseen_forms(scene: Scene, rng: random.Random) -> list[list[forms.Field]]:
    """Twenty simple schemas with one to four keys that are not in the training data, filled in for a scene."""
    makers: dict[str, Callable[[str, str], forms.Field]] = {
        "flag": lambda key, name: forms.flag(scene, name, forms.keyed(key, name)),
        "number": lambda key, name: forms.amount(scene, name, forms.keyed(key, name)),
        "place": lambda key, name: forms.position(scene, name, forms.keyed(key, name)),
        "list": lambda key, _: forms.shown(scene, key),
        "text": lambda key, _: forms.told(scene, key),
    }
    made: list[list[forms.Field]] = []
    kinds = [(kind, key) for kind, keys in forms.UNSEEN.items() for key in keys]
    for number in range(20):
        chosen = [kinds[(number + step) % len(kinds)] for step in range(0, 5 * (number % 4 + 1), 5)]
        filled: dict[str, forms.Field] = {}
        for kind, key in chosen:
            name = single.name_for(scene, rng)
            while kind == "place" and scene.counts.get(name, 0) > 1:
                name = CLASSES[rng.randrange(len(CLASSES))]
            field = makers[kind](key, name)
            filled.setdefault(field.key, field)
        made.append(list(filled.values()))
    return made


def forms_filled(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> dict[str, float]:
    """JSON constrained to a schema that is not in the prompt: share of right forms, and of right keys by type."""
    tally, whole = Tally(), Tally()
    for number, world_picture in enumerate(world_pictures):
        rng = random.Random(f"{world_picture.scene.seed} forms")
        filled = unseen_forms(world_picture.scene, rng)[number % 20]
        schema = forms.schema_of(filled) | {"additionalProperties": False}
        messages = [user(picture(world_picture.image), "Describe the image.")]
        reply = lvlm.generate(messages, max_new_tokens=160, json_schema=schema, saliency=None).text
        try:
            value = json.loads(reply)
        except json.JSONDecodeError:  # Cut off before its end.
            value = {}
        right = [value.get(field.key) == field.value for field in filled]
        whole.add("whole", right=all(right))
        for field, good in zip(filled, right, strict=True):
            tally.add(str(field.schema["type"]), right=good)
    return tally.parts(total="keys") | {"whole forms": whole.parts()["all"]}


def tools_called(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> dict[str, float]:
    """Choosing one of one to three tools and its arguments, questions that need no tool, and answers from results."""
    cases: list[tuple[str, Any, list[dict[str, Any]], list[dict[str, Any]]]] = []
    for world_picture in world_pictures:
        rng = random.Random(f"{world_picture.scene.seed} tools")
        uses = calls.uses(rng, rng.randint(1, 3))
        if rng.random() < 0.4:
            uses[0] = calls.lookup(rng, pick(rng, calls.UNSEEN_LOOKUPS))
        tools = [{"type": "function", "function": use.tool.function()} for use in uses]
        rng.shuffle(tools)
        use = uses[0]
        question = user(picture(world_picture.image), use.question)
        cases.append(("call", use, [question], tools))
        free = language.presence(world_picture.scene, single.name_for(world_picture.scene, rng))
        cases.append(("no call", free.answer, [user(picture(world_picture.image), free.question)], tools))
        given = calls.result(rng)
        done = [question, assistant(calls.tagged(use)), user(f"Result of {use.tool.name}: {given.question}")]
        cases.append(("result", given.answer, done, tools))
    replies = answers(lvlm, [case[2] for case in cases], tools=[case[3] for case in cases], max_new_tokens=96)
    tally = Tally()
    for (kind, truth, _, _), reply in zip(cases, replies, strict=True):
        if kind == "call":
            parsed = parse_tool_calls(reply).calls
            right = len(parsed) == 1 and parsed[0].name == truth.tool.name
            tally.add("right tool", right=right)
            tally.add("right call", right=right and dict(parsed[0].arguments) == truth.arguments)
        elif kind == "no call":
            tally.add(kind, right=reply.split(",")[0] == truth.split(",")[0])
        else:
            tally.add(kind, right=reply == truth)
    return {kind: value for kind, value in tally.parts().items() if kind != "all"}


def documents_read(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> dict[str, float]:
    """Documents next to a picture, plain and in an unseen frame: facts in them, unknown facts, and the picture."""
    cases = []
    for world_picture in world_pictures:
        rng = random.Random(f"{world_picture.scene.seed} documents")
        known = documents.facts(rng, 5)
        given, other = known[:4], known[4]
        texts = [documents.document(rng, part) for part in documents.split(rng, given, rng.randint(1, 3))]
        fact = given[rng.randrange(len(given))]
        seen = language.presence(world_picture.scene, single.name_for(world_picture.scene, rng))
        framed = rng.random() < 0.5
        for kind, question, truth in (
            ("facts", fact.question, fact.answer),
            ("unknown", other.question, CANNOT_TELL),
            ("picture", seen.question, seen.answer),
        ):
            body = "\n\n".join(texts)
            if framed:
                head, order = pick(rng, frames.UNSEEN_HEADS), pick(rng, frames.UNSEEN_ORDERS)
                prompt = f"{head}\n-----\n{body}\n-----\n{order}\nQuery: {question}\nAnswer: "
            else:
                prompt = f"{body}\n\n{question}"
            cases.append((kind, truth, [user(picture(world_picture.image), prompt)]))
    tally = Tally()
    for (kind, truth, _), reply in zip(cases, answers(lvlm, [case[2] for case in cases]), strict=True):
        tally.add(kind, right=reply.split(",")[0] == truth.split(",")[0] if kind == "picture" else reply == truth)
    return {kind: value for kind, value in tally.parts().items() if kind != "all"}


def documents_verified(lvlm: LVLM, prompts: int) -> dict[str, float]:
    """How well P(yes) tells true claims about text documents from wrong ones: AUROC by the form of the value.

    The model is asked about a fact of a document, and about the same with another value of the same form. ``answered``
    is how often it says yes or no at all, as `VerifyConfig` has it.
    """
    verifier = Verifier(lvlm.reader, VerifyConfig(min_mass=0.0))
    strict = Verifier(lvlm.reader, VerifyConfig())
    odds: list[tuple[str, bool, float]] = []
    answered = 0
    for number in range(prompts):
        rng = random.Random(f"documents verified {number}")
        known = documents.facts(rng, 4)
        text = documents.document(rng, known)
        wrong = documents.with_value(known[0], wrong_value(rng, known[0], known[1:]))
        conversation = parse_messages(messages_about((), (text,), known[0].question), require_image=False)
        statements = [(known[0].sentence, None), (wrong, None)]
        for truth, verified in zip((True, False), verifier.verify(conversation, None, statements), strict=True):
            odds.append((documents.form_of(known[0].value), truth, verified.probability or 0.0))
        answered += sum(each.probability is not None for each in strict.verify(conversation, None, statements))
    forms = {form: [(truth, value) for of, truth, value in odds if of == form] for form, _, _ in odds}
    forms["all"] = [(truth, value) for _, truth, value in odds]
    areas = {
        form: float(auroc(np.array([value for _, value in pairs]), np.array([truth for truth, _ in pairs]))[0])
        for form, pairs in forms.items()
    }
    return areas | {"answered": ratio(answered, len(odds))}


def nothing_seen(lvlm: LVLM, world_pictures: Sequence[WorldPicture], seed: int) -> dict[str, float]:
    """Share of blank pictures that are recognised, by kind; ``scenes`` is the share of scenes that are described.

    Of a plain picture it may also be said that it is empty: scenes without objects look the same.
    """
    cases = []
    for number in range(len(world_pictures)):
        kind = blanks.KINDS[number % len(blanks.KINDS)]
        image = blanks.blank_picture(seed + number, PICTURE_SIZE, kind)
        cases.append((kind, [user(picture(image), DESCRIBE)]))
    tally = Tally()
    for (kind, _), reply in zip(cases, answers(lvlm, [case[1] for case in cases], max_new_tokens=16), strict=True):
        empty = kind == "plain" and language.EMPTY.startswith(reply) and bool(reply)
        tally.add(kind, right=reply == CANNOT_SEE or empty)
    described = answers(
        lvlm, [[user(picture(world_picture.image), DESCRIBE)] for world_picture in world_pictures], max_new_tokens=16
    )
    return tally.parts() | {"scenes": ratio(sum(reply != CANNOT_SEE for reply in described), len(described))}


def follow_ups(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> dict[str, float]:
    """Follow-up questions that refer to the question before."""
    cases = []
    for number, world_picture in enumerate(world_pictures):
        rng = random.Random(f"{world_picture.scene.seed} follow-ups")
        first, second = (single.name_for(world_picture.scene, rng) for _ in range(2))
        if number % 2:
            before, after = (language.how_many(world_picture.scene, name) for name in (first, second))
            follow_up = f"And {plural(second)}?"
        else:
            before, after = (language.presence(world_picture.scene, name) for name in (first, second))
            follow_up = f"And {with_article(second)}?"
        messages = [user(picture(world_picture.image), before.question), assistant(before.answer), user(follow_up)]
        cases.append((("presence", "number")[number % 2], after.answer, messages))
    return _right_answers(lvlm, cases)
