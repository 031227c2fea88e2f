"""Ways to doubt an answer, side by side on the same answers: likelihoods, samples, the model as judge, and grounding.

Each way gives every answer one number, high for an answer that is right. An answer is right if all of its claims hold
in the scene.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.fit import fit_map
from saliency_guard.calibration.reliability import Bools, auroc, reliability
from saliency_guard.chat.messages import chat_about
from saliency_guard.claim_judge import ClaimJudge
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.evaluation.evidence import table
from saliency_guard.evaluation.labelling import MAX_NEW_TOKENS, all_true
from saliency_guard.evaluation.questions import Question, world_questions
from saliency_guard.evaluation.statistics import Interval, interval
from saliency_guard.evaluation.world import batches, pictures, title, write_answers
from saliency_guard.lvlm import LVLM
from saliency_guard.models.session import Session
from saliency_guard.scenes.claims import extractor_of
from saliency_guard.signals.verification import VerifyConfig

SAMPLES = 5
"""How many further answers consistency is measured on."""
TEMPERATURE = 1.0
"""At which they are drawn."""
_BATCH = 48
_LEAST = 1e-6

LIKELIHOOD, LEAST, CLAIMS, SAME, JUDGE, JUDGED_CLAIMS, GROUNDING = (
    "likelihood",
    "least likelihood",
    "samples by claims",
    "samples word for word",
    "judge",
    "judge by claims",
    "grounding",
)
PLAIN, SAMPLED = "plain", "samples"

WAYS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        LIKELIHOOD: ("likelihood: mean log-probability of the tokens, as a probability", PLAIN),
        LEAST: ("likelihood: probability of the least probable token", PLAIN),
        CLAIMS: (f"{SAMPLES} samples: part of them that makes a claim, mean of the answer's claims", SAMPLED),
        SAME: (f"{SAMPLES} samples: part of them that says the same, word for word", SAMPLED),
        JUDGE: ("the model as judge: P(true) of the whole answer", JUDGE),
        JUDGED_CLAIMS: ("the model as judge, claim by claim: least P(true)", GROUNDING),
        GROUNDING: ("**grounding** (this package)", GROUNDING),
    }
)
"""Name -> what it is, and whose cost it has."""


@dataclass(frozen=True, slots=True)
class ComparedAnswer:
    """An answer with what every way says of it.

    Attributes:
        picture: name of its picture.
        question: what was asked.
        text: the answer.
        right: whether all it claims is true.
        scores: name of the way -> its number; None where it has none.
    """

    picture: str
    question: str
    text: str
    right: bool
    scores: Mapping[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compared_answers(
    lvlm: LVLM,
    split: str,
    count: int,
    *,
    on_answer: Callable[[], None] = lambda: None,
) -> list[ComparedAnswer]:
    """The model's greedy answers about the scenes of a split that make a claim, with the number of every way.

    Args:
        lvlm: what answers.
        split: of the picture world.
        count: how many scenes; each is asked about four times.
        on_answer: called after each question.
    """
    questions = (question for picture in pictures(split, count) for question in world_questions(picture))
    compared: list[ComparedAnswer] = []
    for number, batch in enumerate(batches(questions, _BATCH)):
        answers = lvlm.generate_batch(
            [chat_about(_images(question), question.question) for question in batch], max_new_tokens=MAX_NEW_TOKENS
        )
        samples = [_samples(lvlm, batch, seed=number * SAMPLES + index) for index in range(SAMPLES)]
        for question, answer, *others in zip(batch, answers, *samples, strict=True):
            compared += _compared(lvlm, question, answer, others)
            on_answer()
    return compared


def _images(question: Question) -> list[Any]:
    return list(question.images)


def _samples(lvlm: LVLM, batch: Sequence[Question], seed: int) -> list[str]:
    """One sampled answer to each question."""
    written = write_answers(
        lvlm,
        [_images(question) for question in batch],
        [question.question for question in batch],
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=TEMPERATURE,
        seed=seed,
    )
    return [lvlm.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]


def _compared(lvlm: LVLM, question: Question, answer: GroundedAnswer, samples: Sequence[str]) -> list[ComparedAnswer]:
    """The answer, or none where it claims nothing or its truth is not known."""
    extract = extractor_of(question.extractor)
    claims = extract(answer.text, question.question)
    right = all_true(tuple(question.check(claim) for claim in claims))
    if not claims or right is None:
        return []
    logprobs = [token.logprob for token in answer.tokens]
    verified = [claim.verified for claim in answer.claims if claim.verified is not None]
    scores: dict[str, float | None] = {
        LIKELIHOOD: math.exp(sum(logprobs) / len(logprobs)),
        LEAST: math.exp(min(logprobs)),
        CLAIMS: agreement(claims, [extract(sample, question.question) for sample in samples]),
        SAME: sum(sample.strip() == answer.text.strip() for sample in samples) / len(samples),
        JUDGE: judged(lvlm, question, answer.text),
        JUDGED_CLAIMS: min(verified, default=None),
        GROUNDING: answer.grounding,
    }
    return [ComparedAnswer(question.picture, question.question, answer.text, right, scores)]


def agreement(claims: Sequence[ExtractedClaim], samples: Sequence[Sequence[ExtractedClaim]]) -> float:
    """The part of the samples that makes a claim, mean over the claims: sampling in the manner of SelfCheckGPT.

    Two claims are the same if they are of one kind and put as the same sentence, with or without a negation.
    """
    made = [{_key(claim) for claim in sample} for sample in samples]
    return float(np.mean([[_key(claim) in said for said in made] for claim in claims]))


def _key(claim: ExtractedClaim) -> tuple[str, str, bool]:
    return claim.kind, claim.statement.lower(), claim.negated


def judged(lvlm: LVLM, question: Question, text: str) -> float | None:
    """P(true): the model's probability of yes when it is asked of the picture whether the whole answer is true."""
    prepared = lvlm.prepare(chat_about(_images(question), question.question))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout)
    whole = ExtractedClaim("statement", 0, len(text), text)
    (probability,) = ClaimJudge(lvlm.reader, None, VerifyConfig()).verified([whole], session, prepared.conversation)
    return probability


