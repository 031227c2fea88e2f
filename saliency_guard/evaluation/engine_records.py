"""Labelled records made where an engine works: in this process record by record, on a cluster batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from saliency_guard.calibration.fingerprint import Fingerprint, fingerprint
from saliency_guard.calibration.records import GIVEN, GroundingRecord, Records
from saliency_guard.chat.images import load_image
from saliency_guard.engines.engine import Engine, LocalEngine, Lost, engine_of
from saliency_guard.errors import ModelError
from saliency_guard.evaluation.labelled import AnswerToLabel, LabelledAnswer, answers_to_label, label_answer
from saliency_guard.evaluation.labelling import BATCH, MAX_NEW_TOKENS, Looking, write_records
from saliency_guard.evaluation.questions import Question
from saliency_guard.evaluation.record_file import Key
from saliency_guard.evaluation.world import batches
from saliency_guard.lvlm import LVLM
from saliency_guard.saliency.config import SaliencyConfig


@dataclass(frozen=True, slots=True)
class Writing:
    """How answers are written; see `write_records`."""

    draws: int = 1
    temperature: float = 0.0
    retry_temperature: float = 0.7
    max_new_tokens: int = MAX_NEW_TOKENS
    given: bool = False

    def keys(self, question: Question) -> list[Key]:
        """The records that a question leads to."""
        draws = [*range(self.draws), *([GIVEN] if self.given and question.given is not None else [])]
        return [(question.picture, question.question, draw) for draw in draws]

    def answers(self, questions: int) -> int:
        """How many answers are counted for so many questions."""
        return questions * (self.draws + self.given)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Questions that are written together: their random numbers belong to the batch."""

    questions: Sequence[Question]
    done: frozenset[Key]


@dataclass(frozen=True, slots=True)
class _WriteBatches:
    """The work on batches of questions."""

    writing: Writing
    looking: Looking

    def __call__(self, lvlm: LVLM, items: Sequence[_Batch]) -> list[list[GroundingRecord]]:
        return [list(self.records(lvlm, item.questions, item.done)) for item in items]

    def records(
        self,
        lvlm: LVLM,
        questions: Iterable[Question],
        done: Collection[Key],
        on_answer: Callable[[], None] = lambda: None,
    ) -> Iterator[GroundingRecord]:
        """The records of questions, one by one."""
        return write_records(
            lvlm,
            questions,
            draws=self.writing.draws,
            temperature=self.writing.temperature,
            retry_temperature=self.writing.retry_temperature,
            max_new_tokens=self.writing.max_new_tokens,
            given=self.writing.given,
            looking=self.looking,
            done=done,
            on_answer=on_answer,
        )


def written_records(
    engine: Engine,
    questions: Iterable[Question],
    writing: Writing,
    *,
    looking: Looking = Looking(),
    done: Collection[Key] = frozenset(),
    on_answer: Callable[[], None] = lambda: None,
) -> Iterator[GroundingRecord]:
    """`write_records` where an engine works; the records are the same ones, on a cluster in another order.

    Raises:
        ModelError: if a batch ended every worker that worked on it.
    """
    work = _WriteBatches(writing, looking)
    if isinstance(engine, LocalEngine):
        yield from work.records(engine.lvlm, questions, done, on_answer)
        return
    sizes: list[int] = []

    def waiting() -> Iterator[list[_Batch]]:
        for batch in batches(questions, BATCH):
            keys = {key for question in batch for key in writing.keys(question)}
            if keys <= set(done):
                for _ in range(writing.answers(len(batch))):
                    on_answer()
                continue
            sizes.append(writing.answers(len(batch)))
            yield [_Batch([_opened(question) for question in batch], frozenset(keys & set(done)))]

    for number, (records,) in engine.map(work, waiting()):
        yield from _kept(records)
        for _ in range(sizes[number]):
            on_answer()


def _opened(question: Question) -> Question:
    """A question with its pictures: a worker may not have the files."""
    images = tuple(image if isinstance(image, Image.Image) else load_image(image) for image in question.images)
    return replace(question, images=images)


@dataclass(frozen=True, slots=True)
class _LabelAnswers:
    """The work on answers from a file."""

    looking: Looking

    def __call__(self, lvlm: LVLM, items: Sequence[AnswerToLabel]) -> list[GroundingRecord]:
        return [label_answer(lvlm, item, looking=self.looking) for item in items]


def labelled_answers_records(
    engine: Engine,
    answers: Iterable[LabelledAnswer],
    folder: Path,
    *,
    looking: Looking = Looking(),
    done: Collection[Key] = frozenset(),
    on_answer: Callable[[], None] = lambda: None,
) -> Iterator[GroundingRecord]:
    """Look at answers that are there where an engine works; arguments and errors as for `written_records`."""

    def waiting() -> Iterator[AnswerToLabel]:
        for answer in answers_to_label(answers, folder):
            if (answer.picture, answer.question, 0) in done:
                on_answer()
            else:
                yield answer.opened()

    size = 1 if isinstance(engine, LocalEngine) else BATCH // 6
    for _, records in engine.map(_LabelAnswers(looking), batches(waiting(), size)):
        for record in records:
            yield _kept(record)
            on_answer()


def _kept(result: Any) -> Any:
    if isinstance(result, Lost):
        raise ModelError(result.error)
    return result


def empty_records(model: LVLM | Engine, looking: Looking, written: Mapping[str, Any] | None = None) -> Records:
    """Records of a model, without any: whose they are, how they are written and verified."""
    known = engine_of(model).ask_worker(partial(_fingerprint, saliency=looking.saliency))
    return Records(known, (), generation=written, verify=looking.verify)


def _fingerprint(lvlm: LVLM, *, saliency: SaliencyConfig) -> Fingerprint:
    return fingerprint(lvlm.model, lvlm.processor, lvlm.model_id, saliency)
