"""The pictures that a calibration holds for: how far a picture is from those it was fitted on, as a p-value.

A picture may be unlike them in how it looks, in how surely the model recognises what it shows, and in how sure the
model is of an answer's claims when it is asked about them one by one. The first two are Mahalanobis' distances over
pooled vision features and over what the logit lens makes of them, with a covariance that is shrunk (Ledoit and Wolf)
and kept along its widest directions alone. P-values are conformal (the part of held-out pictures or answers that are at
least as far out), so that of pictures like the fitted ones at most a part ``p`` is refused at level ``p``. The last two
are put together as Fisher does (the sum of the logs of their p-values), and made a p-value in the same way: weak signs
add up.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt
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
_GROUPS = (1, 3, 10**9)
"""Answers of up to so many claims are compared with each other."""
_LOOKS = 0.2
"""The part of the level that appearance gets beside recognition and surety."""
_MOST_KEPT = 1000
_SMALLEST = 1e-4
_SLACK = 1e-4  # Of rounding.


class Cloud(Frozen):
    """Vectors like those that were fitted.

    Attributes:
        mean: of the features, float32, base64.
        directions: ``[k, D]`` the widest directions, each divided by its standard deviation; float32, base64.
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
        hidden_rows = held_out_rows(len(features), part=held_out, seed=seed)
        hidden = features[hidden_rows]
        seen = features[np.setdiff1d(np.arange(len(features)), hidden_rows)]
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


def held_out_rows(count: int, *, part: float = 0.5, seed: int = 0) -> npt.NDArray[np.int64]:
    """Which of so many pictures a cloud is not fitted on; the same for all clouds of these pictures."""
    return np.random.default_rng(seed).permutation(count)[: round(count * part)]