def costs(
    lvlm: LVLM, split: str, count: int, *, on_question: Callable[[], None] = lambda: None
) -> MappingProxyType[str, float]:
    """What each way costs in plain generations, an answer at a time, in turns on the same questions.

    A plain generation is transformers' own ``generate``. The samples are drawn side by side in one batch. On a CPU
    the time is that of the process on all its cores, which other programs do not change.

    Args:
        lvlm: what answers.
        split: of the picture world.
        count: how many scenes; each is asked about four times.
        on_question: called after each question.
    """
    seconds = dict.fromkeys((PLAIN, SAMPLED, JUDGE, GROUNDING), 0.0)
    for number, picture in enumerate(pictures(split, count + 1)):
        for question in world_questions(picture):
            messages = chat_about(_images(question), question.question)
            taken = {
                PLAIN: _seconds(lvlm, partial(_written, lvlm, question, 1, 0.0)),
                SAMPLED: _seconds(lvlm, partial(_written, lvlm, question, SAMPLES, TEMPERATURE)),
                JUDGE: _seconds(lvlm, partial(judged, lvlm, question, question.given or "Yes.")),
                GROUNDING: _seconds(lvlm, partial(lvlm.generate, messages, max_new_tokens=MAX_NEW_TOKENS)),
            }
            if number > 0:  # The first scene warms up.
                seconds = {name: seconds[name] + taken[name] for name in seconds}
                on_question()
    plain = seconds[PLAIN]
    return MappingProxyType(
        {
            PLAIN: 1.0,
            SAMPLED: 1.0 + seconds[SAMPLED] / plain,
            JUDGE: 1.0 + seconds[JUDGE] / plain,
            GROUNDING: seconds[GROUNDING] / plain,
        }
    )


def _written(lvlm: LVLM, question: Question, count: int, temperature: float) -> object:
    images = [_images(question)] * count
    questions = [question.question] * count
    return write_answers(lvlm, images, questions, max_new_tokens=MAX_NEW_TOKENS, temperature=temperature)


def _seconds(lvlm: LVLM, work: Callable[[], object]) -> float:
    on_gpu = lvlm.model.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    start = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize(lvlm.model.device)
    return clock() - start


@dataclass(frozen=True, slots=True)
class WayResult:
    """How well a way tells right answers from wrong ones.

    Attributes:
        name: of the way.
        known: the part of the answers that it has a number for.
        all: AUROC over these.
        shared: AUROC over the answers that have a grounding.
        ece: expected calibration error over the answers that have a grounding, the number taken as a probability.
        ece_fitted: the same after a logistic curve, fitted on the labels of the other half of the pictures.
        brier: mean squared error as ``ece``.
    """

    name: str
    known: float
    all: Interval
    shared: Interval
    ece: float
    ece_fitted: float
    brier: float


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """A split: how many answers there were and what part of them is right, and a result for each way."""

    split: str
    answers: int
    right: float
    with_grounding: int
    ways: tuple[WayResult, ...]


