"""Labelled answers: scored, with each checkable claim marked true or false; from several sources of ground truth.

The sources are the picture world, POPE and COCO files, and a user's own labelled answers.
"""

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
_TRUE_SHARE = 0.5
_REWORDED_SHARE = 0.5
TASKS = ("describe", "presence", "count")


@dataclass(frozen=True, slots=True, eq=False)
class CheckedQuestion:
    """A question about a picture whose answers can be checked.

    Attributes:
        picture: name of the picture.
        image: the picture.
        question: the question.
        check: finds the claims of an answer and checks them.
        told: a given answer, true or false, that is scored too: calibrations also need text the model did not write.
    """

    picture: str
    image: Image.Image | Path
    question: str
    check: Checker
    told: str | None = None


def world_questions(picture: WorldPicture, tasks: Sequence[str] = TASKS) -> list[CheckedQuestion]:
    """Questions about a scene: a description, presence (of an object that is there and of one that is not), a count.

    Half of the given answers are true, and half of them are not in the embedded model's wording.
    """
    scene = picture.scene
    name = str(scene.seed)
    rng = random.Random(f"asked {scene.seed}")
    present = rng.choice(sorted(scene.counts))
    absent = negatives(scene, "adversarial", rng, 1)[0]
    # A scene with the absent object in place of the present one: true answers about it are false here.
    other = replace(scene, objects=tuple(replace(o, name=absent) if o.name == present else o for o in scene.objects))

    def given_answer(usual: Callable[[Scene], str], reworded: Callable[[Scene], str]) -> str:
        write = reworded if rng.random() < _REWORDED_SHARE else usual
        return write(scene if rng.random() < _TRUE_SHARE else other)

    questions: list[CheckedQuestion] = []
    if "describe" in tasks:
        check = partial(objects_claimed, shown=frozenset(scene.counts), vocabulary=ObjectVocabulary.world())
        question = DESCRIBE_FORMS[rng.randrange(len(DESCRIBE_FORMS))]
        answer = given_answer(lambda seen: caption(seen, rng), lambda seen: described_otherwise(seen, rng))
        questions.append(CheckedQuestion(name, picture.image, question, check, answer))
    if "presence" in tasks:
        for target in (present, absent):
            question = presence(scene, target).question
            answer = given_answer(partial(_present, name=target), partial(present_otherwise, name=target, rng=rng))
            check = partial(yes_claimed, truth=target in scene.counts)
            questions.append(CheckedQuestion(name, picture.image, question, check, answer))
    if "count" in tasks:
        target = rng.choice([present, absent])
        question = how_many(scene, target).question
        answer = given_answer(partial(_counted, name=target), partial(counted_otherwise, name=target, rng=rng))
        check = partial(number_claimed, truth=scene.counts.get(target, 0))
        questions.append(CheckedQuestion(name, picture.image, question, check, answer))
    return questions


def _present(scene: Scene, name: str) -> str:
    return presence(scene, name).answer


def _counted(scene: Scene, name: str) -> str:
    return how_many(scene, name).answer


