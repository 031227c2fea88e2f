"""Scores a batch of records with one model; one record's trouble is not another's."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

from pydantic import model_validator

from saliency_guard.adapters.report import ReportDetail, answer_report, raised_report
from saliency_guard.adapters.scorer import LocalScorer
from saliency_guard.answer import GroundedAnswer
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.dataset.rows import Question
from saliency_guard.decoding.options import at_least_one, generation_plan
from saliency_guard.guard.outcome import LowGroundingError
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.lvlm import LVLM
from saliency_guard.settings import Count, Frozen, Settings

Made = TypeVar("Made")

_LONGEST_MESSAGE = 2000


class Scored(Frozen):
    """A record that was scored.

    Attributes:
        id: of the record.
        text: the answer: the record's own, or the one that was written; empty where a policy let none through.
        model: what scored it.
        report: what is known of its grounding; see `answer_report`.
    """

    id: str
    text: str
    model: str
    report: dict[str, Any]


class Problem(Frozen):
    """Why a record could not be scored.

    Attributes:
        error: the kind of error.
        message: what was wrong.
    """

    error: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Problem:
        """What an error says; the error itself may not be fit to be sent to another process."""
        # It may quote what no file can hold: half of a surrogate pair.
        message = str(error)[:_LONGEST_MESSAGE].encode(errors="backslashreplace").decode()
        return cls(error=type(error).__name__, message=message)


class Scoring(Settings):
    """How records are scored.

    Attributes:
        policy: decides on every answer; None only scores.
        report: how much the reports hold.
        max_new_tokens: of an answer that is written.
        temperature: of an answer that is written.
        seed: of the random numbers; each record has its own.
        batch_size: how many answers are worked on side by side.
    """

    policy: GuardPolicy | None = None
    report: ReportDetail = "summary"
    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: Count = 0
    batch_size: int = 8

    @model_validator(mode="after")
    def _check(self) -> Self:
        generation_plan({"max_new_tokens": self.max_new_tokens, "temperature": self.temperature})
        at_least_one("batch_size", self.batch_size)
        return self


@dataclass(frozen=True, slots=True)
class ScoreQuestions:
    """The work on a batch of records; it is sent to workers.

    Attributes:
        scoring: how.
    """

    scoring: Scoring

    def __call__(self, lvlm: LVLM, questions: Sequence[Question]) -> list[Scored | Problem]:
        """What came of each record, in order."""
        scorer = LocalScorer(lvlm).lvlm_for(self.scoring.policy)
        outcomes: dict[int, Scored | Problem] = {}
        prepared: dict[int, PreparedPrompt] = {}
        for index, question in enumerate(questions):
            made = _tried(partial(scorer.prepare, question.messages))
            if isinstance(made, Problem):
                outcomes[index] = made
            else:
                prepared[index] = made
        given = [index for index in prepared if questions[index].answer is not None]
        written = [index for index in prepared if questions[index].answer is None]
        for indices, together in ((given, self._score), (written, self._write)):
            chosen = [questions[index] for index in indices]
            prompts = [prepared[index] for index in indices]
            outcomes.update(zip(indices, _each(together, scorer, chosen, prompts), strict=True))
        return [outcomes[index] for index in range(len(questions))]

    def _score(self, scorer: LVLM, questions: Sequence[Question], prompts: Sequence[PreparedPrompt]) -> list[Scored]:
        """Score answers that are there."""
        policy = self.scoring.policy
        pairs = [(prompt, question.answer or "") for prompt, question in zip(prompts, questions, strict=True)]
        signals = policy.signals if policy is not None else ()
        answers = scorer.score_batch(pairs, batch_size=self.scoring.batch_size, signals=signals)
        return [self._decided(question, answer, policy) for question, answer in zip(questions, answers, strict=True)]

    def _write(self, scorer: LVLM, questions: Sequence[Question], prompts: Sequence[PreparedPrompt]) -> list[Scored]:
        """Write answers; under a policy one by one, with its retries."""
        seeds = [random.Random(f"{self.scoring.seed} {question.id}").randrange(2**31) for question in questions]  # noqa: S311 - no secret
        policy = self.scoring.policy
        if policy is not None:
            return [
                self._under(policy, scorer, question, seed) for question, seed in zip(questions, seeds, strict=True)
            ]
        answers = scorer.generate_batch(
            prompts,
            batch_size=self.scoring.batch_size,
            max_new_tokens=self.scoring.max_new_tokens,
            temperature=self.scoring.temperature,
            seed=seeds,
        )
        return [self._decided(question, answer, None) for question, answer in zip(questions, answers, strict=True)]

    def _under(self, policy: GuardPolicy, scorer: LVLM, question: Question, seed: int) -> Scored:
        """Write an answer under a policy; one that it does not let through is a result, not an error."""
        try:
            outcome = policy.run(
                scorer,
                question.messages,
                max_new_tokens=self.scoring.max_new_tokens,
                temperature=self.scoring.temperature,
                seed=seed,
            )
        except LowGroundingError as error:
            report = raised_report(error, detail=self.scoring.report)
            return Scored(id=question.id, text="", model=scorer.model_id, report=report)
        report = answer_report(outcome.answer, outcome, detail=self.scoring.report)
        return Scored(id=question.id, text=outcome.text, model=scorer.model_id, report=report)

    def _decided(self, question: Question, answer: GroundedAnswer, policy: GuardPolicy | None) -> Scored:
        """The report of an answer; the decision on a given answer is written, never raised."""
        outcome = policy.without_actions().check(answer) if policy is not None else None
        report = answer_report(answer, outcome, detail=self.scoring.report)
        return Scored(id=question.id, text=answer.text, model=answer.model_id, report=report)


_Together = Callable[[LVLM, Sequence[Question], Sequence[PreparedPrompt]], list[Scored]]


def _each(
    together: _Together, scorer: LVLM, questions: Sequence[Question], prompts: Sequence[PreparedPrompt]
) -> Sequence[Scored | Problem]:
    """What came of each record: side by side, and one by one where that fails."""
    if not questions:
        return []
    made = _tried(lambda: together(scorer, questions, prompts))
    if not isinstance(made, Problem):
        return made
    if len(questions) == 1:
        return [made]
    alone = [_each(together, scorer, [question], [prompt]) for question, prompt in zip(questions, prompts, strict=True)]
    return [outcome for outcomes in alone for outcome in outcomes]


def _tried(make: Callable[[], Made]) -> Made | Problem:
    """What is made, or why it cannot be."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is written beside the record, and the others go on
        return Problem.of(error)