class Surety(Frozen):
    """How sure the model is of the claims of answers about pictures like those that were fitted.

    Attributes:
        sure: for each of `_GROUPS` the mean distance of the verified log-odds from 0, of each answer, rising.
        joined: sums of the logs of the p-values of recognition and surety, each negative, rising.
    """

    sure: Annotated[tuple[tuple[Finite, ...], ...], Field(min_length=len(_GROUPS), max_length=len(_GROUPS))]
    joined: Annotated[tuple[Finite, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Surety:
        if any(not values or list(values) != sorted(values) for values in (*self.sure, self.joined)):
            msg = "the values of a domain's surety must rise, and every group needs some"
            raise ValueError(msg)
        return self

    @classmethod
    def fit(cls, odds: Sequence[Floats], recognised: Sequence[Floats]) -> Surety | None:
        """Fit on answers about pictures that no cloud was fitted on; None where there are too few.

        Args:
            odds: verified log-odds of each answer's claims.
            recognised: the p-values of the recognition of each answer's pictures.
        """
        pairs = [(mean_surety(each), len(each), known) for each, known in zip(odds, recognised, strict=True)]
        usable = [(sure, _group(count), known) for sure, count, known in pairs if sure is not None]
        if len(usable) < FEWEST_PICTURES:
            return None
        every = _kept([sure for sure, _, _ in usable])
        groups = [[sure for sure, number, _ in usable if number == index] for index in range(len(_GROUPS))]
        sure = tuple(_kept(group) if len(group) >= FEWEST_PICTURES else every for group in groups)
        first = cls(sure=sure, joined=(0.0,))
        joined = _kept([first.statistic(value, number, known) for value, number, seen in usable for known in seen])
        return first.model_copy(update={"joined": joined})

    def statistic(self, sure: float, group: int, recognised: float) -> float:
        """The sum of the logs of two p-values, negative: high is unusual."""
        known = np.array(self.sure[group])
        value = (1.0 + float((known <= sure).sum())) / (1.0 + len(known))
        return -float(np.log(value) + np.log(max(recognised, _SMALLEST)))

    def p_value(self, odds: Floats, recognised: float) -> float | None:
        """Of an answer and the recognition of one of its pictures; None where no claim was verified."""
        sure = mean_surety(odds)
        if sure is None:
            return None
        joined = np.array(self.joined)
        unusual = self.statistic(sure, _group(len(odds)), recognised)
        return (1.0 + float((joined >= unusual - _SLACK).sum())) / (1.0 + len(joined))


def mean_surety(odds: Floats) -> float | None:
    """How sure a model is of claims: the mean distance of their verified log-odds from 0; None without any."""
    known = odds[np.isfinite(odds)]
    return float(np.abs(known).mean()) if len(known) else None


def _kept(values: Sequence[float]) -> tuple[float, ...]:
    """The values, rising; of very many a random part, which p-values can be made of as well."""
    chosen = np.random.default_rng(0).permutation(len(values))[:_MOST_KEPT]
    return tuple(np.sort(np.array(values)[chosen]).round(4).tolist())


def _group(claims: int) -> int:
    """An answer of one claim is not as unsure as the least sure of ten: answers are compared with those like them."""
    return next(index for index, most in enumerate(_GROUPS) if claims <= most)


class Domain(Frozen):
    """Pictures like those that a calibration was fitted on.

    Attributes:
        appearance: of the pooled vision features.
        recognition: of how surely they are recognised; None where the model does not show it.
        surety: of how sure the model is of claims about them; None where claims were not verified.
    """

    appearance: Cloud
    recognition: Cloud | None
    surety: Surety | None = None

    @classmethod
    def fit(
        cls,
        features: Floats,
        *,
        recognition: int,
        answers: Sequence[tuple[Sequence[int], Floats]] = (),
        seed: int = 0,
    ) -> Domain:
        """Fit on pictures; arguments and errors as of `Cloud.fit`.

        Args:
            features: ``[n, D + recognition]`` of pictures.
            recognition: how many of the last columns say how surely they are recognised.
            answers: of each answer which of the pictures it is about, and the verified log-odds of its claims.
            seed: of the choice of the pictures held out.
        """
        looks, sure = features[:, : features.shape[1] - recognition], features[:, features.shape[1] - recognition :]
        if not (recognition > 0 and bool(np.isfinite(sure).all())):
            return cls(appearance=Cloud.fit(looks, seed=seed), recognition=None)
        recognised = Cloud.fit(sure, seed=seed)
        hidden = set(held_out_rows(len(features), seed=seed).tolist())
        values = np.array(recognised.p_values(sure))
        fresh = [(rows, odds) for rows, odds in answers if set(rows) <= hidden]
        surety = Surety.fit([odds for _, odds in fresh], [values[list(rows)] for rows, _ in fresh])
        return cls(appearance=Cloud.fit(looks, seed=seed), recognition=recognised, surety=surety)

    def p_values(self, features: Floats, odds: Floats | None = None) -> list[float]:
        """P-value of each picture ``[n, D + recognition]``, at most 1.

        Of the p-values of appearance and recognition the lesser, twice; where it is known how sure the model is of the
        claims about the picture, that is joined with recognition, and appearance gets a fifth of the level.

        Args:
            features: of the pictures of a prompt.
            odds: verified log-odds of the claims of the answer, NaN where there are none.

        Raises:
            CalibrationMismatchError: if they have another number of features.
        """
        looks = self.appearance.p_values(features[:, : self.appearance.size])
        if self.recognition is None:
            return looks
        sure = self.recognition.p_values(features[:, self.appearance.size :])
        values: list[float] = []
        for look, recognised in zip(looks, sure, strict=True):
            joined = self.surety.p_value(odds, recognised) if self.surety is not None and odds is not None else None
            value = 2.0 * min(look, recognised) if joined is None else min(look / _LOOKS, joined / (1.0 - _LOOKS))
            values.append(min(1.0, value))
        return values

    def looks_unlike(self, features: Floats, level: float) -> bool:
        """Whether a picture is refused for what it shows alone, however sure the model is of the claims about it.

        Args:
            features: ``[D + recognition]`` of the picture.
            level: the p-value below which it is refused.
        """
        return min(self.p_values(features[None])) < level


def _text(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


@lru_cache(maxsize=16)  # The same few texts are read for every answer that is judged.
def _numbers(text: str) -> Floats:
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float64)
    except ValueError as error:
        msg = f"the numbers of a domain are damaged: {error}"
        raise ValueError(msg) from error
    values.flags.writeable = False
    return values
