"""POPE on the picture world: yes/no questions about what scenes show, with and without guards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from saliency_guard.calibration.features import Floats
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.mitigation import Guard
from saliency_guard.evaluation.pope import pope, says_yes
from saliency_guard.evaluation.statistics import Interval, paired_difference
from saliency_guard.evaluation.world import WorldPicture, batches, write_answers
from saliency_guard.lvlm import LVLM
from saliency_guard.scenes import language

_BATCH = 64
_ANSWER_LENGTH = 4  # Enough to decide between yes and no, also for "There is no dog".


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    picture: WorldPicture
    text: str
    truth: bool


def world_questions(pictures: Iterable[WorldPicture], kind: language.Negatives) -> list[_Question]:
    """Two questions per picture: about an object that it shows, and about one that it does not show."""
    questions: list[_Question] = []
    for picture in pictures:
        rng = random.Random(f"{picture.scene.seed} {kind}")  # independent of the scene's random numbers
        present = rng.choice(sorted(picture.scene.counts))
        absent = language.negatives(picture.scene, kind, rng, 1)[0]
        for name, truth in ((present, True), (absent, False)):
            questions.append(_Question(picture, language.presence(picture.scene, name).question, truth))
    return questions


@dataclass(frozen=True, slots=True)
class AnswersResult:
    """Results for yes/no answers with a guard.

    Attributes:
        guard: name of the guard.
        sampled: whether the answers were sampled (temperature 1) or greedy.
        values: POPE's metrics by kind of negatives.
        differences: accuracy minus accuracy without guard, by kind; empty for the first guard.
    """

    guard: str
    sampled: bool
    values: dict[str, dict[str, float]]
    differences: dict[str, Interval]


def compare_answers(
    lvlm: LVLM,
    pictures: Sequence[WorldPicture],
    guards: Mapping[str, Guard],
    *,
    sampled: bool,
    journal: Journal | None = None,
    on_answer: Callable[[], None] = lambda: None,
) -> list[AnswersResult]:
    """Answer the same POPE questions with several guards; the others are compared with the first one.

    Args:
        lvlm: the model.
        pictures: the pictures; two questions per picture and kind of negatives.
        guards: guards by name.
        sampled: sample at temperature 1 instead of greedy decoding.
        journal: keeps answers, so that a run that was stopped goes on.
        on_answer: called after each answer.
    """
    results: list[AnswersResult] = []
    baseline: dict[str, Floats] = {}
    for name, guard in guards.items():
        values: dict[str, dict[str, float]] = {}
        differences: dict[str, Interval] = {}
        for kind in get_args(language.Negatives):
            pairs: list[tuple[bool, bool]] = []
            for question in world_questions(pictures, kind):
                pairs.append((question.truth, says_yes(_answer(lvlm, question, guard, journal, sampled=sampled))))
                on_answer()
            values[kind] = pope(pairs)
            correct = np.array([truth == is_yes for truth, is_yes in pairs], dtype=np.float64).reshape(-1, 2)
            counts = np.stack([correct.sum(axis=1), np.full(len(correct), 2.0)], axis=1)
            if kind in baseline:
                differences[kind] = paired_difference(lambda sums: sums[:, 0] / sums[:, 1], baseline[kind], counts)
            else:
                baseline[kind] = counts
        results.append(AnswersResult(name, sampled, values, differences))
    return results


def _answer(lvlm: LVLM, question: _Question, guard: Guard, journal: Journal | None, *, sampled: bool) -> str:
    key = f"question {question.picture.scene.seed} {'sampled' if sampled else 'greedy'} {guard} {question.text}"
    if journal is not None and key in journal.results:
        return journal.results[key]
    answer = lvlm.generate(
        chat(question.picture.image, question.text),
        max_new_tokens=_ANSWER_LENGTH,
        temperature=1.0 if sampled else 0.0,
        seed=question.picture.scene.seed,
        sgrs=guard.sgrs,
        locore=guard.locore,
        saliency=guard.saliency,
    )
    if journal is not None:
        journal.add(key, answer.text)
    return answer.text


def world_pope(lvlm: LVLM, pictures: Sequence[WorldPicture]) -> dict[str, dict[str, float]]:
    """POPE on the picture world without guard, in batches, by kind of negatives."""
    results: dict[str, dict[str, float]] = {}
    for kind in get_args(language.Negatives):
        questions = world_questions(pictures, kind)
        answers: list[str] = []
        for batch in batches(questions, _BATCH):
            token_ids = write_answers(
                lvlm,
                [question.picture.image for question in batch],
                [question.text for question in batch],
                max_new_tokens=_ANSWER_LENGTH,
            )
            answers += [lvlm.tokenizer.decode(ids) for ids in token_ids]
        pairs = zip(questions, answers, strict=True)
        results[kind] = pope((question.truth, says_yes(answer)) for question, answer in pairs)
    return results
