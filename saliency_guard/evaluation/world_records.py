"""Labelled records of the picture world: questions about single scenes, about several in one prompt, about texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from saliency_guard.calibration.records import Records
from saliency_guard.engines.engine import Engine, engine_of
from saliency_guard.evaluation.document_questions import document_questions
from saliency_guard.evaluation.engine_records import Writing, empty_records, written_records
from saliency_guard.evaluation.labelling import MAX_NEW_TOKENS, Looking
from saliency_guard.evaluation.questions import QUESTIONS_A_SCENE, Question, several_questions, world_questions
from saliency_guard.evaluation.record_file import RecordFile
from saliency_guard.evaluation.world import batches, pictures
from saliency_guard.lvlm import LVLM

SEVERAL = (2, 3, 4)
"""How many pictures prompts have that have several."""


@dataclass(frozen=True, slots=True)
class WorldRun:
    """Which questions about scenes are asked, and how.

    Attributes:
        split: of the picture world.
        scenes: how many are asked about one by one.
        several: how many prompts there are with two, three and four pictures each; their scenes are others.
        draws: answers to each question about a single picture; prompts with several have one.
        temperature: of the first answer.
        retry_temperature: of the others, at least.
        max_new_tokens: of each answer.
        given: look at answers from elsewhere, too.
        redrawn: how many scenes are drawn as none of the styles is, and asked about like the first.
        documents: how many prompts there are with text documents; their answers from elsewhere are always looked at.
    """

    split: str
    scenes: int
    several: int = 0
    draws: int = 1
    temperature: float = 0.0
    retry_temperature: float = 0.7
    max_new_tokens: int = MAX_NEW_TOKENS
    given: bool = False
    documents: int = 0
    redrawn: int = 0

    @property
    def answers(self) -> int:
        """How many answers there will be."""
        prompts = (self.scenes + self.redrawn) * (self.draws + self.given) + self.several * len(SEVERAL) * (
            1 + self.given
        )
        return QUESTIONS_A_SCENE * prompts + 2 * self.documents

    def parts(self) -> Iterator[tuple[Iterator[Question], Writing]]:
        """Questions whose prompts have equally many pictures, and how their answers are written."""
        writing = Writing(self.draws, self.temperature, self.retry_temperature, self.max_new_tokens, self.given)
        shown = pictures(self.split, self.scenes + self.several * sum(SEVERAL) + self.redrawn)
        single = [next(shown) for _ in range(self.scenes)]
        if single:
            yield (question for scene in single for question in world_questions(scene)), writing
        for count in SEVERAL if self.several else ():
            groups = list(batches((next(shown) for _ in range(self.several * count)), count))
            yield (question for group in groups for question in several_questions(group)), replace(writing, draws=1)
        if self.redrawn:
            otherwise = (scene.drawn_otherwise() for scene in shown)
            yield (question for scene in otherwise for question in world_questions(scene)), writing
        if self.documents:
            yield document_questions(self.split, self.documents), replace(writing, draws=1, given=True)


def generation(run: WorldRun) -> Mapping[str, Any]:
    """How a run writes, in the words of `LVLM.generate`: plainly."""
    return {
        "temperature": run.temperature,
        "retry_temperature": run.retry_temperature,
        "max_new_tokens": run.max_new_tokens,
        "sgrs": None,
        "locore": None,
    }


def world_records(
    model: LVLM | Engine,
    run: WorldRun,
    *,
    looking: Looking = Looking(),
    file: RecordFile | None = None,
    on_answer: Callable[[], None] = lambda: None,
) -> Records:
    """Ask about scenes and label the answers.

    Args:
        model: what answers, or where the work is done.
        run: the questions.
        looking: how answers are looked at.
        file: where records are kept while they are made; what is in it is not made again.
        on_answer: called after each.
    """
    engine = engine_of(model)
    made = []
    for questions, writing in run.parts():
        done = file.done if file is not None else frozenset()
        for record in written_records(engine, questions, writing, looking=looking, done=done, on_answer=on_answer):
            if file is not None:
                file.add(record)
            made.append(record)
    if file is not None:
        return file.finish()
    empty = empty_records(engine, looking, generation(run))
    return Records(empty.fingerprint, made, generation=empty.generation, verify=empty.verify)
