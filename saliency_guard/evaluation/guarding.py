"""What a calibration and the policies on it are worth: against single signals, by coverage, and over many splits."""

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
VERIFIED = "verification"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How well one score tells grounded from ungrounded.

    Attributes:
        name: of the score.
        claims: AUROC over labelled claims, in the better of the two directions.
        answers: AUROC over answers, of the mean over their claims, in the better direction.
    """

    name: str
    claims: Interval
    answers: Interval


def compare_scores(records: Records, calibrator: Calibrator, *, samples: int) -> list[Comparison]:
    """The calibrated grounding beside verification, every summary signal and position; best of answers first.

    Single signals get the better direction in hindsight, which favours them.
    """
    names = [CALIBRATED, VERIFIED, POSITION, *SUMMARIES]
    claims, answers = _Rows(), _Rows()
    for record in records:
        judged = calibrator.judge_record(record)
        signals = record.features(("signals",))
        verified = [np.nan if claim.verified is None else claim.verified for claim in record.claims]
        if judged.answer is not None and record.grounded is not None:
            means = [_mean(column[np.isfinite(column)].tolist()) for column in signals.T]
            count = float(len(record.answer.tokens))
            answers.add([judged.answer, _mean(verified), count, *means], record.grounded, record.picture)
        for index, claim in enumerate(record.claims):
            probability = judged.claims[index]
            if probability is not None and claim.grounded is not None:
                row = [probability, verified[index], float(claim.tokens[0]), *signals[index]]
                claims.add(row, claim.grounded, record.picture)
    areas = zip(claims.areas(samples, len(names)), answers.areas(samples, len(names)), strict=True)
    compared = [Comparison(name, *pair) for name, pair in zip(names, areas, strict=True)]
    return sorted(compared, key=lambda comparison: -np.nan_to_num(comparison.answers.value))


class _Rows:
    """Scores of several items, their truth and their pictures."""

    def __init__(self) -> None:
        self._rows: list[list[float]] = []
        self._truths: list[bool] = []
        self._pictures: list[str] = []

    def add(self, row: list[float], truth: bool, picture: str) -> None:  # noqa: FBT001 - a label
        self._rows.append(row)
        self._truths.append(truth)
        self._pictures.append(picture)

    def areas(self, samples: int, count: int) -> list[Interval]:
        """The AUROC of each column."""
        table = np.array(self._rows).reshape(-1, count)
        return [_area(column, np.array(self._truths), np.array(self._pictures), samples) for column in table.T]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _area(scores: Floats, truth: Bools, pictures: np.ndarray, samples: int) -> Interval:
    known = np.isfinite(scores)
    if not known.any():
        return Interval(np.nan, np.nan, np.nan)
    scores, truth = scores[known], truth[known]
    turned = scores if float(auroc(scores, truth)[0]) >= 0.5 else -scores
    return interval(lambda weights: auroc(turned, truth, weights), pictures[known], count=samples)


def reliabilities(records: Records, calibrator: Calibrator) -> dict[str, Reliability]:
    """Of all labelled claims and of each kind of them, of all answers and of those to each kind of question."""
    report = calibrator.evaluate(records)
    measured: dict[str, Reliability | None] = {"claims": report.claims}
    measured |= {f"claims: {kind}": values for kind, values in report.kinds.items()}
    measured["answers"] = report.answers
    for kind in dict.fromkeys(_kind(record.question) for record in records):
        part = records.where(_kind(record.question) == kind for record in records)
        measured[f"answers: {kind}"] = calibrator.evaluate(part).answers
    return {name: values for name, values in measured.items() if values is not None}


def _kind(question: str) -> str:
    return {"Is": "yes or no", "How": "how many"}.get(question.split(" ", 1)[0], "descriptions")


def risk_coverage(scores: Floats, grounded: Bools, keep: Keep) -> list[tuple[float, float, float]]:
    """(threshold, part of the questions that are answered, part of those that is ungrounded), all thresholds."""
    points: list[tuple[float, float, float]] = []
    for threshold in np.unique(scores[np.isfinite(scores)]):
        risk, taken = observed_risk(policy_outcomes(scores, grounded, keep, threshold), "accepted")
        points.append((float(threshold), taken, risk))
    return points


@dataclass(frozen=True, slots=True)
class Validity:
    """How a guarantee holds on pictures it was not tested on, over many random splits.

    Attributes:
        name: of the policy.
        risk: the guaranteed risk.
        confidence: of the guarantee.
        splits: how many.
        guaranteed: part of the splits in which a threshold has a guarantee.
        broken: part of all splits in which the fresh pictures' risk exceeds the guaranteed one.
        accepted: mean part of fresh questions answered, where a threshold was found.
        observed: mean risk on fresh pictures, there.
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

    The fresh part is finite, so its risk scatters about the true one: what exceeds the guarantee there is counted even
    where the true risk keeps it.

    Args:
        name: of the policy.
        scores: ``[units, draws]``.
        grounded: ``[units, draws]``.
        risk: to guarantee.
        confidence: to guarantee it with.
        metric: as for `choose_threshold`.
        keep: the same.
        splits: how many.
        fresh: part of the units that test.
        seed: of the splits.
    """
    rng = np.random.default_rng(seed)
    outcomes: list[tuple[float, float]] = []
    for _ in range(splits):
        order = rng.permutation(len(scores))
        cut = round(fresh * len(scores))
        test, made = order[:cut], order[cut:]
        guarantee = choose_threshold(
            scores[made], grounded[made], risk=risk, confidence=confidence, metric=metric, keep=keep
        )
        if not isinstance(guarantee, NoGuarantee):
            outcome = policy_outcomes(scores[test], grounded[test], keep, guarantee.threshold)
            outcomes.append(observed_risk(outcome, metric))
    risks = np.array([risk for risk, _ in outcomes])
    return Validity(
        name=name,
        risk=risk,
        confidence=confidence,
        splits=splits,
        guaranteed=len(outcomes) / splits,
        broken=float((risks > risk).sum()) / splits,
        accepted=float(np.mean([one for _, one in outcomes])) if outcomes else 0.0,
        observed=float(risks.mean()) if outcomes else 0.0,
    )
