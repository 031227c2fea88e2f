"""AUROC and AUPR with bootstrap intervals over pictures.

Mentions in the same picture are not independent, so pictures are resampled, not mentions. A resample is a weight per
mention (how often its picture was drawn), so that all resamples can be computed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.reliability import auroc, by_score

_RESAMPLES_PER_BATCH = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """``0.812 [0.790, 0.833]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio(part: float, whole: float) -> float:
    """``part / whole``; NaN if the whole is 0."""
    return part / whole if whole else float("nan")


def aupr(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    """Average precision, the area under the precision-recall curve as a sum of steps; arguments of `auroc`."""
    hit, miss = by_score(scores, positive, weights)
    hits = np.cumsum(hit[:, ::-1], axis=1)
    selected = hits + np.cumsum(miss[:, ::-1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(selected > 0, hits / selected, 0.0)
        result: Floats = (hit[:, ::-1] * precision).sum(axis=1) / hit.sum(axis=1)
    return result


def resamples(groups: npt.NDArray[Any], count: int, seed: int) -> Floats:
    """Bootstrap weights ``[count, n]``: how often the group of each item was drawn."""
    names, index = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    group_weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return group_weights[:, index].astype(np.float64)


def interval(statistic: Callable[[Floats], Floats], groups: npt.NDArray[Any], *, count: int = 1000) -> Interval:
    """A statistic and its 95 % percentile interval over resampled groups.

    Args:
        statistic: from weights ``[B, n]`` to ``[B]``.
        groups: ``[n]`` groups that are resampled as a whole; the same groups give the same resamples, so that
            differences are paired.
        count: number of resamples.
    """
    batch_count = -(-count // _RESAMPLES_PER_BATCH)
    values = np.concatenate(
        [statistic(resamples(groups, min(_RESAMPLES_PER_BATCH, count), seed)) for seed in range(batch_count)]
    )
    low, high = np.nanpercentile(values, [2.5, 97.5]) if np.isfinite(values).any() else (np.nan, np.nan)
    return Interval(float(statistic(np.ones((1, len(groups))))[0]), float(low), float(high))


def binned_auroc(
    scores: Floats, positive: npt.NDArray[np.bool_], bins: npt.NDArray[Any], weights: Floats | None = None
) -> Floats:
    """AUROC among mentions in the same bin only, with bins weighted by their pairs: excludes the bin's influence.

    Args:
        scores: ``[n]``.
        positive: ``[n]``.
        bins: ``[n]``.
        weights: ``[B, n]`` or None, as for `auroc`.

    Returns:
        ``[B]``; NaN if no bin has both positives and negatives.
    """
    rows = np.ones((1, len(scores))) if weights is None else weights
    total, pairs = np.zeros(len(rows)), np.zeros(len(rows))
    for name in np.unique(bins):
        inside = bins == name
        bin_rows = rows[:, inside]
        weight = (bin_rows * positive[inside]).sum(axis=1) * (bin_rows * ~positive[inside]).sum(axis=1)
        total += np.where(weight > 0, weight * np.nan_to_num(auroc(scores[inside], positive[inside], bin_rows)), 0.0)
        pairs += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = total / pairs
    return result


def paired_difference(
    metric: Callable[[Floats], Floats], before: Floats, after: Floats, *, count: int = 2000, seed: int = 0
) -> Interval:
    """A ratio after minus the ratio before, with an interval over resampled pictures, the same for both sides.

    Args:
        metric: a ratio, from summed counts ``[B, k]`` to ``[B]``.
        before: ``[pictures, k]`` counts.
        after: ``[pictures, k]`` counts of the same pictures.
        count: number of resamples.
        seed: seed of the resamples.
    """
    pictures = len(before)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=count).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = metric(weights @ after) - metric(weights @ before)
        value = metric(after.sum(0, keepdims=True)) - metric(before.sum(0, keepdims=True))
    if np.isnan(differences).all():  # In no resample is there anything that the ratio is of.
        return Interval(float(value[0]), np.nan, np.nan)
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    return Interval(float(value[0]), float(low), float(high))
