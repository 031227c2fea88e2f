"""What a calibration and the policies on it are worth: against single signals, by coverage, and over many splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saliency_guard.calibration.features import SUMMARIES, Floats
from saliency_guard.calibration.guarantee import (
    Keep,
    Metric,
    NoGuarantee,
    choose_threshold,
    observed_risk,
    policy_outcomes,
)
from saliency_guard.calibration.reliability import Bools, auroc
from saliency_guard.evaluation.reliabilities import JudgedRecord
from saliency_guard.evaluation.statistics import Interval, interval

POSITION = "position only"
CALIBRATED = "calibrated grounding"
VERIFIED = "verification"
_CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Comparison:
    """How well one score tells grounded from ungrounded.

    Attributes:
        name: of the score.
        claims: AUROC over labelled claims.
        answers: AUROC over answers, of the mean over their claims.
    """

    name: str
    claims: Interval
    answers: Interval


def compare_scores(judged: Sequence[JudgedRecord], *, samples: int) -> list[Comparison]:
    """The calibrated grounding beside verification, every summary signal and position; best of answers first.

    The direction of each score on one half of the pictures is the better one of the other half.
    """
    names = [CALIBRATED, VERIFIED, POSITION, *SUMMARIES]
    claims, answers = _Rows(), _Rows()
    for each in judged:
        record, judgement = each.record, each.judgement
        if judgement.answer is None and not any(value is not None for value in judgement.claims):
            continue
        signals = record.features(("signals",))
        verified = [np.nan if claim.verified is None else claim.verified for claim in record.claims]
        if judgement.answer is not None and record.grounded is not None:
            means = [_mean(column[np.isfinite(column)].tolist()) for column in signals.T]
            count = float(len(record.answer.tokens))
            answers.add([judgement.answer, _mean(verified), count, *means], record.grounded, record.picture)
        for index, claim in enumerate(record.claims):
            probability = judgement.claims[index]
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
        return [
            _area(column, np.array(self._truths, dtype=bool), np.array(self._pictures), samples) for column in table.T
        ]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _area(scores: Floats, truth: Bools, pictures: np.ndarray, samples: int) -> Interval:
    known = np.isfinite(scores)
    if not known.any():
        return Interval(np.nan, np.nan, np.nan)
    scores, truth, pictures = scores[known], truth[known], pictures[known]
    first = in_first_half(pictures)
    signs = np.where(first, _direction(scores[~first], truth[~first]), _direction(scores[first], truth[first]))
    turned = scores * signs
    return interval(lambda weights: auroc(turned, truth, weights), pictures, count=samples)


def _direction(scores: Floats, truth: Bools) -> float:
    area = float(auroc(scores, truth)[0]) if len(scores) else np.nan
    return -1.0 if area < _CHANCE else 1.0


def in_first_half(pictures: np.ndarray) -> Bools:
    """``[n]`` whether each picture is in the first of two halves; a picture is in one of them."""
    names = np.unique(pictures)
    order = np.random.default_rng(0).permutation(len(names))
    return np.isin(pictures, names[order[: len(names) // 2]])


def risk_coverage(scores: Floats, grounded: Bools, keep: Keep) -> list[tuple[float, float, float]]:
    """(threshold, part of the questions that are answered, part of those that is ungrounded), all thresholds."""
    curve: list[tuple[float, float, float]] = []
    for threshold in np.unique(scores[np.isfinite(scores)]):
        risk, accepted = observed_risk(policy_outcomes(scores, grounded, keep, threshold), "accepted")
        curve.append((float(threshold), accepted, risk))
    return curve


def coverage_at(scores: Floats, grounded: Bools, keep: Keep, risk: float) -> tuple[float, float]:
    """The part of the questions that is answered with a threshold for a risk, and the part of those that is wrong.

    The threshold for one half of the questions is the most lenient one that keeps the risk on the other half.

    Args:
        scores: ``[units, draws]``.
        grounded: ``[units, draws]``.
        keep: as for `policy_outcomes`.
        risk: the largest share of wrong answers among the accepted ones.
    """
    first = in_first_half(np.arange(len(scores)))
    outcomes = np.full(len(scores), np.nan)
    for half in (first, ~first):
        curve = risk_coverage(scores[~half], grounded[~half], keep)
        lenient = min((threshold for threshold, _, seen in curve if seen <= risk), default=np.inf)
        outcomes[half] = policy_outcomes(scores[half], grounded[half], keep, lenient)
    wrong, accepted = observed_risk(outcomes, "accepted")
    return accepted, wrong


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
    risks = np.array([observed for observed, _ in outcomes])
    return Validity(
        name=name,
        risk=risk,
        confidence=confidence,
        splits=splits,
        guaranteed=len(outcomes) / splits,
        broken=float((risks > risk).sum()) / splits,
        accepted=float(np.mean([taken for _, taken in outcomes])) if outcomes else 0.0,
        observed=float(risks.mean()) if outcomes else 0.0,
    )
