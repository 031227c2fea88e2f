"""How good a probability is: does it tell right from wrong, and does it come true as often as it says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from saliency_guard.calibration.features import Floats
from saliency_guard.settings import Count, Frozen, Probability

Bools = npt.NDArray[np.bool_]
BINS = 10


class Bin(Frozen):
    """One bar of a reliability plot.

    Attributes:
        predicted: mean probability in the bin.
        observed: how many of its items were grounded.
        count: how many items there are.
    """

    predicted: Probability
    observed: Probability
    count: Count


class Reliability(Frozen):
    """A probability of being grounded against the truth.

    Attributes:
        count: items.
        grounded: how many of them are, as a part.
        auroc: how often a grounded item has the higher probability of the two; None with one kind alone.
        ece: expected calibration error over bins of equal count: mean distance of predicted and observed.
        brier: mean squared error.
        bins: of the reliability plot, lowest first.
    """

    count: Count
    grounded: Probability
    auroc: Probability | None
    ece: Probability
    brier: Probability
    bins: tuple[Bin, ...]

    @property
    def skill(self) -> float | None:
        """The Brier skill: 1 for perfect, 0 for no better than saying how many are grounded every time.

        That share is the one of these very items, which favours the constant. None with one kind alone.
        """
        constant = self.grounded * (1.0 - self.grounded)
        return 1.0 - self.brier / constant if constant else None


def reliability(probability: Floats, grounded: Bools) -> Reliability:
    """Measure probabilities ``[n]`` against labels ``[n]``; n must not be 0."""
    area = float(auroc(probability, grounded)[0])
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    bins = tuple(
        Bin(predicted=float(probability[part].mean()), observed=float(grounded[part].mean()), count=len(part))
        for part in parts
    )
    return Reliability(
        count=len(probability),
        grounded=float(grounded.mean()),
        auroc=area if np.isfinite(area) else None,
        ece=sum(abs(each.predicted - each.observed) * each.count for each in bins) / len(probability),
        brier=float(np.square(probability - grounded).mean()),
        bins=bins,
    )


def auroc(scores: Floats, positive: Bools, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve, ties counted half.

    Args:
        scores: ``[n]``, larger for positive.
        positive: ``[n]``.
        weights: ``[B, n]`` one row per resample; None is one row of ones.

    Returns:
        ``[B]``; NaN for a resample with one class alone.
    """
    hit, miss = by_score(scores, positive, weights)
    below = np.cumsum(miss, axis=1) - miss
    pairs = hit.sum(axis=1) * miss.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = (hit * (below + miss / 2)).sum(axis=1) / pairs
    return result


def by_score(scores: Floats, positive: Bools, weights: Floats | None) -> tuple[Floats, Floats]:
    """Weight of positives and of negatives at every distinct score, lowest first: ``[B, distinct]`` each."""
    order = np.argsort(scores, kind="stable")
    ordered, labels = scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rows = np.ones((1, len(scores))) if weights is None else weights[:, order]
    return np.add.reduceat(rows * labels, starts, axis=1), np.add.reduceat(rows * ~labels, starts, axis=1)
