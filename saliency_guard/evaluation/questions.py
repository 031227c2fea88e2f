"""Questions whose answers can be checked: about scenes of the picture world, and from POPE and COCO files."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from saliency_guard.chat.messages import chat_about
from saliency_guard.claims import phrases
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.evaluation.files import CocoImage, PopeQuestion
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.world import WorldPicture
from saliency_guard.scenes.claims import Extractor, extractor_of, is_true
from saliency_guard.scenes.language import (
    DESCRIBE_FORMS,
    caption,
    counted_otherwise,
    described_otherwise,
    how_many,
    listed,
    negatives,
    presence,
    present_otherwise,
)
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.vocabulary import counted, number, plural, singular, with_article
from saliency_guard.storage import digest_of

TASKS = ("describe", "presence", "count")
QUESTIONS_A_SCENE = len(TASKS) + 1
_TRUE = 0.5
_OTHERWISE = 0.5

Checker = Callable[[ExtractedClaim], bool | None]
"""Whether a claim is true; None where that is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question about pictures whose answers can be checked.

    Attributes:
        picture: name of the pictures.
        images: the pictures, in order.
        question: what is asked.
        check: says whether a claim of an answer is true.
        given: an answer from elsewhere, true or not, that is looked at, too: to be judged is not to be written.
        extractor: takes its answers apart.
        documents: texts in the prompt, each a source of its own; then there are no pictures.
        redrawn: whether the pictures were made to be unlike the usual ones.
    """

    picture: str
    images: tuple[Image.Image | Path, ...]
    question: str
    check: Checker
    given: str | None = None
    extractor: Extractor = "picture_world"
    documents: tuple[str, ...] = ()
    redrawn: bool = False


def messages_about(images: Sequence[Any], documents: Sequence[str], question: str) -> list[dict[str, Any]]:
    """One user message with text documents, each a source of its own, pictures in any form, and a question."""
    (message,) = chat_about(images, question)
    texts = [
        {"type": "text", "text": text, "source": f"document_{number}"} for number, text in enumerate(documents, start=1)
    ]
    return [{**message, "content": [*texts, *message["content"]]}]


def world_questions(picture: WorldPicture, tasks: Sequence[str] = TASKS) -> list[Question]:
    """What is asked of a scene: a description, is something there (once of what is, once of what is not), how many.

    Half of the answers from elsewhere are true, and half of them are not in the words of the embedded model.
    """
    scene = picture.scene
    rng = random.Random(f"asked {scene.seed}")
    shown = rng.choice(sorted(scene.counts))
    absent = negatives(scene, "adversarial", rng, 1)[0]
    # In the other scene the one is not there and the other is: what is true of it is wrong here.
    other = replace(scene, objects=tuple(replace(o, name=absent) if o.name == shown else o for o in scene.objects))

    def given(in_model_words: Callable[[Scene], str], otherwise: Callable[[Scene], str]) -> str:
        put = otherwise if rng.random() < _OTHERWISE else in_model_words
        return put(scene if rng.random() < _TRUE else other)

    name = f"{scene.seed} redrawn" if picture.redrawn else str(scene.seed)
    ask = partial(Question, name, (picture.image,), redrawn=picture.redrawn)
    questions: list[Question] = []
    if "describe" in tasks:
        question = DESCRIBE_FORMS[rng.randrange(len(DESCRIBE_FORMS))]
        answer = given(lambda seen: caption(seen, rng), lambda seen: described_otherwise(seen, rng))
        questions.append(ask(question, partial(is_true, scene=scene), answer))
    if "presence" in tasks:
        for about in (shown, absent):
            question = presence(scene, about).question
            answer = given(partial(_present, name=about), partial(present_otherwise, name=about, rng=rng))
            check = partial(is_true, scene=scene, answer=about in scene.counts)
            questions.append(ask(question, check, answer))
    if "count" in tasks:
        about = rng.choice([shown, absent])
        question = how_many(scene, about).question
        answer = given(partial(_counted, name=about), partial(counted_otherwise, name=about, rng=rng))
        questions.append(ask(question, partial(is_true, scene=scene), answer))
    return questions


def _present(scene: Scene, name: str) -> str:
    return presence(scene, name).answer


def _counted(scene: Scene, name: str) -> str:
    return how_many(scene, name).answer


def several_questions(pictures: Sequence[WorldPicture]) -> list[Question]:
    """What is asked of several scenes in one prompt: what one of them shows, whether something is in it, how many.

    An answer from elsewhere is true, or true of another of the pictures.
    """
    scenes = [each.scene for each in pictures]
    name = "+".join(str(scene.seed) for scene in scenes)
    rng = random.Random(f"asked {name}")
    ask = partial(Question, name, tuple(each.image for each in pictures))
    here = rng.randrange(len(scenes))
    scene, other = scenes[here], scenes[(here + 1) % len(scenes)]
    number_here = here + 1
    shown = rng.choice(sorted(scene.counts))
    elsewhere = sorted(set(other.counts) - set(scene.counts)) or negatives(scene, "adversarial", rng, 1)
    absent = rng.choice(elsewhere)

    def check(claim: ExtractedClaim, *, answer: bool | None = None) -> bool | None:
        # Without a number it is said of the picture that the question names.
        return is_true(claim, scenes[claim.picture if claim.picture is not None else here], answer=answer)

    def given(of: Callable[[Scene], str]) -> str:
        return of(scene if rng.random() < _TRUE else other)

    questions = [
        ask(f"What does picture {number_here} show?", check, given(partial(_shows, number_=number_here))),
        ask(
            f"How many {plural(shown)} are in picture {number_here}?",
            check,
            given(partial(_counted_in, name=shown, number_=number_here)),
        ),
    ]
    questions += [
        ask(
            f"Is there {with_article(about)} in picture {number_here}?",
            partial(check, answer=about in scene.counts),
            given(partial(_present_in, name=about, number_=number_here)),
        )
        for about in (shown, absent)
    ]
    return questions


def _shows(scene: Scene, number_: int) -> str:
    things = [counted(name, count) for name, count in sorted(scene.counts.items())]
    return f"Picture {number_} shows {listed(things)}."


def _counted_in(scene: Scene, name: str, number_: int) -> str:
    count = scene.counts.get(name, 0)
    noun = singular(name) if count == 1 else plural(name)
    return f"There {'is' if count == 1 else 'are'} {number(count)} {noun} in picture {number_}."


def _present_in(scene: Scene, name: str, number_: int) -> str:
    count = scene.counts.get(name, 0)
    verb = "are" if count > 1 else "is"
    return f"{'Yes' if count else 'No'}, there {verb} {counted(name, count)} in picture {number_}."


def pope_questions(questions: Iterable[PopeQuestion]) -> Iterator[Question]:
    """POPE's questions: a yes or no is checked, and whether the thing that is asked about is said to be there.

    Models answer "Yes." or "Yes, there is a dog in the image.": both have all their claims checked.
    """
    reads = extractor_of("english")
    for question in questions:
        noun = reads("Yes", question.text)[0].noun
        check = partial(_pope_truth, truth=question.truth, noun=phrases.singular(noun.lower()))
        yield Question(picture_name(question.image), (question.image,), question.text, check, extractor="english")


def _pope_truth(claim: ExtractedClaim, *, truth: bool, noun: str) -> bool | None:
    if claim.kind == "statement":  # A bare plural is no noun phrase: "Yes, there are cats in the image."
        restated = _RESTATED.fullmatch(claim.statement.strip())
        about_it = restated is not None and phrases.singular(restated["noun"].lower()) == noun
        return truth is (restated["no"] is None) if restated is not None and about_it else None
    named = re.sub(r" (?:visible|present)$", "", claim.noun)
    asked_about = claim.kind == "object" and phrases.singular(named) == noun
    return truth is not claim.negated if claim.kind == "yes_no" or asked_about else None


_RESTATED = re.compile(
    r"(?:(?:yes|no), )?there (?:is|are) (?P<no>no |not any )?(?:any |some )?(?P<noun>.+?)"
    r"(?: (?:visible |present )?in (?:the|this) (?:image|picture|photo))?[.!]?",
    re.IGNORECASE,
)


def caption_questions(pictures: Iterable[CocoImage], vocabulary: ObjectVocabulary, prompt: str) -> Iterator[Question]:
    """COCO pictures to describe, objects checked against what is annotated; nothing else in a caption is known."""
    for picture in pictures:
        check = partial(_coco_truth, shown=picture.shown, vocabulary=vocabulary)
        yield Question(picture_name(picture.image), (picture.image,), prompt, check, extractor="english")


def _coco_truth(claim: ExtractedClaim, *, shown: frozenset[str], vocabulary: ObjectVocabulary) -> bool | None:
    mentions = vocabulary.find(claim.noun) if claim.kind == "object" else []
    # The head of a noun phrase is its last word: "a dog house" is no dog.
    named = next((mention.name for mention in mentions if mention.stop == len(claim.noun)), None)
    return None if named is None else (named in shown) is not claim.negated


def picture_name(path: Path) -> str:
    """A picture's name by its content: the same however the file is called, and wherever it lies."""
    return digest_of(path)


def documents_name(documents: Sequence[str]) -> str:
    """A name for text documents by what they say."""
    return f"documents {hashlib.sha256(json.dumps(list(documents)).encode()).hexdigest()}"
