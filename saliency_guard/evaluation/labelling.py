"""Answers with the truth of what they claim: from the picture world, from POPE and COCO files, from a user's own."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ValidationError

from saliency_guard.answer import GroundedAnswer
from saliency_guard.answer_builder import traced_answer, unjudged_answer
from saliency_guard.calibration.features import FEATURE_SETS, SUMMARIES, features
from saliency_guard.calibration.records import TOLD, GroundingRecord, LabelledMention, encoded
from saliency_guard.calibration.token_filter import TokenFilter, token_at
from saliency_guard.chat import detokenize as text_module
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.chat.images import load_image
from saliency_guard.chat.messages import chat
from saliency_guard.errors import InputError
from saliency_guard.evaluation.claims import Checker, Claim, number_claimed, objects_claimed, yes_claimed
from saliency_guard.evaluation.files import CocoImage, PopeQuestion, is_file
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.world import WorldPicture, batches, write_answers
from saliency_guard.lvlm import LVLM
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.scenes.language import (
    DESCRIBE_FORMS,
    caption,
    counted_otherwise,
    described_otherwise,
    how_many,
    negatives,
    presence,
    present_otherwise,
)
from saliency_guard.scenes.scene import Scene
from saliency_guard.settings import Frozen
from saliency_guard.signals.trace import trace_answer
from saliency_guard.storage import open_file, problem, read_text

BATCH = 48
MAX_NEW_TOKENS = 96
_TRUE = 0.5
_OTHERWISE = 0.5
TASKS = ("describe", "presence", "count")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A question about a picture whose answers can be checked.

    Attributes:
        picture: its name.
        image: the picture.
        question: what is asked.
        check: finds what an answer claims.
        told: an answer from elsewhere, true or not, that is looked at, too: to be judged is not to be written.
    """

    picture: str
    image: Image.Image | Path
    question: str
    check: Checker
    told: str | None = None


def world_questions(one: WorldPicture, tasks: Sequence[str] = TASKS) -> list[Asked]:
    """What is asked of a scene: a description, is something there (once of what is, once of what is not), how many.

    Half of the answers from elsewhere are true, and half of them are not in the words of the embedded model.
    """
    scene = one.scene
    name = str(scene.seed)
    rng = random.Random(f"asked {scene.seed}")
    shown = rng.choice(sorted(scene.counts))
    absent = negatives(scene, "adversarial", rng, 1)[0]
    # In the other scene the one is not there and the other is: what is true of it is wrong here.
    other = replace(scene, objects=tuple(replace(o, name=absent) if o.name == shown else o for o in scene.objects))

    def told(own: Callable[[Scene], str], otherwise: Callable[[Scene], str]) -> str:
        put = otherwise if rng.random() < _OTHERWISE else own
        return put(scene if rng.random() < _TRUE else other)

    asked: list[Asked] = []
    if "describe" in tasks:
        check = partial(objects_claimed, shown=frozenset(scene.counts), vocabulary=ObjectVocabulary.world())
        question = DESCRIBE_FORMS[rng.randrange(len(DESCRIBE_FORMS))]
        answer = told(lambda seen: caption(seen, rng), lambda seen: described_otherwise(seen, rng))
        asked.append(Asked(name, one.image, question, check, answer))
    if "presence" in tasks:
        for about in (shown, absent):
            question = presence(scene, about).question
            answer = told(partial(_present, name=about), partial(present_otherwise, name=about, rng=rng))
            asked.append(Asked(name, one.image, question, partial(yes_claimed, truth=about in scene.counts), answer))
    if "count" in tasks:
        about = rng.choice([shown, absent])
        question = how_many(scene, about).question
        answer = told(partial(_counted, name=about), partial(counted_otherwise, name=about, rng=rng))
        check = partial(number_claimed, truth=scene.counts.get(about, 0))
        asked.append(Asked(name, one.image, question, check, answer))
    return asked


def _present(scene: Scene, name: str) -> str:
    return presence(scene, name).answer


def _counted(scene: Scene, name: str) -> str:
    return how_many(scene, name).answer


