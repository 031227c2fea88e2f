"""Models small enough to be read as JSON: a scaled linear score, and a map from scores to probabilities."""

from __future__ import annotations

from typing import Literal

import numpy as np

from saliency_guard.calibration.features import Floats
from saliency_guard.errors import CalibrationMismatchError
from saliency_guard.settings import Frozen

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

    median: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficient: tuple[float, ...]
    intercept: float

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
    slope: float = 1.0
    offset: float = 0.0
    points: tuple[tuple[float, float], ...] = ()

    def probability(self, log_odds: Floats) -> Floats:
        """``[n]`` for log-odds ``[n]``."""
        if self.method == "isotonic":
            at, values = zip(*self.points, strict=True)
            interpolated: Floats = np.interp(log_odds, at, values)
            return interpolated
        result: Floats = 1.0 / (1.0 + np.exp(-(self.slope * log_odds + self.offset)))
        return result
