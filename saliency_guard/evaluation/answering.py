"""Answers to the questions of a benchmark, kept in a journal, where an engine works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saliency_guard.chat.messages import chat
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.engines.engine import Engine, LocalEngine, Lost
from saliency_guard.errors import ModelError
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.world import batches
from saliency_guard.lvlm import LVLM
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.storage import read_file

_AT_ONCE = 8
"""How many questions a worker of a cluster gets at once; in this process each is in the journal when it is answered."""


@dataclass(frozen=True, slots=True)
class PictureQuestion:
    """A question about a picture, and what its answer is kept under."""

    key: str
    image: Path | bytes
    text: str


@dataclass(frozen=True, slots=True)
class AnswerQuestions:
    """The work on questions: a plain answer to each, without scores.

    Attributes:
        max_new_tokens: of an answer.
        sgrs: settings of SGRS; None is off.
        locore: settings of LocoRE; None is off.
    """

    max_new_tokens: int
    sgrs: SGRSConfig | None = None
    locore: LocoREConfig | None = None

    def __call__(self, lvlm: LVLM, questions: Sequence[PictureQuestion]) -> list[str]:
        """The answers."""
        return [
            lvlm.generate(
                chat(question.image, question.text),
                max_new_tokens=self.max_new_tokens,
                sgrs=self.sgrs,
                locore=self.locore,
                saliency=None,
            ).text
            for question in questions
        ]


def answer_questions(
    engine: Engine,
    work: AnswerQuestions,
    questions: Sequence[PictureQuestion],
    journal: Journal,
    *,
    on_answer: Callable[[], None] = lambda: None,
) -> list[str]:
    """The answers to all questions, in order; those that the journal has are not asked again.

    Raises:
        ModelError: if a question ended every worker that was asked it.
    """
    waiting: list[PictureQuestion] = []
    for question in questions:
        if question.key in journal.results:
            on_answer()
        else:
            waiting.append(question)
    size = 1 if isinstance(engine, LocalEngine) else _AT_ONCE
    batched = list(batches(waiting, size))
    for number, texts in engine.map(work, _opened(batched)):
        for question, text in zip(batched[number], texts, strict=True):
            if isinstance(text, Lost):
                msg = f"question {question.key}: {text.error}"
                raise ModelError(msg)
            journal.add(question.key, text)
            on_answer()
    return [journal.results[question.key] for question in questions]


def _opened(batched: Sequence[Sequence[PictureQuestion]]) -> Iterator[list[PictureQuestion]]:
    """Questions with the bytes of their pictures, read when it is their turn: a worker may not have the files."""
    for questions in batched:
        yield [
            PictureQuestion(
                question.key,
                read_file(question.image) if isinstance(question.image, Path) else question.image,
                question.text,
            )
            for question in questions
        ]