def write_records(
    lvlm: LVLM,
    asked: Iterable[Asked],
    *,
    draws: int = 1,
    temperature: float = 0.0,
    retry_temperature: float = 0.7,
    max_new_tokens: int = MAX_NEW_TOKENS,
    told: bool = False,
    saliency: SaliencyConfig | None = None,
    vectors: bool = True,
    on_answer: Callable[[], None] = lambda: None,
) -> Iterator[GroundingRecord]:
    """Ask, and label the answers.

    Args:
        lvlm: what answers.
        asked: the questions.
        draws: answers to each.
        temperature: of the first; 0 is greedy.
        retry_temperature: the others are drawn at least at this, as `RetryPlan` has it.
        max_new_tokens: of each answer.
        told: look at the answers from elsewhere, too; their draw is -1.
        saliency: how answers are looked at.
        vectors: whether the records get the probes' vectors beside the summary signals.
        on_answer: called after each.
    """
    for batch in batches(asked, BATCH):
        images = [_opened(one.image) for one in batch]
        for draw in range(draws):
            written = write_answers(
                lvlm,
                images,
                [one.question for one in batch],
                max_new_tokens=max_new_tokens,
                temperature=max(temperature, retry_temperature) if draw else temperature,
                seed=random.Random(f"{batch[0].picture} {draw}").randrange(2**31),
            )
            for one, image, ids in zip(batch, images, written, strict=True):
                text = EncodedText(ids, text_module.pieces(lvlm.tokenizer, ids))
                yield label(lvlm, one, image, text, draw=draw, saliency=saliency, vectors=vectors)
                on_answer()
        for one, image in zip(batch, images, strict=True) if told else ():
            if one.told is not None:
                text = text_module.encode(lvlm.tokenizer, one.told)
                yield label(lvlm, one, image, text, draw=TOLD, saliency=saliency, vectors=vectors)
            on_answer()


def label(
    lvlm: LVLM,
    asked: Asked,
    image: Image.Image,
    answer: EncodedText,
    *,
    draw: int = 0,
    saliency: SaliencyConfig | None = None,
    vectors: bool = True,
) -> GroundingRecord:
    """Look at one answer and check what it claims; arguments as for `write_records`."""
    claims = asked.check("".join(answer.pieces))
    mentions = _mentions(answer.pieces, claims)
    return look(
        lvlm,
        chat(image, asked.question),
        answer,
        GroundingRecordLabels(asked.picture, asked.question, draw, mentions, _all_true(claims)),
        saliency=saliency,
        vectors=vectors,
    )


def _mentions(pieces: Sequence[str], claims: Iterable[Claim]) -> tuple[LabelledMention, ...]:
    return tuple(
        LabelledMention(token=token_at(pieces, one.start), grounded=one.grounded, name=one.name) for one in claims
    )


@dataclass(frozen=True, slots=True)
class GroundingRecordLabels:
    """What a record has beside the answer."""

    picture: str
    question: str
    draw: int
    mentions: tuple[LabelledMention, ...]
    grounded: bool


def look(
    lvlm: LVLM,
    messages: Sequence[dict[str, Any]],
    answer: EncodedText,
    labels: GroundingRecordLabels,
    *,
    saliency: SaliencyConfig | None = None,
    vectors: bool = True,
) -> GroundingRecord:
    """The record of an answer: its tokens' signals and vectors, and the labels."""
    inputs = lvlm.inputs(messages)
    if not answer.ids:
        return _record(unjudged_answer((), "stop", inputs["input_ids"].shape[1], lvlm.model_id), labels)
    trace = trace_answer(lvlm.model, inputs, answer.ids, saliency=saliency)
    traced = traced_answer(trace, answer, SUMMARIES, lvlm.model_id)
    counted = tuple(sorted({*TokenFilter().counted(answer.pieces), *(one.token for one in labels.mentions)}))
    groups = [name for name in FEATURE_SETS["all"] if name != "signals"] if vectors else []
    found = {name: encoded(rows[list(counted)]) for name, rows in features(trace, groups).items()}
    return _record(traced, labels, counted=counted, vectors=found)


def _record(
    answer: GroundedAnswer,
    labels: GroundingRecordLabels,
    *,
    counted: tuple[int, ...] = (),
    vectors: Mapping[str, str] | None = None,
) -> GroundingRecord:
    return GroundingRecord(
        picture=labels.picture,
        question=labels.question,
        draw=labels.draw,
        answer=answer,
        mentions=labels.mentions,
        grounded=labels.grounded,
        counted=counted,
        vectors=dict(vectors or {}),
    )


