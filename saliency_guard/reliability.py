"""How good a probability is: does it tell right from wrong, and does it come true as often as it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from saliency_guard.features import Floats
from saliency_guard.settings import Frozen

Bools = npt.NDArray[np.bool_]
BINS = 10


class Bin(Frozen):
    """One bar of a reliability plot.

    Attributes:
        predicted: mean probability in the bin.
        observed: how many of its items were grounded.
        count: how many items there are.
    """

    predicted: float
    observed: float
    count: int


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

    count: int
    grounded: float
    auroc: float | None
    ece: float
    brier: float
    bins: tuple[Bin, ...]


def reliability(probability: Floats, grounded: Bools) -> Reliability:
    """Measure probabilities ``[n]`` against labels ``[n]``; n must not be 0."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    bins = tuple(
        Bin(predicted=float(probability[part].mean()), observed=float(grounded[part].mean()), count=len(part))
        for part in parts
    )
    return Reliability(
        count=len(probability),
        grounded=float(grounded.mean()),
        auroc=area(probability, grounded),
        ece=sum(abs(one.predicted - one.observed) * one.count for one in bins) / len(probability),
        brier=float(np.square(probability - grounded).mean()),
        bins=bins,
    )


def area(scores: npt.NDArray[Any], positive: Bools) -> float | None:
    """Area under the ROC curve, ties counted half; None with one class alone."""
    pairs = int(positive.sum()) * int((~positive).sum())
    if not pairs:
        return None
    _, rank, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    above = float(middle[rank][positive].sum()) - positive.sum() * (positive.sum() + 1) / 2
    return float(above / pairs)
