"""Questions about a single picture: those of the picture world, and the same in other words."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from saliency_guard.scenes import documents, language
from saliency_guard.scenes.language import CANNOT_SEE, CANNOT_TELL, Exchange, listed
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.statements import PLACES, statement, things_at
from saliency_guard.scenes.vocabulary import CLASSES, NEVER_DRAWN, counted, number, plural, singular, with_article
from saliency_guard.scenes.words import pick, preamble
from saliency_guard.training import statements
from saliency_guard.training.sheets import Branch, Sheet, asked, history, opening, sheet

_CUT_SHORT = 0.7
RELATION = re.compile(r"The (.+) is (to the left of|to the right of|above|below) the (.+)\.")
_QUESTIONS = 3
_PLACES = 2
_OTHERS = 2
_STATEMENTS = 4
_RELATIONS = 2

PRESENCE = (
    "Do you see {a}?",
    "Can you see {a} in this picture?",
    "Is {a} visible?",
    "Does the picture show {a}?",
    "Are there any {many}?",
    "Are there {many} in the image?",
    "Is there {a} in this photo?",
    "Is there {a}?",
    "Do you see any {many} here?",
    "Does the photo contain {a}?",
    "Can {a} be seen?",
    "Any {many}?",
    "I wonder whether there is {a} here.",
    "Tell me whether there is {a} in the picture.",
)
NUMBER = (
    "How many {many} are there?",
    "How many {many} do you see?",
    "How many {many} are in the picture?",
    "Count the {many}.",
    "What is the number of {many}?",
    "Please count the {many} in the image.",
    "Give me the number of {many}.",
    "What is the count of {many}?",
    "How many {many} can you count?",
    "How many {many} does the image show?",
    "State the number of {many} in the picture.",
    "Number of {many}?",
    "Please say how many {many} are visible.",
    "I want to know how many {many} there are.",
    "What quantity of {many} is in the photo?",
    "What would you say is the number of {many}?",
)
PLACE = (
    "Where in the image is the {one}?",
    "Where can I find the {one}?",
    "Locate the {one}.",
    "In which part of the picture is the {one}?",
    "What is the position of the {one}?",
    "Where do you see the {one}?",
    "Tell me where the {one} is.",
    "At what position is the {one}?",
    "Which part of the image shows the {one}?",
    "I am looking for the {one}. Where is it?",
    "Say where the {one} is.",
    "Whereabouts is the {one}?",
    "Position of the {one}?",
    "Do you know where the {one} is?",
    "In which place is the {one}?",
)
BRIEF = (
    "What objects are in the image?",
    "List the objects.",
    "Which things do you see?",
    "Write a caption for the image.",
    "Describe the picture in one sentence.",
    "Give a short description of the image.",
    "Name everything in the picture.",
    "Summarize the image.",
)
REGION = (
    "What is {place}?",
    "What is {place} of the image?",
    "What do you see {place}?",
    "Which objects are {place}?",
    "Name the things {place}.",
)
SIDES = (
    "Is the {a} to the left or to the right of the {b}?",
    "On which side of the {b} is the {a}?",
    "Where is the {a}, seen from the {b}?",
)
LEVELS = ("Is the {a} above or below the {b}?", "Is the {a} higher or lower than the {b}?")
UNSEEN = {
    "presence": ("Could there be {a} in the image?", "Are any {many} visible in the photo?"),
    "number": ("The {many}: how many of them?", "If you counted the {many}, what would you get?"),
    "place": ("Point me to the {one}.", "If I wanted to find the {one}, where should I look?"),
}
"""Wordings used in evaluation only."""


def forms_of(name: str) -> dict[str, str]:
    """The forms of a class name that questions use."""
    return {"a": with_article(name), "many": plural(name), "one": singular(name)}


def brief(scene: Scene) -> str:
    """All objects in one sentence, always in the same order."""
    if not scene.objects:
        return language.EMPTY
    counts = sorted(scene.counts.items(), key=lambda item: CLASSES.index(item[0]))
    return f"The image shows {listed([counted(name, count) for name, count in counts])}."


def region(scene: Scene, place: str) -> str:
    """The objects at a place, in a sentence."""
    there = things_at(scene, place)
    if not there:
        return f"There is nothing {place}."
    verb = "is" if next(iter(there.values())) == 1 else "are"
    sentence = f"there {verb} {listed([counted(name, count) for name, count in there.items()])}."
    return f"{place[0].upper()}{place[1:]}, {sentence}"


def total(scene: Scene) -> str:
    """The number of objects, in a sentence."""
    count = len(scene.objects)
    return (
        f"There {'is' if count == 1 else 'are'} {number(count)} {'object' if count == 1 else 'objects'} in the image."
    )


def name_for(scene: Scene, rng: random.Random) -> str:
    """A class to ask for; equally often one that the scene shows and one that it does not."""
    present = list(scene.counts)
    if present and rng.random() < 0.5:
        return present[rng.randrange(len(present))]
    kind: language.Negatives = "adversarial" if rng.random() < 0.5 else "random"
    return language.negatives(scene, kind, rng, 1)[0]


def _presence(scene: Scene, rng: random.Random) -> Exchange:
    name = name_for(scene, rng) if rng.random() < 0.95 else pick(rng, NEVER_DRAWN)
    return Exchange(pick(rng, PRESENCE).format(**forms_of(name)), language.presence(scene, name).answer)


def _number(scene: Scene, rng: random.Random) -> Exchange:
    # Several objects of a class are rare and hard to count: ask for them more often.
    many = [name for name, count in scene.counts.items() if count > 1]
    name = many[rng.randrange(len(many))] if many and rng.random() < 0.6 else name_for(scene, rng)
    return Exchange(pick(rng, NUMBER).format(**forms_of(name)), language.how_many(scene, name).answer)


def _place(scene: Scene, rng: random.Random) -> Exchange:
    name = name_for(scene, rng)
    return Exchange(pick(rng, PLACE).format(**forms_of(name)), language.where(scene, name).answer)


def _brief(scene: Scene, rng: random.Random) -> Exchange:
    return Exchange(pick(rng, BRIEF), brief(scene))


def _region(scene: Scene, rng: random.Random) -> Exchange:
    place = pick(rng, PLACES)
    return Exchange(pick(rng, REGION).format(place=place), region(scene, place))


def _total(scene: Scene, rng: random.Random) -> Exchange:
    question = ("How many objects are there?", "How many things are in the image?", "Count all objects.")
    return Exchange(pick(rng, question), total(scene))


def relation(scene: Scene, rng: random.Random) -> Exchange | None:
    """Where a thing is, seen from another; None in scenes without two things that are alone of their class."""
    made = statement(scene, rng, "relation", truth=True)
    if made is None:
        return None
    first, relation_, second = RELATION.fullmatch(made.text).groups()  # type: ignore[union-attr]
    forms = LEVELS if relation_ in {"above", "below"} else SIDES
    return Exchange(pick(rng, forms).format(a=first, b=second), made.text)


def _unknown(_: Scene, rng: random.Random) -> Exchange:
    if rng.random() < 0.5:
        return Exchange(pick(rng, language.OFF_TOPIC), CANNOT_TELL)
    return Exchange(documents.fact(rng).question, CANNOT_TELL)


OTHER_WORDS: tuple[tuple[float, Callable[[Scene, random.Random], Exchange]], ...] = (
    (0.24, _presence),
    (0.24, _number),
    (0.14, _place),
    (0.12, _brief),
    (0.12, _region),
    (0.04, _total),
    (0.10, _unknown),
)


def exchange(scene: Scene, rng: random.Random) -> Exchange:
    """Any question about a picture, in any words."""
    chance = rng.random()
    if chance < 0.35:
        made = language.questions(scene, rng, 1)[0]
        return Exchange(made.question, CANNOT_TELL) if made.answer == language.UNKNOWN else made
    if chance < 0.45:
        claim = statements.make(scene, rng)
        if claim is not None:
            return Exchange(statements.put(claim, pick(rng, statements.ASKED)), claim.answer)
    return _in_other_words(scene, rng)


def _in_other_words(scene: Scene, rng: random.Random) -> Exchange:
    makers = [maker for _, maker in OTHER_WORDS]
    return rng.choices(makers, [share for share, _ in OTHER_WORDS])[0](scene, rng)


def _branch(made: Exchange, rng: random.Random) -> Branch:
    if made.answer == language.UNKNOWN:  # The answer from before there were documents to ask about.
        return asked(made.question, CANNOT_TELL)
    # The first word of a yes or no decides the rest: the time is better spent on other questions.
    yes_or_no = made.answer.startswith(("Yes", "No"))
    return asked(made.question, made.answer, short=yes_or_no and rng.random() < _CUT_SHORT)


def about(scene: Scene, rng: random.Random) -> list[Branch]:
    """A mix of all questions about one picture, those of the picture world first."""
    made = [*language.questions(scene, rng, _QUESTIONS), language.describe(scene, rng)]
    shown = list(scene.counts)
    rng.shuffle(shown)
    made += [language.where(scene, name) for name in shown[:_PLACES]]
    made += [language.how_many(scene, name) for name in shown[:1]]
    made += [_in_other_words(scene, rng) for _ in range(_OTHERS)]
    branches = [_branch(each, rng) for each in made]
    relations = [relation(scene, rng) for _ in range(_RELATIONS)]
    branches += [asked(made_.question, made_.answer) for made_ in relations if made_ is not None]
    branches += [each for _ in range(_STATEMENTS) if (each := statements.branch(scene, rng)) is not None]
    return branches


def _system(rng: random.Random) -> str:
    return preamble(rng, rng.choice((1, 1, 2, 3))) if rng.random() < 0.2 else ""


def one_picture(scene: Scene | None, rng: random.Random) -> Sheet:
    """Questions about a picture; None stands for a picture that shows nothing nameable."""
    if scene is None:
        return _nothing_to_see(rng)
    return sheet(opening(system=_system(rng)), about(scene, rng))


def _nothing_to_see(rng: random.Random) -> Sheet:
    questions = [pick(rng, language.DESCRIBE_FORMS), pick(rng, BRIEF)]
    for _ in range(4):
        name = CLASSES[rng.randrange(len(CLASSES))]
        forms = (language.presence_question(name), *PRESENCE, *NUMBER, *PLACE)
        questions.append(pick(rng, forms).format(**forms_of(name)))
    branches = [asked(question, CANNOT_SEE) for question in questions]
    branches.append(asked(documents.fact(rng).question, CANNOT_TELL))
    return sheet(opening(system=_system(rng)), branches)


def follow_ups(scene: Scene, rng: random.Random) -> Sheet:
    """A chat with several turns: questions that refer to the one before, or to an earlier answer."""
    if rng.random() < 0.4:
        return _after_a_caption(scene, rng)
    turns, rest = [], rng.choice((0, 0, 1))
    for _ in range(rest):
        made = exchange(scene, rng)
        turns.append((made.question, made.answer))
    kind = rng.randrange(4)
    name = name_for(scene, rng)
    others = [name_for(scene, rng) for _ in range(4)]
    if kind == 0:
        question = pick(rng, (language.presence_question(name), *PRESENCE)).format(**forms_of(name))
        turns.append((question, language.presence(scene, name).answer))
        following = [
            (pick(rng, ("And {a}?", "What about {a}?", "And {many}?", "{a}?")), language.presence(scene, each).answer)
            for each in others
        ]
    elif kind == 1:
        question = pick(rng, (f"How many {plural(name)} are there in the image?", *NUMBER)).format(**forms_of(name))
        turns.append((question, language.how_many(scene, name).answer))
        following = [
            (
                pick(rng, ("And {many}?", "What about {many}?", "And how many {many}?")),
                language.how_many(scene, each).answer,
            )
            for each in others
        ]
    elif kind == 2:
        question = pick(rng, (f"Where is the {singular(name)}?", *PLACE)).format(**forms_of(name))
        turns.append((question, language.where(scene, name).answer))
        following = [
            (
                pick(rng, ("And the {one}?", "What about the {one}?", "Where is the {one}?")),
                language.where(scene, each).answer,
            )
            for each in others
        ]
    else:
        place = pick(rng, PLACES)
        turns.append((pick(rng, REGION[:4]).format(place=place), region(scene, place)))
        places = [pick(rng, PLACES) for _ in others]
        following = [
            (pick(rng, (f"And {there}?", f"What about {there[3:]}?", f"And what is {there}?")), region(scene, there))
            for there in places
        ]
    branches = [
        asked(question.format(**forms_of(each)), answer)
        for (question, answer), each in zip(following, others, strict=True)
    ]
    more = exchange(scene, rng)
    branches += [_branch(more, rng), asked(pick(rng, language.DESCRIBE_FORMS), language.caption(scene, rng))]
    return sheet(opening(system=_system(rng)) + history(turns), branches)


def _after_a_caption(scene: Scene, rng: random.Random) -> Sheet:
    """Questions about statements after an answer that may be wrong: the picture decides, not that answer."""
    said = [language.caption(scene, rng)] if rng.random() < 0.5 else []
    claims = []
    for _ in range(6):
        made = statements.make(scene, rng)
        if made is not None:
            claims.append(made)
    if not said or rng.random() < 0.6:
        said += [each.text for each in claims[: rng.randint(1, 2)]]
    rng.shuffle(said)
    answer = " ".join(said) or language.caption(scene, rng)
    branches = [
        asked(statements.put(each, pick(rng, statements.ASKED)), each.answer, short=rng.random() < 0.5)
        for each in claims
    ]
    branches.append(_branch(exchange(scene, rng), rng))
    return sheet(opening(system=_system(rng)) + history([(pick(rng, language.DESCRIBE_FORMS), answer)]), branches)
