"""The pictures that a calibration holds for: how far a picture is from those it was fitted on, as a p-value.

A picture may be unlike them in two ways: in how it looks, and in how surely the model recognises what it shows. The
distance is Mahalanobis' over the pooled vision features, with a covariance that is shrunk (Ledoit and Wolf) and
kept along its widest directions alone; the p-value is conformal (the part of held-out pictures that are at least as far
out), so that of pictures like the fitted ones at most a part ``p`` is refused at level ``p``.
"""

from __future__ import annotations

import base64
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.reliability import Bools
from saliency_guard.errors import CalibrationMismatchError, InputError, require_extra
from saliency_guard.settings import Finite, Frozen, Scale

_DIRECTIONS = 96
FEWEST_PICTURES = 40
"""Fewer pictures say little about what pictures there are."""
_TINY = 1e-6
_FARTHEST = 1e18


class Cloud(Frozen):
    """Vectors like those that were fitted.

    Attributes:
        mean: of the features, float16, base64.
        directions: ``[k, D]`` the widest directions, each divided by its standard deviation; float16, base64.
        rest: standard deviation of what lies in none of them.
        distances: of pictures held out, rising.
        size: D.
    """

    mean: str
    directions: str
    rest: Scale
    distances: Annotated[tuple[Finite, ...], Field(min_length=1)]
    size: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _check(self) -> Cloud:
        mean, directions = _numbers(self.mean), _numbers(self.directions)
        if len(mean) != self.size or len(directions) % self.size or not len(directions):
            msg = f"a domain of {self.size} features has {len(mean)} in its mean, {len(directions)} in its directions"
            raise ValueError(msg)
        if not (np.isfinite(mean).all() and np.isfinite(directions).all()):
            msg = "a domain's mean or directions are not finite"
            raise ValueError(msg)
        if list(self.distances) != sorted(self.distances):
            msg = "the distances of a domain must rise"
            raise ValueError(msg)
        return self

    @classmethod
    def fit(cls, features: Floats, *, held_out: float = 0.5, seed: int = 0) -> Cloud:
        """Fit on some pictures, and measure the distances of the others.

        Args:
            features: ``[n, D]`` of pictures.
            held_out: part of them that the distances are of.
            seed: of the choice.

        Raises:
            InputError: if there are too few pictures.
            MissingExtraError: if scikit-learn is not installed.
        """
        require_extra("sklearn", "scikit-learn", "calibrate")
        from sklearn.covariance import LedoitWolf  # noqa: PLC0415 - an extra

        if len(features) < FEWEST_PICTURES:
            msg = f"{len(features)} pictures say little about all there are: at least {FEWEST_PICTURES} are needed"
            raise InputError(msg)
        order = np.random.default_rng(seed).permutation(len(features))
        cut = round(len(features) * held_out)
        seen, hidden = features[order[cut:]], features[order[:cut]]
        mean = seen.mean(axis=0)
        if seen.shape[1] <= 4 * len(seen):
            variances, vectors = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(seen - mean).covariance_)
        else:  # More features than the covariance of so few pictures can hold.
            _, singular, rows = np.linalg.svd(seen - mean, full_matrices=False)
            variances, vectors = singular[::-1] ** 2 / len(seen), rows[::-1].T
        count = min(_DIRECTIONS, len(variances))
        widths = np.sqrt(np.maximum(variances[-count:], _TINY))
        directions = (vectors[:, -count:] / widths).T
        left = (seen - mean) - (seen - mean) @ (directions * widths[:, None] ** 2).T @ directions
        rest = max(float(np.sqrt((left**2).sum(axis=1).mean() / max(1, seen.shape[1] - count))), _TINY)
        fitted = cls(mean=_text(mean), directions=_text(directions), rest=rest, distances=(0.0,), size=seen.shape[1])
        return fitted.model_copy(update={"distances": tuple(np.sort(fitted.distance(hidden)).round(4).tolist())})

    def distance(self, features: Floats) -> Floats:
        """``[n]`` how far pictures are from the fitted ones, in standard deviations.

        Raises:
            CalibrationMismatchError: if they have another number of features.
        """
        if features.shape[1] != self.size:
            raise CalibrationMismatchError({"domain features": (self.size, features.shape[1])})
        apart = features - _numbers(self.mean)
        directions = _numbers(self.directions).reshape(-1, self.size)
        along = apart @ directions.T
        lengths = (directions**2).sum(axis=1)
        square = (along**2).sum(axis=1)
        free = self.size - len(directions)
        if free:
            left = apart - (along / lengths) @ directions
            square += (left**2).sum(axis=1) / self.rest**2 * min(1.0, len(directions) / free)
        result: Floats = np.sqrt(square)
        return result

    def p_values(self, features: Floats) -> list[float]:
        """Conformal p-value of each picture ``[n, D]``; 0 where a feature is NaN, infinite or beyond all measure."""
        known = np.array(self.distances)
        usable: Bools = np.asarray((np.abs(features) < _FARTHEST).all(axis=1))  # False for NaN, too.
        distances = self.distance(np.where(usable[:, None], features, 0.0))
        farther = (known[None] >= distances[:, None]).sum(axis=1)
        values: list[float] = np.where(usable, (1 + farther) / (1 + len(known)), 0.0).tolist()
        return values


class Domain(Frozen):
    """Pictures like those that a calibration was fitted on.

    Attributes:
        appearance: of the pooled vision features.
        recognition: of how surely they are recognised; None where the model does not show it.
    """

    appearance: Cloud
    recognition: Cloud | None

    @classmethod
    def fit(cls, features: Floats, *, recognition: int, seed: int = 0) -> Domain:
        """Fit on pictures; arguments and errors as of `Cloud.fit`.

        Args:
            features: ``[n, D + recognition]`` of pictures.
            recognition: how many of the last columns say how surely they are recognised.
            seed: of the choice of the pictures held out.
        """
        looks, sure = features[:, : features.shape[1] - recognition], features[:, features.shape[1] - recognition :]
        known = recognition > 0 and bool(np.isfinite(sure).all())
        return cls(appearance=Cloud.fit(looks, seed=seed), recognition=Cloud.fit(sure, seed=seed) if known else None)

    def p_values(self, features: Floats) -> list[float]:
        """P-value of each picture ``[n, D + recognition]``: twice the lesser of the two, at most 1.

        Raises:
            CalibrationMismatchError: if they have another number of features.
        """
        looks = self.appearance.p_values(features[:, : self.appearance.size])
        if self.recognition is None:
            return looks
        sure = self.recognition.p_values(features[:, self.appearance.size :])
        return [min(1.0, 2.0 * min(pair)) for pair in zip(looks, sure, strict=True)]


def _text(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _numbers(text: str) -> Floats:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float64)
    except ValueError as error:
        msg = f"the numbers of a domain are damaged: {error}"
        raise ValueError(msg) from error