def _all_true(claims: Sequence[Claim]) -> bool:
    """An answer that claims nothing that can be checked has not answered."""
    return bool(claims) and all(one.grounded for one in claims)


def _opened(image: Image.Image | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    return load_image(image)


def pope_questions(questions: Iterable[PopeQuestion]) -> Iterator[Asked]:
    """POPE's questions, answers checked by its rule."""
    for one in questions:
        yield Asked(picture_name(one.image), one.image, one.text, partial(yes_claimed, truth=one.truth))


def caption_questions(pictures: Iterable[CocoImage], vocabulary: ObjectVocabulary, prompt: str) -> Iterator[Asked]:
    """COCO pictures to describe, objects checked against what is annotated."""
    for one in pictures:
        check = partial(objects_claimed, shown=one.shown, vocabulary=vocabulary)
        yield Asked(picture_name(one.image), one.image, prompt, check)


def picture_name(path: Path) -> str:
    """A picture's name by its content: the same however the file is called, and wherever it lies."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class LabelledAnswer(Frozen):
    """One line of a user's own file: an answer from anywhere, and whether it is true.

    Attributes:
        image: path of the picture, from the file's folder.
        question: what was asked.
        answer: what was answered.
        grounded: whether all of it is true.
        mentions: single claims, by the words that make them, in the order they stand in the answer.
    """

    class Claimed(Frozen):
        """A piece of the answer and whether it is true."""

        text: str
        grounded: bool

    image: str
    question: str
    answer: str
    grounded: bool
    mentions: tuple[Claimed, ...] = ()


def read_labelled(path: Path) -> list[LabelledAnswer]:
    """Read a user's own labelled answers (JSONL, see `LabelledAnswer`); paths of pictures are from its folder.

    Raises:
        InputError: if a line is not of that form, has no answer, or its picture is not there (its number is named).
    """
    found: list[LabelledAnswer] = []
    for line_number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                found.append(LabelledAnswer.model_validate_json(line))
                _claims(found[-1])
                _check_there(found[-1], path.parent)
            except (ValidationError, InputError) as error:
                msg = f"{path}, line {line_number}: {problem(error)}"
                raise InputError(msg) from error
    if not found:
        msg = f"{path} holds no labelled answers"
        raise InputError(msg)
    return found


def _check_there(one: LabelledAnswer, folder: Path) -> None:
    if not one.answer.strip():
        msg = "the answer is empty"
        raise InputError(msg)
    if not is_file(folder / one.image):
        msg = f"there is no picture {one.image}"
        raise InputError(msg)


def _claims(one: LabelledAnswer) -> list[Claim]:
    claims: list[Claim] = []
    at = 0
    for mention in one.mentions:
        # As a word of its own where there is one: "cat" is not meant in "scattered".
        words = re.compile(rf"(?<!\w){re.escape(mention.text)}(?!\w)").search(one.answer, at)
        at = words.start() if words else one.answer.find(mention.text, at)
        if at < 0 or not mention.text.strip():
            msg = f"the mention {mention.text!r} is not in the answer after the ones before it"
            raise InputError(msg)
        claims.append(Claim(at, mention.grounded, mention.text))
        at += len(mention.text)
    return claims


def labelled_records(
    lvlm: LVLM,
    answers: Iterable[LabelledAnswer],
    folder: Path,
    *,
    saliency: SaliencyConfig | None = None,
    vectors: bool = True,
    on_answer: Callable[[], None] = lambda: None,
) -> Iterator[GroundingRecord]:
    """Look at answers that are there; arguments as for `write_records`, ``folder`` is what their images are in."""
    seen: Counter[tuple[str, str]] = Counter()
    for one in answers:
        encoded_answer = text_module.encode(lvlm.tokenizer, one.answer)
        mentions = _mentions(encoded_answer.pieces, _claims(one))
        asked = (picture_name(folder / one.image), one.question)
        seen[asked] += 1
        # Another answer to the same question is no retry of the first.
        question = one.question if seen[asked] == 1 else f"{one.question} ({seen[asked]})"
        labels = GroundingRecordLabels(asked[0], question, 0, mentions, one.grounded)
        yield look(
            lvlm, chat(folder / one.image, one.question), encoded_answer, labels, saliency=saliency, vectors=vectors
        )
        on_answer()
