"""Models small enough to be read as JSON: a scaled linear score, and a map from scores to probabilities."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import model_validator

from saliency_guard.calibration.features import Floats
from saliency_guard.errors import CalibrationMismatchError
from saliency_guard.settings import Finite, Frozen, Probability, Scale

_LARGEST = 30.0
"""Log-odds beyond these are no longer told apart."""

FARTHEST = 4.0
"""Standard deviations: a feature farther out than that counts as that far out. Texts unlike those it was fitted on
have such features, and a straight line should not be followed there."""


class LinearModel(Frozen):
    """Log-odds linear in standardised features, held within `FARTHEST`.

    Attributes:
        median: stands in for a feature that is NaN.
        mean: of each feature.
        scale: its standard deviation.
        coefficient: its weight.
        intercept: added.
    """

    median: tuple[Finite, ...]
    mean: tuple[Finite, ...]
    scale: tuple[Scale, ...]
    coefficient: tuple[Finite, ...]
    intercept: Finite

    @model_validator(mode="after")
    def _check(self) -> LinearModel:
        lengths = {name: len(getattr(self, name)) for name in ("median", "mean", "scale", "coefficient")}
        if len(set(lengths.values())) != 1 or not self.median:
            counted = ", ".join(f"{length} of {name}" for name, length in lengths.items())
            msg = f"a linear model needs one number a feature of each kind, not {counted}"
            raise ValueError(msg)
        return self

    def log_odds(self, features: Floats) -> Floats:
        """``[n]`` for features ``[n, k]``.

        Raises:
            CalibrationMismatchError: if there are more or fewer of them than the model was fitted on.
        """
        if features.shape[1] != len(self.median):
            raise CalibrationMismatchError({"features": (len(self.median), features.shape[1])})
        known = np.where(np.isfinite(features), features, np.array(self.median))
        standard = np.clip((known - np.array(self.mean)) / np.array(self.scale), -FARTHEST, FARTHEST)
        result: Floats = np.clip(standard @ np.array(self.coefficient) + self.intercept, -_LARGEST, _LARGEST)
        return result


class ProbabilityMap(Frozen):
    """From log-odds to a probability.

    Attributes:
        method: ``"logistic"`` takes the log-odds as they are, ``"platt"`` scales and shifts them, ``"isotonic"`` is
            a step-wise rising map between points.
        slope: of ``"platt"``.
        offset: of ``"platt"``.
        points: of ``"isotonic"``: log-odds and probabilities.
    """

    method: Literal["logistic", "platt", "isotonic"] = "logistic"
    slope: Finite = 1.0
    offset: Finite = 0.0
    points: tuple[tuple[Finite, Probability], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> ProbabilityMap:
        if self.method != "platt" and (self.slope, self.offset) != (1.0, 0.0):
            msg = f'slope and offset go with method="platt", not with {self.method!r}'
            raise ValueError(msg)
        if bool(self.points) != (self.method == "isotonic"):
            msg = 'points go with method="isotonic", and method="isotonic" with points'
            raise ValueError(msg)
        steps = list(pairwise(self.points))
        if self.points and not steps:
            msg = "an isotonic map needs at least two points"
            raise ValueError(msg)
        if any(there >= here or below > above for (there, below), (here, above) in steps):
            msg = "the points of an isotonic map must rise: log-odds strictly, and no probability may fall"
            raise ValueError(msg)
        return self

    def probability(self, log_odds: Floats) -> Floats:
        """``[n]`` for log-odds ``[n]``."""
        if self.method == "isotonic":
            at, values = zip(*self.points, strict=True)
            interpolated: Floats = np.interp(log_odds, at, values)
            return interpolated
        with np.errstate(over="ignore"):  # Beyond what a float holds, the probability is 0.
            result: Floats = 1.0 / (1.0 + np.exp(-(self.slope * log_odds + self.offset)))
        return result
