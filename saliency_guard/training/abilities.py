"""What the embedded model can do beside captions and POPE: on unseen scenes, in unseen words where it counts."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from saliency_guard.chat.tools import parse_tool_calls
from saliency_guard.evaluation.statistics import ratio
from saliency_guard.evaluation.world import PICTURE_SIZE, WorldPicture
from saliency_guard.lvlm import LVLM
from saliency_guard.scenes import language
from saliency_guard.scenes.language import CANNOT_SEE, CANNOT_TELL, DESCRIBE
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.statements import KINDS, statement
from saliency_guard.scenes.vocabulary import CLASSES, counted, plural, singular, with_article
from saliency_guard.training import blanks, calls, documents, forms, frames, several, single, statements
from saliency_guard.training.prompts import answers, assistant, picture, user
from saliency_guard.training.words import pick

_PHRASES = {counted(name, count): (name, count) for name in CLASSES for count in range(1, 9)}
_SINGLES = {singular(name): name for name in CLASSES}


class Tally:
    """How many of each kind were right."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._all: Counter[str] = Counter()

    def add(self, kind: str, *, right: bool) -> None:
        """One more of a kind."""
        self._right[kind] += right
        self._all[kind] += 1

    def parts(self, *, total: str = "all") -> dict[str, float]:
        """The part that was right, of all and of each kind."""
        whole = ratio(sum(self._right.values()), sum(self._all.values()))
        return {total: whole} | {kind: ratio(self._right[kind], self._all[kind]) for kind in sorted(self._all)}