def write_records(
    lvlm: LVLM,
    questions: Iterable[CheckedQuestion],
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
    """Answer the questions, and label the answers.

    Args:
        lvlm: the model that answers.
        questions: the questions.
        draws: number of answers to each question.
        temperature: temperature of the first answer; 0 is greedy.
        retry_temperature: lowest temperature of the other answers, as in `RetryPlan`.
        max_new_tokens: largest number of tokens of an answer.
        told: whether the given answers are scored too; their ``draw`` is -1.
        saliency: how answers are scored.
        vectors: whether the records also get the signals per layer and head, not only the summary signals.
        on_answer: called after each answer.
    """
    for batch in batches(questions, BATCH):
        images = [_opened(question.image) for question in batch]
        for draw in range(draws):
            token_ids = write_answers(
                lvlm,
                images,
                [question.question for question in batch],
                max_new_tokens=max_new_tokens,
                temperature=max(temperature, retry_temperature) if draw else temperature,
                seed=random.Random(f"{batch[0].picture} {draw}").randrange(2**31),
            )
            for question, image, ids in zip(batch, images, token_ids, strict=True):
                text = EncodedText(ids, text_module.pieces(lvlm.tokenizer, ids))
                yield label(lvlm, question, image, text, draw=draw, saliency=saliency, vectors=vectors)
                on_answer()
        for question, image in zip(batch, images, strict=True) if told else ():
            if question.told is not None:
                text = text_module.encode(lvlm.tokenizer, question.told)
                yield label(lvlm, question, image, text, draw=TOLD, saliency=saliency, vectors=vectors)
            on_answer()


def label(
    lvlm: LVLM,
    question: CheckedQuestion,
    image: Image.Image,
    answer: EncodedText,
    *,
    draw: int = 0,
    saliency: SaliencyConfig | None = None,
    vectors: bool = True,
) -> GroundingRecord:
    """Score an answer and check its claims; arguments as for `write_records`."""
    claims = question.check("".join(answer.pieces))
    mentions = _mentions(answer.pieces, claims)
    return scored_record(
        lvlm,
        chat(image, question.question),
        answer,
        GroundingRecordLabels(question.picture, question.question, draw, mentions, _all_true(claims)),
        saliency=saliency,
        vectors=vectors,
    )


def _mentions(pieces: Sequence[str], claims: Iterable[Claim]) -> tuple[LabelledMention, ...]:
    return tuple(
        LabelledMention(token=token_at(pieces, claim.start), grounded=claim.grounded, name=claim.name)
        for claim in claims
    )


@dataclass(frozen=True, slots=True)
class GroundingRecordLabels:
    """The fields of a record other than the answer and its signals."""

    picture: str
    question: str
    draw: int
    mentions: tuple[LabelledMention, ...]
    grounded: bool


def scored_record(
    lvlm: LVLM,
    messages: Sequence[dict[str, Any]],
    answer: EncodedText,
    labels: GroundingRecordLabels,
    *,
    saliency: SaliencyConfig | None = None,
    vectors: bool = True,
) -> GroundingRecord:
    """The record of an answer: the signals and vectors of its tokens, and the labels."""
    inputs = lvlm.inputs(messages)
    if not answer.ids:
        return _record(unjudged_answer((), "stop", inputs["input_ids"].shape[1], lvlm.model_id), labels)
    trace = trace_answer(lvlm.model, inputs, answer.ids, saliency=saliency)
    traced = traced_answer(trace, answer, SUMMARIES, lvlm.model_id)
    counted = tuple(sorted({*TokenFilter().counted(answer.pieces), *(mention.token for mention in labels.mentions)}))
    groups = [name for name in FEATURE_SETS["all"] if name != "signals"] if vectors else []
    token_vectors = {name: encoded(rows[list(counted)]) for name, rows in features(trace, groups).items()}
    return _record(traced, labels, counted=counted, vectors=token_vectors)


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
    """Whether all claims are true; an answer without a checkable claim has not answered the question."""
    return bool(claims) and all(claim.grounded for claim in claims)


def _opened(image: Image.Image | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    return load_image(image)


def pope_questions(questions: Iterable[PopeQuestion]) -> Iterator[CheckedQuestion]:
    """POPE's questions; answers are checked by POPE's rule."""
    for question in questions:
        check = partial(yes_claimed, truth=question.truth)
        yield CheckedQuestion(picture_name(question.image), question.image, question.text, check)


def caption_questions(
    pictures: Iterable[CocoImage], vocabulary: ObjectVocabulary, prompt: str
) -> Iterator[CheckedQuestion]:
    """COCO pictures to describe; the objects of answers are checked against the annotations."""
    for picture in pictures:
        check = partial(objects_claimed, shown=picture.shown, vocabulary=vocabulary)
        yield CheckedQuestion(picture_name(picture.image), picture.image, prompt, check)


def picture_name(path: Path) -> str:
    """A picture's name from its content, so that it does not depend on the file's name or place."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class LabelledAnswer(Frozen):
    """A line of a user's file of labelled answers.

    Attributes:
        image: path of the picture, relative to the file's folder.
        question: the question.
        answer: the answer, written by any model or person.
        grounded: whether the whole answer is true.
        mentions: single claims, given by their words, in the order in which they appear in the answer.
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
    """Read a user's labelled answers (JSONL, see `LabelledAnswer`).

    Raises:
        InputError: if a line has another form, an empty answer, or a missing picture; the message has its number.
    """
    labelled: list[LabelledAnswer] = []
    for line_number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                labelled.append(LabelledAnswer.model_validate_json(line))
                _claims(labelled[-1])
                _check_complete(labelled[-1], path.parent)
            except (ValidationError, InputError) as error:
                msg = f"{path}, line {line_number}: {problem(error)}"
                raise InputError(msg) from error
    if not labelled:
        msg = f"{path} has no labelled answers"
        raise InputError(msg)
    return labelled


def _check_complete(labelled: LabelledAnswer, folder: Path) -> None:
    if not labelled.answer.strip():
        msg = "the answer is empty"
        raise InputError(msg)
    if not is_file(folder / labelled.image):
        msg = f"there is no picture {labelled.image}"
        raise InputError(msg)


def _claims(labelled: LabelledAnswer) -> list[Claim]:
    claims: list[Claim] = []
    start = 0
    for mention in labelled.mentions:
        # Whole words are preferred: "cat" does not match in "scattered".
        match = re.compile(rf"(?<!\w){re.escape(mention.text)}(?!\w)").search(labelled.answer, start)
        start = match.start() if match else labelled.answer.find(mention.text, start)
        if start < 0 or not mention.text.strip():
            msg = f"the mention {mention.text!r} is not in the answer after the mentions before it"
            raise InputError(msg)
        claims.append(Claim(start, mention.grounded, mention.text))
        start += len(mention.text)
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
    """Score labelled answers; arguments as for `write_records`. The pictures are in ``folder``."""
    answer_counts: Counter[tuple[str, str]] = Counter()
    for labelled in answers:
        answer = text_module.encode(lvlm.tokenizer, labelled.answer)
        mentions = _mentions(answer.pieces, _claims(labelled))
        picture = picture_name(folder / labelled.image)
        answer_counts[picture, labelled.question] += 1
        count = answer_counts[picture, labelled.question]
        # A second answer to the same question is not a retry of the first, so it gets a question of its own.
        question = labelled.question if count == 1 else f"{labelled.question} ({count})"
        labels = GroundingRecordLabels(picture, question, 0, mentions, labelled.grounded)
        messages = chat(folder / labelled.image, labelled.question)
        yield scored_record(lvlm, messages, answer, labels, saliency=saliency, vectors=vectors)
        on_answer()