def compare_ways(split: str, answers: Sequence[ComparedAnswer], *, samples: int = 1000) -> ComparisonResult:
    """Every way's numbers against the truth.

    Args:
        split: name of the split.
        answers: of `compared_answers`; at least one.
        samples: number of bootstrap resamples of intervals, over pictures.
    """
    right = np.array([answer.right for answer in answers])
    picture = np.array([answer.picture for answer in answers])
    columns = {name: _column(answers, name) for name in WAYS}
    grounded = np.isfinite(columns[GROUNDING])
    results = []
    for name, column in columns.items():
        known = np.isfinite(column)
        shared = known & grounded
        fitted = fitted_elsewhere(column[shared], right[shared], picture[shared])
        measured = reliability(column[shared], right[shared]) if shared.any() else None
        refitted = reliability(fitted, right[shared]) if shared.any() and np.isfinite(fitted).all() else None
        results.append(
            WayResult(
                name,
                known=float(known.mean()),
                all=_area(column, right, picture, known, samples),
                shared=_area(column, right, picture, shared, samples),
                ece=measured.ece if measured is not None else math.nan,
                ece_fitted=refitted.ece if refitted is not None else math.nan,
                brier=measured.brier if measured is not None else math.nan,
            )
        )
    return ComparisonResult(split, len(answers), float(right.mean()), int(grounded.sum()), tuple(results))


def _column(answers: Iterable[ComparedAnswer], name: str) -> Floats:
    values = (answer.scores[name] for answer in answers)
    return np.array([math.nan if value is None else value for value in values])


def _area(scores: Floats, right: Bools, picture: Any, chosen: Bools, samples: int) -> Interval:
    if not chosen.any():
        return Interval(math.nan, math.nan, math.nan)
    return interval(lambda weights: auroc(scores[chosen], right[chosen], weights), picture[chosen], count=samples)


def fitted_elsewhere(scores: Floats, right: Bools, picture: Any) -> Floats:
    """Numbers ``[n]`` as probabilities by a logistic curve of their log-odds, fitted on the other half of the pictures.

    Args:
        scores: ``[n]`` from 0 to 1.
        right: ``[n]`` the truth.
        picture: ``[n]`` whose answers are never in both halves.

    Returns:
        ``[n]``; NaN where the other half has one kind of answer alone.
    """
    bounded = np.clip(scores, _LEAST, 1.0 - _LEAST)
    log_odds = np.log(bounded / (1.0 - bounded))
    half = np.isin(picture, np.unique(picture)[::2])
    fitted = np.full(len(scores), np.nan)
    for testing in (half, ~half):
        truths = right[~testing]
        if truths.any() and not truths.all():
            fitted[testing] = fit_map(log_odds[~testing], truths, "platt").probability(log_odds[testing])
    return fitted


def comparison_section(
    results: Sequence[ComparisonResult], cost: Mapping[str, float], command: str, *, model: str, scenes: int
) -> str:
    """The section of docs/comparison.md: a table of every split."""
    parts = [f"```\n{command}\n```", f"Model {model}; {scenes} unseen scenes of each style, four questions about each."]
    for result in results:
        parts += [
            f"### {title(result.split)}",
            (
                f"{result.answers} answers that claim anything, {result.right:.1%} of them right; "
                f"{result.with_grounding} get a grounding."
            ),
            table(
                [
                    "",
                    "plain generations",
                    "answers with a number",
                    "AUROC, of these",
                    "AUROC, where there is a grounding",
                    "ECE there",
                    "ECE there, fitted",
                    "Brier there",
                ],
                [_row(way, cost) for way in result.ways],
            ),
        ]
    return "\n\n".join(parts)


def _row(way: WayResult, cost: Mapping[str, float]) -> list[str]:
    what, whose = WAYS[way.name]
    numbers = (way.ece, way.ece_fitted, way.brier)
    return [
        what,
        f"{cost[whose]:.1f}",
        f"{way.known:.0%}",
        str(way.all),
        str(way.shared),
        *("" if math.isnan(number) else f"{number:.3f}" for number in numbers),
    ]