def caption_details(texts: Iterable[str], scenes: Iterable[Scene]) -> dict[str, float]:
    """Of what captions name rightly: numbers, places and sides that are right; and articles that are wrong.

    ``numbers`` is of all classes named that are there, ``numbers_above_one`` of those of which there are several.
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


def statements_told(lvlm: LVLM, shown: Sequence[WorldPicture]) -> dict[str, float]:
    """Statements of every kind, in seen and unseen words, alone and behind a caption of which a part is wrong."""
    asked: list[tuple[str, str, bool, list[dict[str, Any]]]] = []
    for number, each in enumerate(shown):
        rng = random.Random(f"{each.scene.seed} statements")
        kind = KINDS[number % len(KINDS)]
        made = statement(each.scene, rng, kind, truth=number // len(KINDS) % 2 == 0)
        if made is None:
            continue
        variant = rng.randrange(3)
        form = pick(rng, statements.UNSEEN_ASKED if variant == 1 else statements.ASKED)
        question = statements.put(made, form)
        if variant == 2:
            before = made.text if rng.random() < 0.5 else single.brief(each.scene)
            messages = [user(picture(each.image), DESCRIBE), assistant(before), user(question)]
        else:
            messages = [user(picture(each.image), question)]
        way = ("seen words", "unseen words", "behind a caption")[variant]
        asked.append((kind, way, made.truth, messages))
    said = answers(lvlm, [each[3] for each in asked], max_new_tokens=3)
    tally, ways = Tally(), Tally()
    for (about, way, truth, _), answer in zip(asked, said, strict=True):
        right = answer.startswith("Yes" if truth else "No")
        tally.add(about, right=right)
        ways.add(way, right=right)
    return tally.parts() | {way: value for way, value in ways.parts().items() if way != "all"}


def other_words(lvlm: LVLM, shown: Sequence[WorldPicture]) -> dict[str, float]:
    """Presence, numbers and places asked for in unseen words."""
    asked = []
    for number, each in enumerate(shown):
        rng = random.Random(f"{each.scene.seed} words")
        kind = tuple(single.UNSEEN)[number % len(single.UNSEEN)]
        name = single.name_for(each.scene, rng)
        if kind == "place" and each.scene.counts.get(name, 0) > 1:
            continue
        question = pick(rng, single.UNSEEN[kind]).format(**single.forms_of(name))
        maker = {
            "presence": language.presence,
            "number": language.how_many,
            "place": language.where,
        }
        asked.append((kind, maker[kind](each.scene, name).answer, [user(picture(each.image), question)]))
    tally = Tally()
    for (kind, truth, _), said in zip(asked, answers(lvlm, [one[2] for one in asked]), strict=True):
        tally.add(kind, right=said.split(",")[0] == truth.split(",")[0] if kind == "presence" else said == truth)
    return tally.parts()


def several_shown(lvlm: LVLM, shown: Sequence[WorldPicture]) -> dict[str, float]:
    """Two to four pictures: which shows a thing (in seen and unseen words), and whether one of them does."""
    asked = []
    at = 0
    while at + 4 <= len(shown):
        rng = random.Random(f"{shown[at].scene.seed} several")
        group = shown[at : at + rng.randint(2, 4)]
        at += len(group)
        scenes = [each.scene for each in group]
        name = pick(rng, tuple(name for scene in scenes for name in scene.counts))
        pictures = [picture(each.image) for each in group]
        unseen = rng.random() < 0.3
        article = with_article(name)
        form = pick(rng, several.UNSEEN_WHICH if unseen else several.WHICH)
        question = form.format(a=article, A=article[0].upper() + article[1:])
        asked.append(("which", several.which(scenes, name), [user(*pictures, question)]))
        k = rng.randrange(len(group)) + 1
        present = several.present(scenes, k, name if rng.random() < 0.5 else single.name_for(scenes[k - 1], rng))
        asked.append(("in one of them", present.answer, [user(*pictures, present.question)]))
        asked.append(
            ("what one shows", several.shows(k, scenes[k - 1]), [user(*pictures, f"What does picture {k} show?")])
        )
        asked.append(("all in common", several.common(scenes), [user(*pictures, several.COMMON[0])]))
    tally = Tally()
    for (kind, truth, _), said in zip(asked, answers(lvlm, [one[2] for one in asked]), strict=True):
        tally.add(kind, right=said.split(",")[0] == truth.split(",")[0] if kind == "in one of them" else said == truth)
    return {kind: value for kind, value in tally.parts().items() if kind != "all"}


def unseen_forms(scene: Scene, rng: random.Random) -> list[list[forms.Field]]:
    """Twenty simple schemas of one to four keys that training has not seen, filled for a scene."""
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


def forms_filled(lvlm: LVLM, shown: Sequence[WorldPicture]) -> dict[str, float]:
    """JSON held to a schema that the prompt does not tell: whole forms, and keys by what they hold."""
    tally, whole = Tally(), Tally()
    for number, each in enumerate(shown):
        rng = random.Random(f"{each.scene.seed} forms")
        filled = unseen_forms(each.scene, rng)[number % 20]
        schema = forms.schema_of(filled) | {"additionalProperties": False}
        messages = [user(picture(each.image), "Describe the image.")]
        said = lvlm.generate(messages, max_new_tokens=160, json_schema=schema, saliency=None).text
        try:
            value = json.loads(said)
        except json.JSONDecodeError:  # Cut off before its end.
            value = {}
        right = [value.get(field.key) == field.value for field in filled]
        whole.add("whole", right=all(right))
        for field, good in zip(filled, right, strict=True):
            tally.add(str(field.schema["type"]), right=good)
    return tally.parts(total="keys") | {"whole forms": whole.parts()["all"]}


def tools_called(lvlm: LVLM, shown: Sequence[WorldPicture]) -> dict[str, float]:
    """The right tool of one to three, and its arguments; questions that need none; a sentence of the result."""
    asked: list[tuple[str, Any, list[dict[str, Any]], list[dict[str, Any]]]] = []
    for each in shown:
        rng = random.Random(f"{each.scene.seed} tools")
        uses = calls.uses(rng, rng.randint(1, 3))
        if rng.random() < 0.4:
            uses[0] = calls.lookup(rng, pick(rng, calls.UNSEEN_LOOKUPS))
        tools = [{"type": "function", "function": use.tool.function()} for use in uses]
        rng.shuffle(tools)
        use = uses[0]
        question = user(picture(each.image), use.question)
        asked.append(("call", use, [question], tools))
        free = language.presence(each.scene, single.name_for(each.scene, rng))
        asked.append(("no call", free.answer, [user(picture(each.image), free.question)], tools))
        given = calls.result(rng)
        done = [question, assistant(calls.tagged(use)), user(f"Result of {use.tool.name}: {given.question}")]
        asked.append(("result", given.answer, done, tools))
    said = answers(lvlm, [one[2] for one in asked], tools=[one[3] for one in asked], max_new_tokens=96)
    tally = Tally()
    for (kind, truth, _, _), answer in zip(asked, said, strict=True):
        if kind == "call":
            found = parse_tool_calls(answer).calls
            right = len(found) == 1 and found[0].name == truth.tool.name
            tally.add("right tool", right=right)
            tally.add("right call", right=right and dict(found[0].arguments) == truth.arguments)
        elif kind == "no call":
            tally.add(kind, right=answer.split(",")[0] == truth.split(",")[0])
        else:
            tally.add(kind, right=answer == truth)
    return {kind: value for kind, value in tally.parts().items() if kind != "all"}


def documents_read(lvlm: LVLM, shown: Sequence[WorldPicture]) -> dict[str, float]:
    """Facts of documents beside a picture, plain and in an unseen frame; facts that none says; and the picture."""
    asked = []
    for each in shown:
        rng = random.Random(f"{each.scene.seed} documents")
        known = documents.facts(rng, 5)
        told, other = known[:4], known[4]
        texts = [documents.document(rng, part) for part in documents.split(rng, told, rng.randint(1, 3))]
        fact = told[rng.randrange(len(told))]
        seen = language.presence(each.scene, single.name_for(each.scene, rng))
        framed = rng.random() < 0.5
        for kind, question, truth in (
            ("facts", fact.question, fact.answer),
            ("unknown", other.question, CANNOT_TELL),
            ("picture", seen.question, seen.answer),
        ):
            body = "\n\n".join(texts)
            if framed:
                head, order = pick(rng, frames.UNSEEN_HEADS), pick(rng, frames.UNSEEN_ORDERS)
                put = f"{head}\n-----\n{body}\n-----\n{order}\nQuery: {question}\nAnswer: "
            else:
                put = f"{body}\n\n{question}"
            asked.append((kind, truth, [user(picture(each.image), put)]))
    tally = Tally()
    for (kind, truth, _), said in zip(asked, answers(lvlm, [one[2] for one in asked]), strict=True):
        tally.add(kind, right=said.split(",")[0] == truth.split(",")[0] if kind == "picture" else said == truth)
    return {kind: value for kind, value in tally.parts().items() if kind != "all"}


def nothing_seen(lvlm: LVLM, shown: Sequence[WorldPicture], seed: int) -> dict[str, float]:
    """Pictures that show nothing and are said to, by kind; ``scenes`` is the part of scenes that are not."""
    asked = []
    for number in range(len(shown)):
        kind = blanks.KINDS[number % len(blanks.KINDS)]
        image = blanks.blank_picture(seed + number, PICTURE_SIZE, kind)
        asked.append((kind, [user(picture(image), DESCRIBE)]))
    tally = Tally()
    for (kind, _), said in zip(asked, answers(lvlm, [one[1] for one in asked], max_new_tokens=16), strict=True):
        tally.add(kind, right=said == CANNOT_SEE)
    described = answers(lvlm, [[user(picture(each.image), DESCRIBE)] for each in shown], max_new_tokens=16)
    return tally.parts() | {"scenes": ratio(sum(said != CANNOT_SEE for said in described), len(described))}


def follow_ups(lvlm: LVLM, shown: Sequence[WorldPicture]) -> dict[str, float]:
    """A second question that leans on the first."""
    asked = []
    for number, each in enumerate(shown):
        rng = random.Random(f"{each.scene.seed} follow-ups")
        first, second = (single.name_for(each.scene, rng) for _ in range(2))
        if number % 2:
            before, after = (language.how_many(each.scene, name) for name in (first, second))
            leaning = f"And {plural(second)}?"
        else:
            before, after = (language.presence(each.scene, name) for name in (first, second))
            leaning = f"And {with_article(second)}?"
        messages = [user(picture(each.image), before.question), assistant(before.answer), user(leaning)]
        asked.append((("presence", "number")[number % 2], after.answer, messages))
    tally = Tally()
    for (kind, truth, _), said in zip(asked, answers(lvlm, [one[2] for one in asked]), strict=True):
        tally.add(kind, right=said.split(",")[0] == truth.split(",")[0] if kind == "presence" else said == truth)
    return tally.parts()
