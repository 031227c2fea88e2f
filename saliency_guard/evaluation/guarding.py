"""Measures a calibration and the policies based on it: against single signals, by coverage, and over many splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.features import SUMMARIES, Floats
from saliency_guard.calibration.guarantee import (
    Keep,
    Metric,
    NoGuarantee,
    choose_threshold,
    observed_risk,
    policy_outcomes,
)
from saliency_guard.calibration.records import Records
from saliency_guard.calibration.reliability import Bools, Reliability, auroc
from saliency_guard.evaluation.statistics import Interval, interval

POSITION = "position only"
CALIBRATED = "calibrated grounding"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How well a score separates grounded from ungrounded.

    Attributes:
        name: name of the score.
        tokens: AUROC over labelled claims, in the better of the two directions.
        answers: AUROC over answers, of the mean over the tokens that count, in the better direction.
    """

    name: str
    tokens: Interval
    answers: Interval


def compare_scores(records: Records, calibrator: Calibrator, *, samples: int) -> list[Comparison]:
    """Compare the calibrated grounding with every summary signal and with position; sorted by AUROC over answers.

    Single signals are given the better direction in hindsight, which favours them.
    """
    names = [CALIBRATED, POSITION, *SUMMARIES]
    token_rows: list[list[float]] = []
    token_truth: list[bool] = []
    token_pictures: list[str] = []
    answer_rows: list[list[float]] = []
    answer_truth: list[bool] = []
    answer_pictures: list[str] = []
    for record in records:
        judged = calibrator.judge_record(record)
        if judged.answer is None:
            continue
        pieces = [token.text for token in record.answer.tokens]
        counted = calibrator.token_filter.counted(pieces)
        signals = [record.answer.tokens[index].signals for index in counted]
        means = [_mean([token[name] for token in signals if name in token]) for name in SUMMARIES]
        answer_rows.append([judged.answer, float(len(pieces)), *means])
        answer_truth.append(record.grounded)
        answer_pictures.append(record.picture)
        for mention in record.mentions:
            if mention.token in judged.tokens:
                token_signals = record.answer.tokens[mention.token].signals
                row = [judged.tokens[mention.token], float(mention.token)]
                token_rows.append(row + [token_signals.get(name, np.nan) for name in SUMMARIES])
                token_truth.append(mention.grounded)
                token_pictures.append(record.picture)
    tokens = _areas(np.array(token_rows), np.array(token_truth), np.array(token_pictures), samples)
    answers = _areas(np.array(answer_rows), np.array(answer_truth), np.array(answer_pictures), samples)
    comparisons = [Comparison(*row) for row in zip(names, tokens, answers, strict=True)]
    return sorted(comparisons, key=lambda comparison: -comparison.answers.value)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _areas(columns: Floats, truth: Bools, pictures: np.ndarray, samples: int) -> list[Interval]:
    return [_area(column, truth, pictures, samples) for column in columns.T]


def _area(scores: Floats, truth: Bools, pictures: np.ndarray, samples: int) -> Interval:
    known = np.isfinite(scores)
    scores, truth = scores[known], truth[known]
    oriented = scores if float(auroc(scores, truth)[0]) >= 0.5 else -scores
    return interval(lambda weights: auroc(oriented, truth, weights), pictures[known], count=samples)


def reliabilities(records: Records, calibrator: Calibrator) -> dict[str, Reliability]:
    """The reliability of all labelled claims, of all answers, and of the answers to each kind of question."""
    report = calibrator.evaluate(records)
    by_group = {"claims": report.tokens, "answers": report.answers}
    for kind in dict.fromkeys(_kind(record.question) for record in records):
        of_kind = records.where(_kind(record.question) == kind for record in records)
        by_group[f"answers: {kind}"] = calibrator.evaluate(of_kind).answers
    return {name: reliability for name, reliability in by_group.items() if reliability is not None}


def _kind(question: str) -> str:
    return {"Is": "yes or no", "How": "how many"}.get(question.split(" ", 1)[0], "descriptions")


def risk_coverage(scores: Floats, grounded: Bools, keep: Keep) -> list[tuple[float, float, float]]:
    """(threshold, share of answered questions, share of ungrounded answers among them) for every threshold."""
    curve: list[tuple[float, float, float]] = []
    for threshold in np.unique(scores[np.isfinite(scores)]):
        risk, coverage = observed_risk(policy_outcomes(scores, grounded, keep, threshold), "accepted")
        curve.append((float(threshold), coverage, risk))
    return curve


@dataclass(frozen=True, slots=True)
class Validity:
    """How often a guarantee holds on fresh pictures, over many random splits.

    Attributes:
        name: name of the policy.
        risk: the guaranteed risk.
        confidence: confidence of the guarantee.
        splits: number of splits.
        guaranteed: share of the splits in which a threshold has a guarantee.
        broken: share of all splits in which the risk on fresh pictures exceeds the guaranteed risk.
        accepted: mean share of fresh questions that are answered, over the splits with a guarantee.
        observed: mean risk on fresh pictures, over the splits with a guarantee.
    """

    name: str
    risk: float
    confidence: float
    splits: int
    guaranteed: float
    broken: float
    accepted: float
    observed: float


def validity(
    name: str,
    scores: Floats,
    grounded: Bools,
    *,
    risk: float,
    confidence: float = 0.95,
    metric: Metric = "accepted",
    keep: Keep = "first",
    splits: int = 500,
    fresh: float = 0.5,
    seed: int = 0,
) -> Validity:
    """Choose a threshold with a guarantee on a random part of the units and test it on the rest, many times.

    The fresh part is finite, so its risk scatters around the true risk: it may exceed the guaranteed risk, and count as
    broken, even if the true risk does not.

    Args:
        name: name of the policy.
        scores: ``[units, draws]``.
        grounded: ``[units, draws]``.
        risk: the risk to guarantee.
        confidence: confidence of the guarantee.
        metric: as for `choose_threshold`.
        keep: as for `choose_threshold`.
        splits: number of splits.
        fresh: share of the units to test on.
        seed: seed of the splits.
    """
    rng = np.random.default_rng(seed)
    outcomes: list[tuple[float, float]] = []
    for _ in range(splits):
        order = rng.permutation(len(scores))
        cut = round(fresh * len(scores))
        test, fit = order[:cut], order[cut:]
        guarantee = choose_threshold(
            scores[fit], grounded[fit], risk=risk, confidence=confidence, metric=metric, keep=keep
        )
        if not isinstance(guarantee, NoGuarantee):
            outcome = policy_outcomes(scores[test], grounded[test], keep, guarantee.threshold)
            outcomes.append(observed_risk(outcome, metric))
    risks = np.array([fresh_risk for fresh_risk, _ in outcomes])
    return Validity(
        name=name,
        risk=risk,
        confidence=confidence,
        splits=splits,
        guaranteed=len(outcomes) / splits,
        broken=float((risks > risk).sum()) / splits,
        accepted=float(np.mean([coverage for _, coverage in outcomes])) if outcomes else 0.0,
        observed=float(risks.mean()) if outcomes else 0.0,
    )
